//! `dinomaly detect`: a model and photos → scores, verdicts and heatmaps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::options::{LookOption, within};
use crate::dataset::few;
use crate::inference::{self, DetectionPlan};
use crate::system::atomic::check_file;
use crate::system::output;

/// Arguments of `dinomaly detect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
    /// Photos, or folders of photos
    #[arg(required = true)]
    photos: Vec<PathBuf>,
    /// Product class whose threshold applies [default: that of all classes together]
    #[arg(long)]
    class: Option<String>,
    /// Folder to write each photo with its heatmap to, as PNG
    #[arg(long, value_name = "DIR")]
    heatmaps: Option<PathBuf>,
    /// Opacity of the heatmap, 0..1
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true, value_parser = within(0_f32, 1.0))]
    opacity: f32,
    /// Print JSON instead of CSV
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: LookOption,
}

/// One line of the output.
#[derive(Serialize)]
struct Row {
    photo: String,
    score: f32,
    threshold: f32,
    /// 0 for a typical good part of the class, 1 at the threshold.
    normalised: f32,
    defective: bool,
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
    let plan = DetectionPlan {
        model: args.model.clone(),
        photos: args.photos.clone(),
        class: args.class.clone(),
        heatmaps: args.heatmaps.clone(),
        place: args.device.place(),
    };
    let mut headed = true;
    let mut rows = Vec::new();
    let (mut count, mut unreadable) = (0, 0);
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
        let photo = verdict.path.display().to_string();
        if let Some(doubt) = verdict.doubt() {
            doubtful.entry(doubt).or_default().push(photo.clone());
        }
        if let Some(folder) = &args.heatmaps {
            verdict.write_heatmap(folder, args.opacity)?;
        }
        let row = Row {
            photo,
            score: verdict.score(),
            threshold: verdict.threshold,
            normalised: verdict.normalised,
            defective: verdict.is_defective(),
        };
        if args.json {
            rows.push(row);
        } else {
            output::print_data(&csv_line(&row, std::mem::take(&mut headed))?);
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
    if unreadable > 0 {
        bail!("{unreadable} of {count} photos could not be read");
    }
    Ok(())
}

/// A row as CSV, with the column names above it if `headed`.
fn csv_line(row: &Row, headed: bool) -> Result<String> {
    let mut csv = csv::WriterBuilder::new().has_headers(headed).from_writer(Vec::new());
    csv.serialize(row)?;
    Ok(String::from_utf8(csv.into_inner()?)?)
}
