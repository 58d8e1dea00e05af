//! `dinomaly detect`: a model and photos → scores, verdicts and heatmaps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::Detection;
use dinomaly_core::maps::heatmap::{overlay, range_around};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use serde::Serialize;

use super::options::{LookOption, Looking, within};
use crate::dataset::check::Colours;
use crate::dataset::{PHOTO_ENDINGS, few, left_out, photos};
use crate::inference::detect::PhotoDetector;
use crate::model_dir;
use crate::system::atomic::{check_file, write_file};
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
/// If the model or class is unusable, the folder cannot be written, or a photo cannot be read.
pub fn run(args: &Args) -> Result<()> {
    if let Some(folder) = &args.heatmaps {
        check_file(&folder.join("photo.png"))?;
    }
    let paths = list(&args.photos)?;
    let model = model_dir::read(&args.model)?;
    if let Some(class) = args.class.as_ref().filter(|class| !model.calibration.classes.contains_key(*class)) {
        let known: Vec<_> = model.calibration.classes.keys().cloned().collect();
        bail!("model {} has no class {class}: it has {}", args.model.display(), known.join(", "));
    }
    if args.class.is_none() && model.calibration.classes.len() > 1 {
        let known: Vec<_> = model.calibration.classes.keys().cloned().collect();
        eprintln!("dinomaly: the threshold of all classes together applies: choose one with --class ({})", few(&known));
    }
    match args.device.on(&model)? {
        Looking::Processor(detector) => look(args, &paths, &model, &detector),
        Looking::Gpu(detector) => look(args, &paths, &model, &detector),
        Looking::Cuda(detector) => look(args, &paths, &model, &detector),
    }
}

fn look<O: Read>(args: &Args, paths: &[PathBuf], model: &Model, detector: &PhotoDetector<O>) -> Result<()> {
    let calibration = model.calibration.of_class(args.class.as_deref());
    let threshold = calibration.threshold;
    let mut headed = true;
    let mut rows = Vec::new();
    let mut unreadable = 0;
    let mut doubtful: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    detector.detect(paths, |i, result| {
        let (photo, detection) = match result {
            Ok(found) => found,
            Err(error) => {
                eprintln!("dinomaly: {error:#}");
                unreadable += 1;
                return Ok(());
            }
        };
        if let Some(doubt) = doubt(&paths[i], &photo) {
            doubtful.entry(doubt).or_default().push(paths[i].display().to_string());
        }
        if let Some(folder) = &args.heatmaps {
            write_heatmap(folder, i, &paths[i], &photo, &detection, threshold, args.opacity)?;
        }
        let row = Row {
            photo: paths[i].display().to_string(),
            score: detection.score,
            threshold,
            normalised: calibration.normalised(detection.score),
            defective: detection.score > threshold,
        };
        if args.json {
            rows.push(row);
        } else {
            print!("{}", csv_line(&row, std::mem::take(&mut headed))?);
            output::check()?;
        }
        Ok(())
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    for (doubt, photos) in doubtful {
        eprintln!("dinomaly: verdicts are unreliable for photos {doubt}: {}", few(&photos));
    }
    if unreadable > 0 {
        bail!("{unreadable} of {} photos could not be read", paths.len());
    }
    Ok(())
}

/// Shortest side in pixels, and largest ratio of the sides, at which a photo still shows something after resizing to a square.
const SMALLEST_SIDE: u32 = 16;
const LONGEST_SIDES: u32 = 10;

/// Why the verdict on a readable photo is unreliable, if it is.
fn doubt(path: &Path, photo: &Photo) -> Option<&'static str> {
    let (short, long) = (photo.width.min(photo.height), photo.width.max(photo.height));
    if short < SMALLEST_SIDE || long / short > LONGEST_SIDES {
        return Some("that are tiny or very long");
    }
    let colours = Colours::of(&std::fs::read(path).ok()?)?.1;
    (colours == Colours::Grey16).then_some("in 16-bit grey, whose values above 255 are clipped")
}

/// A row as CSV, with the column names above it if `headed`.
fn csv_line(row: &Row, headed: bool) -> Result<String> {
    let mut csv = csv::WriterBuilder::new().has_headers(headed).from_writer(Vec::new());
    csv.serialize(row)?;
    Ok(String::from_utf8(csv.into_inner()?)?)
}

/// The named photos, and the photos directly inside the named folders.
fn list(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in arguments {
        if path.is_dir() {
            let found = photos(path)?;
            let left_out = left_out(path)?;
            if !left_out.is_empty() {
                let counts: Vec<String> =
                    left_out.iter().map(|(why, files)| format!("{} {why}", files.len())).collect();
                eprintln!("dinomaly: left out of {}: {}", path.display(), counts.join(", "));
            }
            if found.is_empty() {
                bail!("folder {} holds no photos ({})", path.display(), PHOTO_ENDINGS.join(", "));
            }
            paths.extend(found);
        } else {
            paths.push(path.clone());
        }
    }
    Ok(paths)
}

/// Writes `NNN_NAME.png`. The number is needed because photos of different folders may share a name.
fn write_heatmap(
    folder: &Path,
    index: usize,
    path: &Path,
    photo: &Photo,
    detection: &Detection,
    threshold: f32,
    opacity: f32,
) -> Result<()> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = folder.join(format!("{index:03}_{stem}.png"));
    let region = detection.region;
    let rgb = overlay(
        &photo.rgb,
        photo.width as usize,
        photo.height as usize,
        &detection.map,
        (region.x0, region.y0, region.x1, region.y1),
        range_around(threshold),
        opacity,
    )?;
    let image = image::RgbImage::from_raw(photo.width, photo.height, rgb).context("an overlay of the photo's size")?;
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png)?;
    write_file(&file, png.get_ref())
}
