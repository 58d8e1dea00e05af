//! What good photos look like as a whole, by class: which product a photo shows, and whether it shows none of them.

use serde::{Deserialize, Serialize};

use super::{Calibration, ClassCalibration};
use crate::{Error, Result};

/// Distribution of the descriptors of a class's good photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescriptorStatistics {
    /// Mean descriptor.
    #[serde(with = "rounded")]
    pub centre: Vec<f32>,
    /// Directions in which good photos differ most, row by row: unit vectors `[directions, width]`, perhaps none.
    #[serde(with = "rounded")]
    pub directions: Vec<f32>,
    /// Distance beyond which a photo does not show this class.
    pub limit: f32,
}

/// The product that a photo shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recognised<'a> {
    /// Class whose good photos are nearest to the photo, in units of their limits.
    pub nearest: &'a str,
    /// Whether the photo lies beyond the limit of every class: it is unlike anything that the model knows.
    pub unknown: bool,
}

impl DescriptorStatistics {
    /// The same in the precision of a file.
    pub fn new(centre: &[f32], directions: &[f32], limit: f32) -> Self {
        Self { centre: rounded::as_stored(centre), directions: rounded::as_stored(directions), limit }
    }

    /// Squared distance of a descriptor to the centre, but for what lies along the directions.
    ///
    /// # Errors
    /// [`Error::Shape`] if the descriptor is of another encoder.
    pub fn distance(&self, descriptor: &[f32]) -> Result<f64> {
        let width = self.centre.len();
        if descriptor.len() != width {
            let (expected, found) = (vec![width], vec![descriptor.len()]);
            return Err(Error::Shape { name: "descriptor".into(), expected, found });
        }
        let off: Vec<f64> = descriptor.iter().zip(&self.centre).map(|(&v, &c)| f64::from(v) - f64::from(c)).collect();
        let along = |direction: &[f32]| off.iter().zip(direction).map(|(off, &d)| off * f64::from(d)).sum::<f64>();
        let explained: f64 = self.directions.chunks_exact(width).map(|direction| along(direction).powi(2)).sum();
        Ok((off.iter().map(|off| off * off).sum::<f64>() - explained).max(0.0))
    }

    /// Checks that it is of descriptors, and that all numbers are finite.
    ///
    /// # Errors
    /// [`Error::Config`] naming the wrong number.
    pub(super) fn validate(&self) -> Result<()> {
        let Self { centre, directions, limit } = self;
        if centre.is_empty() || !directions.len().is_multiple_of(centre.len()) {
            let (centre, directions) = (centre.len(), directions.len());
            return Err(Error::config(format!("directions of {directions} values do not fit a centre of {centre}")));
        }
        if let Some(value) = centre.iter().chain(directions).find(|value| !value.is_finite()) {
            return Err(Error::config(format!("its descriptors hold {value}, not a finite number")));
        }
        if !(limit.is_finite() && *limit > 0.0) {
            return Err(Error::config(format!("limit = {limit} of its descriptors is no positive number")));
        }
        Ok(())
    }
}

impl Calibration {
    /// Whether the model tells photos of other products: every class has the descriptors of its good photos.
    pub fn tells_products(&self) -> bool {
        self.classes.values().all(|class| class.good_descriptors.is_some())
    }

    /// The product that a photo of this descriptor shows; `None` if the model does not tell products, as of earlier versions.
    ///
    /// # Errors
    /// [`Error::Shape`] if the descriptor is of another encoder.
    pub fn recognise(&self, descriptor: &[f32]) -> Result<Option<Recognised<'_>>> {
        if !self.tells_products() {
            return Ok(None);
        }
        let mut nearest: Option<(f64, &str)> = None;
        for (name, ClassCalibration { good_descriptors, .. }) in &self.classes {
            let Some(good) = good_descriptors else { return Ok(None) };
            let distance = good.distance(descriptor)? / f64::from(good.limit);
            if nearest.is_none_or(|(least, _)| distance < least) {
                nearest = Some((distance, name));
            }
        }
        Ok(nearest.map(|(distance, nearest)| Recognised { nearest, unknown: distance > 1.0 }))
    }

    /// Checks that descriptors are rows of an encoder of this width.
    ///
    /// # Errors
    /// [`Error::Config`] naming the class.
    pub(super) fn check_descriptors(&self, width: usize) -> Result<()> {
        let of = |class: &ClassCalibration| class.good_descriptors.as_ref().map(|good| good.centre.len());
        match self.classes.iter().find_map(|(name, class)| Some((name, of(class).filter(|&found| found != width)?))) {
            None => Ok(()),
            Some((name, found)) => Err(Error::config(format!(
                "class {name}: its descriptors have {found} values, those of the encoder have {width}"
            ))),
        }
    }
}

/// Values of unit vectors as one text of whole ten-thousandths: a line of a file for people in place of a thousand.
mod rounded {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const UNIT: f32 = 1e4;

    pub(super) fn as_stored(values: &[f32]) -> Vec<f32> {
        values.iter().map(|value| (value * UNIT).round() / UNIT).collect()
    }

    pub(super) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let words: Vec<String> = values.iter().map(|value| format!("{}", (value * UNIT).round() as i32)).collect();
        serializer.serialize_str(&words.join(" "))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = |word: &str| -> Result<f32, D::Error> {
            let whole: i32 = word.parse().map_err(|_| D::Error::custom(format!("{word:?} is no whole number")))?;
            Ok(whole as f32 / UNIT)
        };
        text.split_whitespace().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ScoreStatistics;
    use super::*;

    fn statistics(centre: &[f32], directions: &[f32], limit: f32) -> DescriptorStatistics {
        DescriptorStatistics { centre: centre.to_vec(), directions: directions.to_vec(), limit }
    }

    fn calibration(classes: [(&str, Option<DescriptorStatistics>); 2]) -> Calibration {
        let class = |good_descriptors| ClassCalibration {
            threshold: 0.5,
            pixel_threshold: None,
            good_scores: ScoreStatistics::of(&[0.1]).unwrap(),
            good_descriptors,
        };
        Calibration {
            classes: classes.map(|(name, good)| (name.to_owned(), class(good))).into(),
            overall: class(None),
            held_out: true,
            false_alarm_rate: 0.01,
        }
    }

    #[test]
    fn a_photo_shows_the_nearest_class_or_none() {
        // Nuts differ along the first axis.
        let nut = statistics(&[0.0, 0.0], &[1.0, 0.0], 0.04);
        let bolt = statistics(&[0.0, 1.0], &[], 0.01);
        let known = calibration([("bolt", Some(bolt)), ("nut", Some(nut.clone()))]);
        known.validate().unwrap();
        let of = |descriptor: [f32; 2]| known.recognise(&descriptor).unwrap().unwrap();
        assert_eq!(of([5.0, 0.19]), Recognised { nearest: "nut", unknown: false });
        assert_eq!(of([5.0, 0.21]), Recognised { nearest: "nut", unknown: true });
        assert_eq!(of([0.09, 1.0]), Recognised { nearest: "bolt", unknown: false });
        assert_eq!(of([0.11, 1.0]), Recognised { nearest: "bolt", unknown: true });
        // Nearer to nuts, but further beyond their limit.
        assert_eq!(of([0.0, 0.7]), Recognised { nearest: "bolt", unknown: true });
        assert!(known.recognise(&[0.0; 3]).unwrap_err().to_string().contains("expected shape [2], found [3]"));
        // A photo of the other class would be called unknown.
        assert_eq!(calibration([("bolt", None), ("nut", Some(nut))]).recognise(&[0.0, 0.0]).unwrap(), None);
    }

    #[test]
    fn rows_are_a_line_of_text_and_come_back() {
        let good = statistics(&[0.25, -0.0625], &[0.6, -0.8, 0.0, 1.0], 0.02);
        let json = serde_json::to_string(&good).unwrap();
        assert!(json.starts_with(r#"{"centre":"2500 -625","directions":"6000 -8000 0 10000","limit":0.02"#), "{json}");
        assert_eq!(serde_json::from_str::<DescriptorStatistics>(&json).unwrap(), good);
        let none = statistics(&[1.0], &[], 0.02);
        let json = serde_json::to_string(&none).unwrap();
        assert_eq!(serde_json::from_str::<DescriptorStatistics>(&json).unwrap(), none);
        let wrong = json.replace("10000", "1e4");
        let error = serde_json::from_str::<DescriptorStatistics>(&wrong).unwrap_err().to_string();
        assert!(error.contains(r#""1e4" is no whole number"#), "{error}");
    }

    #[test]
    fn descriptors_that_are_none_are_refused_by_class() {
        for (expected, good) in [
            ("directions of 3 values do not fit a centre of 2", statistics(&[0.0, 0.0], &[1.0, 0.0, 1.0], 0.1)),
            ("directions of 0 values do not fit a centre of 0", statistics(&[], &[], 0.1)),
            ("hold NaN", statistics(&[f32::NAN], &[], 0.1)),
            ("hold inf", statistics(&[0.0], &[f32::INFINITY], 0.1)),
            ("limit = 0", statistics(&[0.0], &[], 0.0)),
            ("limit = NaN", statistics(&[0.0], &[], f32::NAN)),
        ] {
            let error = calibration([("bolt", None), ("nut", Some(good))]).validate().unwrap_err().to_string();
            assert!(error.contains("class nut") && error.contains(expected), "{error}");
        }
        let wide = calibration([("bolt", None), ("nut", Some(statistics(&[0.0, 0.0], &[], 0.1)))]);
        wide.check_descriptors(2).unwrap();
        let error = wide.check_descriptors(3).unwrap_err().to_string();
        assert!(error.contains("class nut: its descriptors have 2 values, those of the encoder have 3"), "{error}");
    }
}
