//! Photos of 16-bit grey: which there are, and the window of values that becomes black to white.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use dinomaly_core::photo::decode::grey16;
use dinomaly_core::photo::preprocess::Preprocessor;
use dinomaly_core::photo::window::Window;
use rayon::prelude::*;

use super::check::{Colours, Examined};
use super::counted;

/// How to choose the window of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WindowChoice {
    /// From the smallest to the largest value of the training photos; none if all are below 256.
    #[default]
    Range,
    /// Without the smallest and largest thousandth of the values.
    Percentile,
    /// Given values.
    Fixed(Window),
    /// None: values above 255 are white, as in the official loader.
    Clip,
}

impl FromStr for WindowChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "range" => Self::Range,
            "percentile" => Self::Percentile,
            "clip" => Self::Clip,
            window if window.contains("..") => {
                Self::Fixed(window.parse().map_err(|e: dinomaly_core::Error| e.to_string())?)
            }
            other => return Err(format!("{other} is none of range, percentile, clip and LOW..HIGH, such as 0..4095")),
        })
    }
}

impl fmt::Display for WindowChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("range"),
            Self::Percentile => f.write_str("percentile"),
            Self::Fixed(window) => window.fmt(f),
            Self::Clip => f.write_str("clip"),
        }
    }
}

/// Share of the values that [`WindowChoice::Percentile`] leaves out on each side.
const OUTSIDE: f64 = 0.001;

/// The window for photos, `None` if it is not needed: there is no 16-bit grey, or none of its values exceeds 255.
///
/// # Errors
/// If a photo of 16-bit grey cannot be decoded; the error names it.
pub fn window(choice: WindowChoice, photos: &[PathBuf]) -> Result<Option<Window>> {
    let outside = match choice {
        WindowChoice::Clip => return Ok(None),
        WindowChoice::Fixed(window) => return Ok((!of(photos).is_empty()).then_some(window)),
        WindowChoice::Range => 0.0,
        WindowChoice::Percentile => OUTSIDE,
    };
    let counted = of(photos).into_par_iter().map(|path| -> Result<Vec<u64>> {
        let bytes = std::fs::read(path).with_context(|| format!("photo {} cannot be read", path.display()))?;
        let mut counts = vec![0; 1 << 16];
        let values = grey16(&path.display().to_string(), &bytes)?.unwrap_or_default();
        values.into_iter().for_each(|value| counts[usize::from(value)] += 1);
        Ok(counts)
    });
    let sum = |mut a: Vec<u64>, b: Vec<u64>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        Ok(a)
    };
    let counts = counted.try_reduce(|| vec![0; 1 << 16], sum)?;
    let left_out = (outside * counts.iter().sum::<u64>() as f64) as u64;
    let low = first(counts.iter().enumerate(), left_out);
    let high = first(counts.iter().enumerate().rev(), left_out);
    Ok(match (low, high) {
        (Some(low), Some(high)) if high > 255 && low < high => Some(Window::new(low, high)?),
        _ => None,
    })
}

/// The first value with which more than `left_out` values were counted.
fn first<'a>(mut counts: impl Iterator<Item = (usize, &'a u64)>, left_out: u64) -> Option<u16> {
    let mut seen = 0;
    counts.find_map(|(value, count)| {
        seen += count;
        (seen > left_out).then_some(value as u16)
    })
}

/// Says on standard error that photos are clipped, if the model has no window.
pub fn warn_if_clipped(preprocessor: &Preprocessor, photos: &[PathBuf]) {
    let grey = if preprocessor.window.is_none() { of(photos) } else { Vec::new() };
    if let Some(first) = grey.first() {
        eprintln!(
            "dinomaly: {} of {} in 16-bit grey, such as {}: values above 255 are white, because the model was made without a window for \
             them (train --window range)",
            grey.len(),
            counted(photos.len(), "photo is", "photos are"),
            first.display()
        );
    }
}

/// The photos of 16-bit grey.
fn of(photos: &[PathBuf]) -> Vec<&PathBuf> {
    photos.par_iter().filter(|path| is_grey16(path)).collect()
}

fn is_grey16(path: &Path) -> bool {
    Examined::header(path).picture.is_ok_and(|picture| picture.colours == Colours::Grey16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(folder: &Path, name: &str, values: &[u16]) -> PathBuf {
        let path = folder.join(name);
        let picture =
            image::ImageBuffer::<image::Luma<u16>, _>::from_raw(values.len() as u32, 1, values.to_vec()).unwrap();
        picture.save(&path).unwrap();
        path
    }

    #[test]
    fn the_window_holds_the_values_of_all_photos() {
        let folder = tempfile::tempdir().unwrap();
        let dark: Vec<u16> = (0..2000).map(|i| if i == 0 { 9 } else { 1000 + i }).collect();
        let photos = [grey(folder.path(), "a.png", &dark), grey(folder.path(), "b.tif", &[47_000, 30_000])];
        let of = |choice: &str| window(choice.parse().unwrap(), &photos).unwrap().map(|window| window.to_string());
        assert_eq!(of("range").as_deref(), Some("9..47000"));
        assert_eq!(of("percentile").as_deref(), Some("1002..2999"));
        assert_eq!(of("0..4095").as_deref(), Some("0..4095"));
        assert_eq!(of("clip"), None);
    }

    #[test]
    fn eight_bits_need_no_window() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::new(4, 3).save(&path).unwrap();
        let photos = [path, grey(folder.path(), "b.png", &[0, 255])];
        assert_eq!(window(WindowChoice::Range, &photos).unwrap(), None);
        assert_eq!(window(WindowChoice::Fixed(Window::new(0, 9).unwrap()), &photos[..1]).unwrap(), None);
    }

    #[test]
    fn a_choice_is_read_and_written() {
        for text in ["range", "percentile", "clip", "0..4095"] {
            assert_eq!(text.parse::<WindowChoice>().unwrap().to_string(), text);
        }
        assert!("most".parse::<WindowChoice>().unwrap_err().contains("such as 0..4095"));
        assert!("9..5".parse::<WindowChoice>().unwrap_err().contains("is empty"));
    }
}
