//! `dinomaly detect`: a model and photos → scores, verdicts, regions and heatmaps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::options::{LookOption, RegionOption, within};
use crate::dataset::few;
use crate::inference::{self, DetectionPlan, Row, Submission};
use crate::system::atomic::check_file;
use crate::system::output;

/// Arguments of `dinomaly detect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Photos, or folders of photos
    #[arg(required = true)]
    photos: Vec<PathBuf>,
    /// Product class whose threshold applies [default: the one that each photo is nearest to]
    #[arg(long)]
    class: Option<String>,
    /// Folder to write each photo with its heatmap to, as PNG
    #[arg(long, value_name = "DIR")]
    heatmaps: Option<PathBuf>,
    /// Opacity of the heatmap, 0..1
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true, value_parser = within(0_f32, 1.0))]
    opacity: f32,
    #[command(flatten)]
    regions: RegionOption,
    /// What counts of each photo: a picture of its size, white there, or a polygon [[x, y], …] in pixels, as JSON
    #[arg(long, value_name = "FILE")]
    only: Option<PathBuf>,
    /// What does not count, likewise
    #[arg(long, value_name = "FILE")]
    ignore: Option<PathBuf>,
    /// File that keeps the last scores of a line, to say when they move away from those of its calibration
    #[arg(long, value_name = "FILE")]
    drift: Option<PathBuf>,
    /// Folder to write maps and regions to, as MVTec AD 2's server takes them: photos of CLASS/test_private or CLASS/test_private_mixed
    #[arg(long, value_name = "DIR")]
    submission: Option<PathBuf>,
    /// Print JSON instead of CSV
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: LookOption,
}

/// Prints a row for each photo as soon as it is done. Unreadable photos are named on standard error; the command processes the
/// others and fails at the end.
///
/// # Errors
/// As [`inference::detect()`], or if the folder cannot be written or a photo cannot be read.
pub fn run(args: &Args) -> Result<()> {
    if let Some(folder) = &args.heatmaps {
        check_file(&folder.join("photo.png"))?;
    }
    let submission = args.submission.as_deref().map(Submission::new).transpose()?;
    let plan = DetectionPlan {
        model: args.model.clone(),
        photos: args.photos.clone(),
        class: args.class.clone(),
        heatmaps: args.heatmaps.clone(),
        only: args.only.clone(),
        ignore: args.ignore.clone(),
        drift: args.drift.clone(),
        regions: args.regions.plan(),
        place: args.device.place(),
    };
    let mut headed = true;
    let mut rows = Vec::new();
    let (mut count, mut unreadable) = (0, 0);
    let (mut drift, mut unknown) = (None, Vec::new());
    let mut doubtful: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    inference::detect(&plan, |result| {
        count += 1;
        let verdict = match result {
            Ok(verdict) => verdict,
            Err(error) => {
                eprintln!("dinomaly: {error:#}");
                unreadable += 1;
                return Ok(());
            }
        };
        if let Some(doubt) = verdict.doubt() {
            doubtful.entry(doubt).or_default().push(verdict.path.display().to_string());
        }
        if verdict.is_unknown() {
            unknown.push(verdict.path.display().to_string());
        }
        if let Some(folder) = &args.heatmaps {
            verdict.write_heatmap(folder, args.opacity)?;
        }
        if let Some(submission) = &submission {
            submission.write(&verdict, args.regions.pixel_threshold)?;
        }
        drift = verdict.drift.or(drift);
        let row = Row::from(&verdict);
        if args.json {
            rows.push(row);
        } else {
            output::print_data(&row.csv(std::mem::take(&mut headed))?);
            output::check()?;
        }
        Ok(())
    })?;
    if args.json {
        output::print_data(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    for (doubt, photos) in doubtful {
        eprintln!("dinomaly: verdicts are unreliable for photos {doubt}: {}", few(&photos));
    }
    if !unknown.is_empty() {
        eprintln!("dinomaly: unlike anything that the model knows, so that scores say nothing: {}", few(&unknown));
    }
    if let Some(drift) = drift {
        eprintln!("dinomaly: {drift}");
    }
    if unreadable > 0 {
        bail!("{unreadable} of {count} photos could not be read");
    }
    Ok(())
}
