//! Small pictures of all samples in one file: the page shows them without the samples themselves.

use std::io::Cursor;

use anyhow::{Context, Result};
use dinomaly_core::photo::decode::Photo;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{crop_imm, replace, thumbnail};
use image::{ExtendedColorType, RgbImage};

use super::samples::Sample;

/// Side of a thumbnail in pixels.
pub const SIDE: u32 = 160;

/// Thumbnails in a row.
pub const COLUMNS: u32 = 8;

/// Percent, as JPEG counts it.
const QUALITY: u8 = 80;

/// A JPEG of the samples' thumbnails, row by row in their order. None if there are no samples, or more than a JPEG holds.
///
/// # Errors
/// If a sample is no photo.
pub fn thumbnails(samples: &[Sample]) -> Result<Option<Vec<u8>>> {
    let rows = samples.len().div_ceil(COLUMNS as usize) as u32;
    if rows == 0 || rows * SIDE > u32::from(u16::MAX) {
        return Ok(None);
    }
    let mut sheet = RgbImage::new(COLUMNS.min(samples.len() as u32) * SIDE, rows * SIDE);
    for (i, sample) in (0..).zip(samples) {
        let (column, row) = (i % COLUMNS, i / COLUMNS);
        replace(&mut sheet, &small(sample)?, i64::from(column * SIDE), i64::from(row * SIDE));
    }
    let mut file = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut file, QUALITY)
        .encode(sheet.as_raw(), sheet.width(), sheet.height(), ExtendedColorType::Rgb8)
        .context("the samples' thumbnails cannot be encoded")?;
    Ok(Some(file.into_inner()))
}

/// The largest square in a sample's middle, small.
fn small(sample: &Sample) -> Result<RgbImage> {
    let Photo { width, height, rgb } = Photo::decode(&sample.name, &sample.bytes)?;
    let photo = RgbImage::from_raw(width, height, rgb).context("a photo has its pixels")?;
    let side = width.min(height);
    let square = crop_imm(&photo, (width - side) / 2, (height - side) / 2, side, side).to_image();
    Ok(thumbnail(&square, SIDE, SIDE))
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgb};

    use super::*;

    fn sample(shade: u8) -> Sample {
        let mut file = Cursor::new(Vec::new());
        RgbImage::from_pixel(300, 200, Rgb([shade; 3])).write_to(&mut file, ImageFormat::Png).unwrap();
        let (name, extension) = ("sample".into(), "png".into());
        Sample { name, class: None, truth: None, bytes: file.into_inner(), extension }
    }

    #[test]
    fn each_sample_has_its_place_on_the_sheet() {
        let samples: Vec<Sample> = (0..10).map(|i| sample(20 * i)).collect();
        let sheet = image::load_from_memory(&thumbnails(&samples).unwrap().unwrap()).unwrap().to_rgb8();
        assert_eq!(sheet.dimensions(), (8 * SIDE, 2 * SIDE));
        for i in 0..10u32 {
            let [shade, ..] = sheet.get_pixel(i % 8 * SIDE + SIDE / 2, i / 8 * SIDE + SIDE / 2).0;
            assert!(shade.abs_diff(20 * i as u8) <= 2, "{i}: {shade}");
        }
        let few = image::load_from_memory(&thumbnails(&samples[..3]).unwrap().unwrap()).unwrap();
        assert_eq!((few.width(), few.height()), (3 * SIDE, SIDE));
        assert!(thumbnails(&[]).unwrap().is_none());
    }
}
