//! A model folder and photos → verdicts and heatmaps.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::Detection;
use dinomaly_core::maps::heatmap::{overlay, range_around};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;

use super::detect::PhotoDetector;
use super::{Looking, Place};
use crate::dataset::check::Colours;
use crate::dataset::{PHOTO_ENDINGS, few, left_out, photos};
use crate::model_dir;
use crate::system::atomic::write_file;

/// Photos to look at, and the model that does.
#[derive(Clone, Debug)]
pub struct DetectionPlan {
    /// Folder of the model.
    pub model: PathBuf,
    /// Photos, or folders of photos.
    pub photos: Vec<PathBuf>,
    /// Product class whose threshold decides; that of all classes together if omitted.
    pub class: Option<String>,
    /// Where the photos are looked at.
    pub place: Place,
}

impl DetectionPlan {
    /// By the threshold of all classes together, on the processor.
    pub fn new(model: impl Into<PathBuf>, photos: Vec<PathBuf>) -> Self {
        Self { model: model.into(), photos, class: None, place: Place::default() }
    }
}

/// What a model says of a photo.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Place among the photos.
    pub index: usize,
    /// The photo's file.
    pub path: PathBuf,
    /// The photo.
    pub photo: Photo,
    /// Score and map.
    pub detection: Detection,
    /// Score above which a photo is called defective.
    pub threshold: f32,
    /// 0 for a usual good part of the class, 1 at the threshold.
    pub normalised: f32,
}

/// Looks at photos, and hands the verdict on each to `each`, in order, or why it cannot be read.
///
/// # Errors
/// An unusable model or class, a folder with no photos, a device that fails, or what `each` refuses.
pub fn detect(plan: &DetectionPlan, each: impl FnMut(Result<Verdict>) -> Result<()>) -> Result<()> {
    let paths = list(&plan.photos)?;
    let model = model_dir::read(&plan.model)?;
    if let Some(class) = plan.class.as_ref().filter(|class| !model.calibration.classes.contains_key(*class)) {
        let known: Vec<_> = model.calibration.classes.keys().cloned().collect();
        bail!("model {} has no class {class}: it knows {}", plan.model.display(), known.join(", "));
    }
    if plan.class.is_none() && model.calibration.classes.len() > 1 {
        let known: Vec<_> = model.calibration.classes.keys().cloned().collect();
        eprintln!("dinomaly: without --class the threshold of all classes together decides: name {}", few(&known));
    }
    let class = plan.class.as_deref();
    match plan.place.open(&model)? {
        Looking::Processor(detector) => look(&paths, class, &model, &detector, each),
        Looking::Gpu(detector) => look(&paths, class, &model, &detector, each),
        Looking::Cuda(detector) => look(&paths, class, &model, &detector, each),
    }
}

fn look<O: Read>(
    paths: &[PathBuf],
    class: Option<&str>,
    model: &Model,
    detector: &PhotoDetector<O>,
    mut each: impl FnMut(Result<Verdict>) -> Result<()>,
) -> Result<()> {
    let calibration = model.calibration.of_class(class);
    detector.detect(paths, |index, result| {
        each(result.map(|(photo, detection)| Verdict {
            index,
            path: paths[index].clone(),
            photo,
            threshold: calibration.threshold,
            normalised: calibration.normalised(detection.score),
            detection,
        }))
    })
}

/// Sides below and beyond which a photo that is squashed to a square shows nothing any more, in pixels and as a ratio.
const SMALLEST_SIDE: u32 = 16;
const LONGEST_SIDES: u32 = 10;

impl Verdict {
    /// The image score.
    pub fn score(&self) -> f32 {
        self.detection.score
    }

    /// Whether the score exceeds the threshold.
    pub fn is_defective(&self) -> bool {
        self.score() > self.threshold
    }

    /// Why a verdict on a photo means little although it can be read.
    pub fn doubt(&self) -> Option<&'static str> {
        let photo = &self.photo;
        let (short, long) = (photo.width.min(photo.height), photo.width.max(photo.height));
        if short < SMALLEST_SIDE || long / short > LONGEST_SIDES {
            return Some("that are tiny or very long");
        }
        let colours = Colours::of(&std::fs::read(&self.path).ok()?)?.1;
        (colours == Colours::Grey16).then_some("in 16-bit grey, whose values above 255 are clipped")
    }

    /// Writes the photo with its heatmap, of this opacity, as `NNN_NAME.png`: photos of different folders may share a name.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_heatmap(&self, folder: &Path, opacity: f32) -> Result<()> {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let file = folder.join(format!("{:03}_{stem}.png", self.index));
        let (photo, region) = (&self.photo, self.detection.region);
        let rgb = overlay(
            &photo.rgb,
            photo.width as usize,
            photo.height as usize,
            &self.detection.map,
            (region.x0, region.y0, region.x1, region.y1),
            range_around(self.threshold),
            opacity,
        )?;
        let image =
            image::RgbImage::from_raw(photo.width, photo.height, rgb).context("an overlay of the photo's size")?;
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png)?;
        write_file(&file, png.get_ref())
    }
}

/// The photos named, and those directly inside the folders named.
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
