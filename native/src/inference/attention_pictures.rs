//! A model folder and a photo → pictures of the decoder's attention.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::maps::heatmap::overlay;
use dinomaly_core::maps::score::AnomalyMap;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Region;
use image::{ImageFormat, Rgb, RgbImage};

use super::attention::{Attention, AttentionSpread, of_decoder};
use crate::dataset::read_photo;
use crate::model_dir;
use crate::system::atomic::{check_file, write_file};
use crate::system::device::DeviceChoice;

/// Opacity where attention is strongest.
const OPACITY: f32 = 0.75;

/// The attention to draw.
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    /// Folder of a model whose decoder has softmax or linear attention.
    pub model: PathBuf,
    /// Photo to look at.
    pub photo: PathBuf,
    /// Folder to write the pictures to: one PNG for each query and decoder block, the mean over the heads.
    pub out: PathBuf,
    /// Pixels whose patches are the queries; the photo's centre if empty.
    pub queries: Vec<(f64, f64)>,
    /// Whether to draw each head as well.
    pub each_head: bool,
    /// The device to compute on.
    pub device: DeviceChoice,
}

/// The spread of attention.
#[derive(Clone, Debug)]
pub struct Spreads {
    /// Of each decoder block, first block first.
    pub blocks: Vec<AttentionSpread>,
    /// Patches per side of the crop.
    pub grid: usize,
}

/// Draws the pictures, and returns the spread of each block's attention.
///
/// # Errors
/// If the model or photo is unusable, the decoder has no attention, a query lies outside the crop, or the folder cannot be written.
pub fn draw_attention(plan: &AttentionPlan) -> Result<Spreads> {
    check_file(&plan.out.join("block.png"))?;
    let model = model_dir::read(&plan.model)?;
    let photo = read_photo(&plan.photo, model.preprocessor.window)?;
    let (region, grid) = (model.preprocessor.geometry.photo_region(photo.width, photo.height), model.grid());
    let centre = (f64::from(photo.width) / 2.0, f64::from(photo.height) / 2.0);
    let places = if plan.queries.is_empty() { vec![centre] } else { plan.queries.clone() };
    let patches = places.iter().map(|&place| patch_at(place, &region, grid)).collect::<Result<Vec<_>>>()?;
    let blocks = of_decoder(&model, &photo, plan.device.open()?)?;
    for (number, (&place, &patch)) in places.iter().zip(&patches).enumerate() {
        let query = if places.len() > 1 { format!("query-{}-", number + 1) } else { String::new() };
        for (block, attention) in blocks.iter().enumerate() {
            let heads = (0..if plan.each_head { attention.heads() } else { 0 }).map(Some);
            for head in std::iter::once(None).chain(heads) {
                let head_name = head.map_or(String::new(), |head| format!("-head-{}", head + 1));
                let file = plan.out.join(format!("{query}block-{}{head_name}.png", block + 1));
                let picture = drawn(&photo, &region, attention, head, patch)
                    .with_context(|| format!("attention at {},{} cannot be drawn", place.0, place.1))?;
                write_png(&file, &picture)?;
            }
        }
    }
    Ok(Spreads { blocks: blocks.iter().map(Attention::spread).collect(), grid })
}

/// Index of the patch at a pixel of the photo.
fn patch_at((x, y): (f64, f64), region: &Region, grid: usize) -> Result<usize> {
    let along = |at: f64, start: f64, end: f64| {
        let share = (at - start) / (end - start);
        (0.0..1.0).contains(&share).then_some((share * grid as f64) as usize)
    };
    let Some((column, row)) = along(x, region.x0, region.x1).zip(along(y, region.y0, region.y1)) else {
        bail!(
            "--query {x},{y} lies outside the part of the photo that the model sees: \
             x from {:.0} to {:.0}, y from {:.0} to {:.0}",
            region.x0,
            region.x1,
            region.y0,
            region.y1
        );
    };
    Ok(row * grid + column)
}

/// The photo with a patch's attention weights as a heatmap, scaled from 0 to the largest, and a frame around that patch.
fn drawn(photo: &Photo, region: &Region, attention: &Attention, head: Option<usize>, patch: usize) -> Result<RgbImage> {
    let (weights, side) = (attention.to_patches(head, patch), attention.patches().isqrt());
    let range = (0.0, weights.iter().copied().fold(0.0, f32::max));
    let map = AnomalyMap::square(side, weights);
    let place = (region.x0, region.y0, region.x1, region.y1);
    let rgb = overlay(&photo.rgb, photo.width as usize, photo.height as usize, &map, place, range, OPACITY)?;
    let mut picture = RgbImage::from_raw(photo.width, photo.height, rgb).context("a picture of the photo's size")?;
    let edge = |index: usize, start: f64, end: f64| (start + (end - start) * index as f64 / side as f64).round() as u32;
    let (column, row) = (patch % side, patch / side);
    let columns = edge(column, region.x0, region.x1)..edge(column + 1, region.x0, region.x1).min(photo.width);
    let rows = edge(row, region.y0, region.y1)..edge(row + 1, region.y0, region.y1).min(photo.height);
    let thick = (photo.width.max(photo.height) / 250).max(1);
    for (x, y) in columns.clone().flat_map(|x| rows.clone().map(move |y| (x, y))) {
        let inside = |at: u32, range: &std::ops::Range<u32>| at >= range.start + thick && at + thick < range.end;
        if !(inside(x, &columns) && inside(y, &rows)) {
            picture.put_pixel(x, y, Rgb([0, 255, 255]));
        }
    }
    Ok(picture)
}

fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    write_file(path, png.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_the_patch_that_covers_it() {
        let region = Region { x0: 10.0, y0: 20.0, x1: 50.0, y1: 100.0 };
        assert_eq!(patch_at((10.0, 20.0), &region, 4).unwrap(), 0);
        assert_eq!(patch_at((39.9, 45.0), &region, 4).unwrap(), 6);
        let error = patch_at((50.0, 45.0), &region, 4).unwrap_err().to_string();
        assert!(error.contains("x from 10 to 50, y from 20 to 100"), "{error}");
    }
}
