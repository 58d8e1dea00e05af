//! Detection → judgement: which thresholds apply to a photo, and what exceeds them.

use std::path::Path;

use anyhow::{Result, bail};
use dinomaly_core::bundle::{Calibration, ClassCalibration};
use dinomaly_core::detector::Detection;
use dinomaly_core::maps::defects::Defect;

use crate::dataset::few;

/// How the detections of a model are judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judging {
    /// Product class whose threshold applies. If omitted, that of the class that each photo is nearest to or, of a model that does not tell
    /// products, that of all classes together.
    pub class: Option<String>,
    /// Which regions to find; none if omitted.
    pub regions: Option<RegionPlan>,
}

/// Which regions of photos to find.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RegionPlan {
    /// Value of the map above which a pixel belongs to a region; the model's if omitted.
    pub pixel_threshold: Option<f32>,
    /// Least area, in pixels of the photo.
    pub min_area: f64,
}

/// The regions of a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRegions {
    /// Value above which a pixel belongs to a region.
    pub pixel_threshold: f32,
    /// The regions, highest peak first.
    pub regions: Vec<Defect>,
}

/// The product that a photo shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    /// Class whose good photos are nearest to the photo.
    pub nearest: String,
    /// Whether the photo is unlike anything that the model knows.
    pub unknown: bool,
}

/// What a model's thresholds say about a detection.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The image score.
    pub score: f32,
    /// The class that the photo is nearest to, and whether it is unlike all of them; `None` if the model does not tell products.
    pub product: Option<Product>,
    /// Score above which a photo is defective.
    pub threshold: f32,
    /// 0 for a typical good part of the class, 1 at the threshold.
    pub normalised: f32,
    /// Value of the map above which a pixel belongs to a region, if the model has one for the photo.
    pub pixel_threshold: Option<f32>,
    /// The regions, if they were asked for.
    pub regions: Option<FoundRegions>,
}

impl Judgement {
    /// Whether the photo is unlike anything that the model knows. Its score then says nothing.
    pub fn is_unknown(&self) -> bool {
        self.product.as_ref().is_some_and(|product| product.unknown)
    }

    /// Whether the score exceeds the threshold.
    pub fn is_defective(&self) -> bool {
        self.score > self.threshold
    }

    /// `good`, `defective` or `unknown`.
    pub fn word(&self) -> &'static str {
        match (self.is_unknown(), self.is_defective()) {
            (true, _) => "unknown",
            (false, true) => "defective",
            (false, false) => "good",
        }
    }
}

impl Judging {
    /// Checks that a model has what is asked for; `model` is its folder.
    ///
    /// # Errors
    /// If it has no such class, or no pixel threshold although regions are to be found by it.
    pub fn check(&self, model: &Path, calibration: &Calibration) -> Result<()> {
        let Calibration { classes, overall, .. } = calibration;
        let lacks = |class: &ClassCalibration| class.pixel_threshold.is_none();
        let any_lacks = match &self.class {
            Some(class) => match classes.get(class) {
                Some(class) => lacks(class),
                None => {
                    let known: Vec<_> = classes.keys().cloned().collect();
                    bail!("model {} has no class {class}: it has {}", model.display(), known.join(", "))
                }
            },
            None if calibration.tells_products() => classes.values().any(lacks),
            None => lacks(overall),
        };
        if any_lacks && self.regions.is_some_and(|regions| regions.pixel_threshold.is_none()) {
            let of = self.class.as_ref().map(|class| format!(" for class {class}")).unwrap_or_default();
            bail!(
                "model {} has no pixel threshold{of}: set it from photos of good parts with dinomaly calibrate, or give \
                 --pixel-threshold",
                model.display()
            );
        }
        Ok(())
    }

    /// Says on standard error which threshold applies, if a model has several and none is chosen.
    pub(crate) fn say_what_applies(&self, calibration: &Calibration) {
        if self.class.is_none() && calibration.classes.len() > 1 {
            let known: Vec<_> = calibration.classes.keys().cloned().collect();
            let applies = if calibration.tells_products() {
                "the threshold of the class that each photo is nearest to"
            } else {
                "the threshold of all classes together"
            };
            eprintln!("dinomaly: {applies} applies: choose one with --class ({})", few(&known));
        }
    }

    /// The judgement on a detection of a model with this calibration.
    ///
    /// # Errors
    /// If the detection is of another model.
    pub fn judge(&self, calibration: &Calibration, detection: &Detection) -> Result<Judgement> {
        let recognised = calibration.recognise(&detection.descriptor)?;
        let product = recognised.map(|found| Product { nearest: found.nearest.into(), unknown: found.unknown });
        let nearest = product.as_ref().map(|product| product.nearest.as_str());
        let calibration = calibration.of_class(self.class.as_deref().or(nearest));
        let regions = self.regions.and_then(|RegionPlan { pixel_threshold, min_area }| {
            let pixel_threshold = pixel_threshold.or(calibration.pixel_threshold)?;
            Some(FoundRegions { pixel_threshold, regions: detection.defects(pixel_threshold, min_area) })
        });
        Ok(Judgement {
            score: detection.score,
            threshold: calibration.threshold,
            normalised: calibration.normalised(detection.score),
            pixel_threshold: calibration.pixel_threshold,
            regions,
            product,
        })
    }
}
