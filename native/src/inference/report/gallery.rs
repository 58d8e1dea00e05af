//! Photos with their masks and heatmaps, small enough to embed in a page.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly_core::maps::heatmap::{PhotoRegion, overlay, range_around};
use dinomaly_core::photo::window::Window;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use rayon::prelude::*;

use crate::dataset::{Class, TestPhoto, read_photo};
use crate::inference::evaluation::Found;

/// Longer side of a picture, in pixels.
const SIDE: u32 = 192;
/// JPEG quality of the pictures, 1..=100.
const QUALITY: u8 = 72;
/// Opacity of heatmaps at defects.
const OPACITY: f32 = 0.6;
/// Colour outside the mask.
const OUTSIDE: [u8; 3] = [110; 3];

/// A photo in the gallery. Pictures are data URLs.
pub(super) struct Picture {
    /// Path in the class's folder.
    pub name: String,
    pub defective: bool,
    pub score: f32,
    /// Outcome, compared with the label.
    pub verdict: Outcome,
    pub photo: String,
    /// White at labelled defects; `None` for a good photo, or if there is no mask.
    pub mask: Option<String>,
    pub heatmap: String,
}

/// Outcome of a score against the threshold, compared with the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    FalseAlarm,
    Miss,
    Right,
}

/// Distance of a score to the threshold, positive on the wrong side and negative on the right one, and the verdict.
fn error(photo: &TestPhoto, score: f32, threshold: f32) -> (f32, Outcome) {
    match (photo.defect.is_some(), score > threshold) {
        (false, true) => (score - threshold, Outcome::FalseAlarm),
        (true, false) => (threshold - score, Outcome::Miss),
        _ => (-(score - threshold).abs(), Outcome::Right),
    }
}

/// What is shown of a class.
pub(super) struct Show {
    /// Score above which a photo is called defective.
    pub threshold: f32,
    /// Largest number of photos.
    pub limit: usize,
    /// The model's window of 16-bit grey.
    pub window: Option<Window>,
}

/// The photos of a class with the largest errors, the largest first.
///
/// # Errors
/// If a photo cannot be read again.
pub(super) fn pictures(class: &Class, found: &[Found], show: &Show) -> Result<Vec<Picture>> {
    let mut order: Vec<(f32, Outcome, usize)> = Vec::with_capacity(found.len());
    for (i, (photo, found)) in class.test.iter().zip(found).enumerate() {
        let (error, verdict) = error(photo, found.detection.score, show.threshold);
        order.push((error, verdict, i));
    }
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    order.truncate(show.limit);
    let one = |&(_, verdict, i): &(f32, Outcome, usize)| picture(class, &class.test[i], &found[i], show, verdict);
    order.par_iter().map(one).collect()
}

/// A small picture of a photo, as a data URL.
///
/// # Errors
/// If the photo cannot be read.
pub(super) fn thumbnail(path: &Path, window: Option<Window>) -> Result<String> {
    address(&reduced(path, window)?.1)
}

/// A photo, and a small picture of it.
fn reduced(path: &Path, window: Option<Window>) -> Result<(RgbImage, RgbImage)> {
    let full = read_photo(path, window)?;
    let full = RgbImage::from_raw(full.width, full.height, full.rgb).context("a photo has three bytes a pixel")?;
    let scale = (f64::from(SIDE) / f64::from(full.width().max(full.height()))).min(1.0);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let small = resize(&full, side(full.width()), side(full.height()), FilterType::Triangle);
    Ok((full, small))
}

fn picture(class: &Class, photo: &TestPhoto, found: &Found, show: &Show, verdict: Outcome) -> Result<Picture> {
    let name = photo.path.strip_prefix(&class.folder).unwrap_or(&photo.path);
    let (full, small) = reduced(&photo.path, show.window)?;
    let (x, y) =
        (f64::from(small.width()) / f64::from(full.width()), f64::from(small.height()) / f64::from(full.height()));
    let region = &found.detection.region;
    let region: PhotoRegion = (region.x0 * x, region.y0 * y, region.x1 * x, region.y1 * y);
    let (map, range) = (&found.detection.map, range_around(show.threshold));
    let (width, height) = (small.width() as usize, small.height() as usize);
    let heatmap = overlay(small.as_raw(), width, height, map, region, range, OPACITY)?;
    let heatmap = RgbImage::from_raw(small.width(), small.height(), heatmap).context("as large as its photo")?;
    Ok(Picture {
        name: name.display().to_string(),
        defective: photo.defect.is_some(),
        score: found.detection.score,
        verdict,
        mask: found
            .mask
            .as_ref()
            .map(|mask| address(&drawn(mask, (map.width, map.height), &small, region)))
            .transpose()?,
        photo: address(&small)?,
        heatmap: address(&heatmap)?,
    })
}

/// A mask of this width and height in pixels, drawn at its place in the photo.
fn drawn(mask: &[bool], (width, height): (usize, usize), photo: &RgbImage, region: PhotoRegion) -> RgbImage {
    let place = |pixel: u32, start: f64, end: f64, pixels: usize| {
        let at = (f64::from(pixel) + 0.5 - start) / (end - start);
        (0.0..1.0).contains(&at).then_some((at * pixels as f64) as usize)
    };
    RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
        let at = place(x, region.0, region.2, width).zip(place(y, region.1, region.3, height));
        image::Rgb(at.map_or(OUTSIDE, |(x, y)| if mask[y * width + x] { [255; 3] } else { [0; 3] }))
    })
}

/// A picture as a data URL.
fn address(picture: &RgbImage) -> Result<String> {
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    encoder.write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8)?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)))
}

#[cfg(test)]
mod tests {
    use dinomaly_core::detector::Detection;
    use dinomaly_core::maps::score::AnomalyMap;
    use dinomaly_core::photo::preprocess::Region;

    use super::*;

    #[test]
    fn the_largest_errors_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let scores = [("good", 0.4), ("good", 1.9), ("dent", 0.1), ("dent", 1.2), ("good", 1.0), ("dent", 1.0)];
        let mut class = Class { name: "nut".into(), folder: folder.path().into(), train: Vec::new(), test: Vec::new() };
        let mut found = Vec::new();
        for (i, (kind, score)) in scores.into_iter().enumerate() {
            let path = folder.path().join(format!("{i}.png"));
            RgbImage::from_pixel(400, 100, image::Rgb([i as u8; 3])).save(&path).unwrap();
            let defect = (kind != "good").then(|| kind.to_owned());
            class.test.push(TestPhoto { path, defect: defect.clone(), masks: Vec::new(), sample: None });
            let map = AnomalyMap::square(2, vec![0.0, 0.0, 0.0, 2.0]);
            let region = Region { x0: 100.0, y0: 0.0, x1: 300.0, y1: 100.0 };
            let mask = defect.map(|_| vec![false, true, false, false]);
            found.push(Found { detection: Detection { score, map, region, descriptor: Vec::new() }, mask });
        }
        let all = pictures(&class, &found, &Show { threshold: 1.0, limit: 9, window: None }).unwrap();
        let names: Vec<_> = all.iter().map(|picture| (picture.name.as_str(), picture.verdict)).collect();
        // Largest error first: a miss by 0.9, a false alarm as far, a miss by nothing; then right verdicts, the closest first.
        assert_eq!(names[..3], [("1.png", Outcome::FalseAlarm), ("2.png", Outcome::Miss), ("5.png", Outcome::Miss)]);
        assert_eq!(names[3..], [("4.png", Outcome::Right), ("3.png", Outcome::Right), ("0.png", Outcome::Right)]);
        assert_eq!(pictures(&class, &found, &Show { threshold: 1.0, limit: 2, window: None }).unwrap().len(), 2);
        assert!(all[0].mask.is_none() && all[1].mask.is_some());
    }

    #[test]
    fn pictures_are_small_and_masks_lie_where_they_are() {
        let photo = RgbImage::new(192, 48);
        let mask = drawn(&[false, true, false, false], (2, 2), &photo, (48.0, 0.0, 144.0, 48.0));
        let at = |x, y| mask.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(60, 5), at(120, 5), at(120, 40), at(190, 5)], [110, 0, 255, 0, 110]);
        let address = address(&mask).unwrap();
        let jpeg = BASE64_STANDARD.decode(address.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
        let read = image::load_from_memory(&jpeg).unwrap();
        assert_eq!((read.width(), read.height()), (192, 48));
    }
}
