//! A model folder and photos → verdicts, regions and heatmaps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::Detection;
use dinomaly_core::maps::heatmap::{overlay, range_around};
use dinomaly_core::maps::outline;
use dinomaly_core::maps::scope::{Area, Scope};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;

use super::drift::{Drift, DriftFile};
use super::judging::{Judgement, Judging, RegionPlan};
use super::photo_detector::PhotoDetector;
use super::{AnyDetector, DetectorDevice};
use crate::dataset::check::Colours;
use crate::dataset::{PHOTO_ENDINGS, left_out, photos, without_masks};
use crate::model_dir;
use crate::system::atomic::write_file;

/// The photos and the model of a detection.
#[derive(Clone, Debug)]
pub struct DetectionPlan {
    /// Folder of the model.
    pub model: PathBuf,
    /// Photos, or folders of photos.
    pub photos: Vec<PathBuf>,
    /// Product class whose threshold applies. If omitted, that of the class that each photo is nearest to or, of a model that does not tell
    /// products, that of all classes together.
    pub class: Option<String>,
    /// Folder that heatmaps will be written to, to be checked before the work.
    pub heatmaps: Option<PathBuf>,
    /// Mask or polygon of what counts of each photo; all of it if omitted.
    pub only: Option<PathBuf>,
    /// Mask or polygon of what does not count.
    pub ignore: Option<PathBuf>,
    /// File of the line's recent scores, to be told of drift.
    pub drift: Option<PathBuf>,
    /// Which regions to find; none if omitted.
    pub regions: Option<RegionPlan>,
    /// The device and precision of the detector.
    pub place: DetectorDevice,
}

impl DetectionPlan {
    /// Detection without a given class, on the processor.
    pub fn new(model: impl Into<PathBuf>, photos: Vec<PathBuf>) -> Self {
        Self {
            model: model.into(),
            photos,
            class: None,
            heatmaps: None,
            only: None,
            ignore: None,
            drift: None,
            regions: None,
            place: DetectorDevice::default(),
        }
    }
}

/// The verdict of a model on a photo.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Position in the list of photos.
    pub index: usize,
    /// The photo's file.
    pub path: PathBuf,
    /// The photo.
    pub photo: Photo,
    /// Score and anomaly map.
    pub detection: Detection,
    /// Whether values of 16-bit grey above 255 are white: the model has no window for them.
    pub clipped: bool,
    /// What the model's thresholds say.
    pub judgement: Judgement,
    /// Share of the map that counts, if only a part of the photo does. The map is 0 elsewhere.
    pub counted: Option<f64>,
    /// How far the line's recent scores are from its calibration, this photo's included, if it was asked for.
    pub drift: Option<Drift>,
}

/// Runs the model on the photos and calls `each` in their order, with the verdict or the error of an unreadable photo.
///
/// # Errors
/// If the model or class is unusable or has no pixel threshold, a folder has no photos, the device fails, or `each` returns an error.
pub fn detect(plan: &DetectionPlan, each: impl FnMut(Result<Verdict>) -> Result<()>) -> Result<()> {
    let paths = list(&plan.photos)?;
    plan.heatmaps.as_ref().map_or(Ok(()), |folder| check_heatmaps(folder, &paths))?;
    let model = model_dir::read(&plan.model)?;
    let judging = Judging { class: plan.class.clone(), regions: plan.regions };
    judging.check(&plan.model, &model.calibration)?;
    judging.say_what_applies(&model.calibration);
    let settings = Settings::of(plan, &model, judging)?;
    if !settings.scope.is_whole() {
        eprintln!(
            "dinomaly: scores are of a part of each photo, thresholds of whole ones: how many good photos exceed them is not known"
        );
    }
    match plan.place.open(&model)? {
        AnyDetector::Processor(detector) => look(&paths, &settings, &detector, each),
        AnyDetector::Gpu(detector) => look(&paths, &settings, &detector, each),
        AnyDetector::Cuda(detector) => look(&paths, &settings, &detector, each),
    }
}

/// What turns detections into verdicts.
struct Settings<'a> {
    model: &'a Model,
    judging: Judging,
    scope: Scope,
    plan: &'a DetectionPlan,
}

impl<'a> Settings<'a> {
    fn of(plan: &'a DetectionPlan, model: &'a Model, judging: Judging) -> Result<Self> {
        let area = |path: &PathBuf| -> Result<Area> {
            let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(Area::read(&path.display().to_string(), &bytes)?)
        };
        let scope = Scope {
            only: plan.only.as_ref().map(area).transpose()?,
            ignore: plan.ignore.as_ref().map(area).transpose()?,
        };
        if plan.drift.is_some() && !scope.is_whole() {
            bail!("--drift compares with scores of whole photos: leave out --only and --ignore");
        }
        Ok(Self { model, judging, scope, plan })
    }

    /// What counts of a detection, and its share if that is not all.
    fn scoped<O: Read>(
        &self,
        detector: &PhotoDetector<O>,
        photo: &Photo,
        detection: Detection,
    ) -> Result<(Detection, Option<f64>)> {
        if self.scope.is_whole() {
            return Ok((detection, None));
        }
        let (detection, counted) = detector.detector().preparation().within(&self.scope, photo, detection)?;
        Ok((detection, Some(counted)))
    }
}

fn look<O: Read>(
    paths: &[PathBuf],
    settings: &Settings<'_>,
    detector: &PhotoDetector<O>,
    mut each: impl FnMut(Result<Verdict>) -> Result<()>,
) -> Result<()> {
    let Settings { model, judging, plan, .. } = settings;
    let open = |path: &PathBuf| DriftFile::open(path, model, plan.class.as_deref());
    let mut drift = plan.drift.as_ref().map(open).transpose()?;
    detector.detect(paths, |index, result| {
        let verdict = result.and_then(|(photo, detection)| {
            let (detection, counted) = settings
                .scoped(detector, &photo, detection)
                .with_context(|| format!("photo {} cannot be judged", paths[index].display()))?;
            let judgement = judging.judge(&model.calibration, &detection)?;
            Ok(Verdict {
                index,
                path: paths[index].clone(),
                photo,
                clipped: model.preprocessor.window.is_none(),
                counted,
                drift: drift.as_mut().map(|drift| drift.add(detection.score)),
                judgement,
                detection,
            })
        });
        each(verdict)
    })?;
    drift.map_or(Ok(()), DriftFile::write)
}

/// Shortest side in pixels, and largest ratio of the sides, at which a photo still shows something after resizing to a square.
const SMALLEST_SIDE: u32 = 16;
const LONGEST_SIDES: u32 = 10;

/// Which photos' verdicts are unreliable: the end of a sentence.
pub(crate) const ODD: &str = "that are tiny or very long";
pub(crate) const CLIPPED: &str = "in 16-bit grey, whose values above 255 are clipped";

/// Whether little of a photo is left when it is resized to a square.
pub(crate) fn is_odd(photo: &Photo) -> bool {
    let (short, long) = (photo.width.min(photo.height), photo.width.max(photo.height));
    short < SMALLEST_SIDE || long / short > LONGEST_SIDES
}

impl Verdict {
    /// The image score.
    pub fn score(&self) -> f32 {
        self.judgement.score
    }

    /// Whether the photo is unlike anything that the model knows. Its score then says nothing.
    pub fn is_unknown(&self) -> bool {
        self.judgement.is_unknown()
    }

    /// Whether the score exceeds the threshold.
    pub fn is_defective(&self) -> bool {
        self.judgement.is_defective()
    }

    /// Why the verdict on a readable photo is unreliable, if it is.
    pub fn doubt(&self) -> Option<&'static str> {
        if is_odd(&self.photo) {
            return Some(ODD);
        }
        let is_grey16 = || Some(Colours::of(&std::fs::read(&self.path).ok()?)?.1 == Colours::Grey16);
        (self.clipped && is_grey16()?).then_some(CLIPPED)
    }

    /// Writes the photo with its heatmap, and the outlines of its regions if there are some, as `NNN_NAME.png`. The number is needed because photos of different folders may share a
    /// name. A name that leaves no room for it is shortened.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_heatmap(&self, folder: &Path, opacity: f32) -> Result<()> {
        let file = folder.join(heatmap_name(self.index, &self.path));
        let (photo, region) = (&self.photo, self.detection.region);
        let mut rgb = overlay(
            &photo.rgb,
            photo.width as usize,
            photo.height as usize,
            &self.detection.map,
            (region.x0, region.y0, region.x1, region.y1),
            range_around(self.judgement.threshold),
            opacity,
        )?;
        for region in self.judgement.regions.iter().flat_map(|found| &found.regions) {
            let (width, height) = (photo.width as usize, photo.height as usize);
            outline::draw(&mut rgb, width, height, &region.outline, outline::COLOUR);
        }
        let image =
            image::RgbImage::from_raw(photo.width, photo.height, rgb).context("an overlay of the photo's size")?;
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png)?;
        write_file(&file, png.get_ref())
    }
}

/// Longest stem of a heatmap's name in bytes: file systems allow names of 255.
const LONGEST: usize = 200;

fn heatmap_name(index: usize, photo: &Path) -> String {
    let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
    format!("{index:03}_{}.png", &stem[..stem.floor_char_boundary(LONGEST)])
}

/// Checks that no heatmap takes the place of a photo.
fn check_heatmaps(folder: &Path, photos: &[PathBuf]) -> Result<()> {
    let whole = |path: &Path| path.canonicalize().ok();
    let photos_there: BTreeSet<PathBuf> = photos.iter().filter_map(|photo| whole(photo)).collect();
    let heatmaps = photos.iter().enumerate().map(|(index, photo)| folder.join(heatmap_name(index, photo)));
    for heatmap in heatmaps {
        if whole(&heatmap).is_some_and(|heatmap| photos_there.contains(&heatmap)) {
            bail!("{} is one of the photos, a heatmap would replace it: name another folder", heatmap.display());
        }
    }
    Ok(())
}

/// Whether a path holds what shells resolve. Windows' shells leave it to the programs.
fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// The files that a pattern such as `new/*.jpg` stands for, in alphabetical order.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let shown = pattern.display();
    let options = glob::MatchOptions {
        case_sensitive: !cfg!(windows),
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&pattern.to_string_lossy(), options);
    let found = found.with_context(|| format!("{shown} is no pattern of file names"))?;
    let mut found = found.collect::<Result<Vec<_>, _>>().with_context(|| format!("{shown} cannot be looked up"))?;
    found.retain(|path| path.is_file());
    if found.is_empty() {
        bail!("no file fits {shown}");
    }
    Ok(found)
}

/// The named photos, those that patterns stand for, and the photos directly inside the named folders.
fn list(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for path in arguments {
        if path.is_dir() {
            let (found, _) = without_masks(photos(path)?);
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
        } else if path.exists() || !is_pattern(path) {
            paths.push(path.clone());
        } else {
            paths.extend(matching(path)?);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn heatmaps_have_names_that_fit_and_replace_no_photo() {
        assert_eq!(heatmap_name(7, Path::new("a/part 1.jpg")), "007_part 1.png");
        let long = heatmap_name(1234, Path::new(&format!("{}.jpg", "ü".repeat(124))));
        assert!(long.len() <= 255 && long.ends_with("ü.png"), "{long}");
        let folder = tempfile::tempdir().unwrap();
        let photos = ["x.png", "000_x.png"].map(|name| folder.path().join(name));
        photos.iter().for_each(|photo| fs::write(photo, "").unwrap());
        let error = check_heatmaps(folder.path(), &photos).unwrap_err().to_string();
        assert!(error.contains("000_x.png is one of the photos"), "{error}");
        check_heatmaps(&folder.path().join("new"), &photos).unwrap();
        check_heatmaps(folder.path(), &photos[1..]).unwrap();
    }

    #[test]
    fn patterns_are_resolved_where_the_shell_does_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.jpg", "a.jpg", "c.png", "[x].jpg"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let listed = |name: &str| list(&[folder.path().join(name)]);
        let names = |name: &str| -> Vec<String> {
            let name_of = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            listed(name).unwrap().into_iter().map(name_of).collect()
        };
        assert_eq!(names("?.jpg"), ["a.jpg", "b.jpg"]);
        assert_eq!(names("*.png"), ["c.png"]);
        assert_eq!(names("[x].jpg"), ["[x].jpg"], "a file of this name");
        assert_eq!(names("missing.jpg"), ["missing.jpg"], "its error comes with the others");
        assert!(listed("*.bmp").unwrap_err().to_string().contains("no file fits"));
    }
}
