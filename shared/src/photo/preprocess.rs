//! Photo → the encoder's input, and its place on the photo.
//!
//! As in the official pipeline, a photo of any aspect ratio is resized to a square, cropped at the centre and normalised.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::photo::decode::Photo;
use crate::photo::preprocessor_config::HuggingFace;
use crate::photo::resize::{resize, resize_part_unrounded};
use crate::photo::tiles::{TilePlan, Tiles};
use crate::photo::window::Window;
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Resize and crop. Sides are in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Side of the square that the photo is resized to.
    pub resize: usize,
    /// Side of the centre crop: the encoder's input.
    pub crop: usize,
}

/// Rectangle on a photo, in pixels: `x0..x1` to the right, `y0..y1` down. It may begin and end inside a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Left border.
    pub x0: f64,
    /// Upper border.
    pub y0: f64,
    /// Right border.
    pub x1: f64,
    /// Lower border.
    pub y1: f64,
}

impl Geometry {
    /// Largest side in pixels: attention over more patches needs more memory than any machine has.
    pub const MAX_SIDE: usize = 4096;

    /// Checks that the crop fits and is a whole number of patches of side `patch`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the wrong side.
    pub fn validate(&self, patch: usize) -> Result<()> {
        self.check_crop()?;
        if !self.crop.is_multiple_of(patch) {
            let below = self.crop.checked_div(patch).unwrap_or(0) * patch;
            let nearest = if below > 0 { format!("{below} or {}", below + patch) } else { patch.to_string() };
            return Err(Error::config(format!(
                "a crop of {} pixels cannot be divided into patches of {patch}: choose a multiple, such as {nearest}",
                self.crop
            )));
        }
        Ok(())
    }

    pub(super) fn check_crop(&self) -> Result<()> {
        let Self { resize, crop } = self;
        if *resize > Self::MAX_SIDE {
            return Err(Error::config(format!(
                "photos are resized to {resize} pixels a side: the limit is {}",
                Self::MAX_SIDE
            )));
        }
        if *crop == 0 || crop > resize {
            return Err(Error::config(format!(
                "a crop of {crop} pixels cannot be cut out of {resize}: it must be between 1 and {resize}"
            )));
        }
        Ok(())
    }

    /// Side of the crop in patches.
    pub fn grid(&self, patch: usize) -> usize {
        self.crop / patch
    }

    /// Pixels left of and above the crop: half of the border, rounded half to even as by Python's `round`.
    fn offset(&self) -> usize {
        let cut = self.resize - self.crop;
        let half = cut / 2;
        half + (cut % 2) * (half % 2)
    }

    /// Region of a photo of this size that the crop, and so an anomaly map, covers.
    pub fn photo_region(&self, width: u32, height: u32) -> Region {
        let [start, end] = [self.offset(), self.offset() + self.crop].map(|at| at as f64 / self.resize as f64);
        let (width, height) = (f64::from(width), f64::from(height));
        Region { x0: start * width, y0: start * height, x1: end * width, y1: end * height }
    }

    /// The photo, resized and cropped: `[crop, crop, 3]`.
    pub fn cut(&self, photo: &Photo) -> Vec<u8> {
        self.square::<3>(&photo.rgb, photo.width, photo.height)
    }

    /// The same without rounding to bytes.
    fn cut_unrounded(&self, photo: &Photo) -> Vec<f32> {
        let (from, to) = ((photo.width as usize, photo.height as usize), (self.resize, self.resize));
        let part = self.offset()..self.offset() + self.crop;
        resize_part_unrounded::<3>(&photo.rgb, from, to, part.clone(), part)
    }

    /// Resizes and crops a picture of `C` interleaved channels: `crop · crop · C` bytes.
    fn square<const C: usize>(&self, pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
        let square = resize::<C>(pixels, (width as usize, height as usize), (self.resize, self.resize));
        let (offset, side) = (self.offset(), self.crop);
        let rows = square.chunks_exact(self.resize * C).skip(offset).take(side);
        rows.flat_map(|row| &row[offset * C..][..side * C]).copied().collect()
    }

    /// Ground-truth mask as in the official evaluation: resized bilinearly and cropped like its photo, then resized to
    /// `side · side` by nearest neighbour. A pixel counts as defective if any channel is not 0, so that defects grow by about a
    /// pixel. The mask may be of another size than its photo.
    pub fn mask(&self, mask: &Photo, side: usize) -> Vec<bool> {
        let grey: Vec<u8> = mask.rgb.chunks_exact(3).map(|p| p[0].max(p[1]).max(p[2])).collect();
        let crop = self.square::<1>(&grey, mask.width, mask.height);
        // As in torch's `nearest`: the coordinate is computed in f32 and rounded down.
        let scale = self.crop as f32 / side as f32;
        let source: Vec<usize> = (0..side).map(|i| ((i as f32 * scale) as usize).min(self.crop - 1)).collect();
        let pixel = |y: usize, x: usize| crop[y * self.crop + x] != 0;
        source.iter().flat_map(|&y| source.iter().map(move |&x| pixel(y, x))).collect()
    }
}

/// For people.
impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resize, crop } = self;
        if resize == crop {
            write!(f, "whole photos, resized to {crop} × {crop}")
        } else {
            write!(f, "resized to {resize} × {resize}, centre {crop} × {crop}")
        }
    }
}

/// Values of a resized photo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resized {
    /// Rounded to bytes, as Pillow does it and the official code.
    #[default]
    Bytes,
    /// Not rounded, as torch resizes a tensor of floats and anomalib does it.
    Floats,
}

/// All steps between a decoded photo and the encoder. Serialised as Hugging Face's `preprocessor_config.json`; options that
/// this crate does not support are refused by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HuggingFace", into = "HuggingFace")]
pub struct Preprocessor {
    /// Resize and crop.
    pub geometry: Geometry,
    /// Tiles of the photo that are looked at one by one; if omitted, all of it is one square.
    pub tiles: Option<Tiles>,
    /// Mean of each channel, subtracted after scaling to 0..=1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, its divisor after the subtraction.
    pub std: [f32; 3],
    /// What becomes black and white of 16-bit grey; if omitted, values above 255 are white, as in the official loader.
    pub window: Option<Window>,
    /// Values of the resized photo.
    pub resized: Resized,
}

impl Preprocessor {
    /// Preprocessing with mean and standard deviation of ImageNet, as for DINO, DINOv2 and DeiT.
    pub fn imagenet(geometry: Geometry) -> Self {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        Self { geometry, tiles: None, mean, std, window: None, resized: Resized::Bytes }
    }

    /// Checks that geometry and tiles fit each other and patches of side `patch`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the wrong value.
    pub fn validate(&self, patch: usize) -> Result<()> {
        self.geometry.validate(patch)?;
        check_tiles(self.tiles, self.resized, self.geometry)
    }

    /// The part of a photo that is looked at, and its size, in words.
    pub fn view(&self) -> String {
        match self.tiles {
            None => self.geometry.to_string(),
            Some(Tiles { size, overlap }) => format!(
                "whole photos in tiles of {size} × {size} pixels that overlap by {:.0} %, each resized to {side} × {side}",
                100.0 * overlap,
                side = self.geometry.crop
            ),
        }
    }

    /// Tiles of a photo of this width and height; `None` without tiles. `patch` must have passed [`Preprocessor::validate`].
    pub fn tile_plan(&self, size: (u32, u32), patch: usize) -> Option<TilePlan> {
        self.tiles.map(|tiles| tiles.plan(size, self.geometry, patch))
    }

    /// The photo, resized and cropped, `[crop, crop, 3]`: bytes, or floats of 0 to 255 as four bytes each, lowest first. What is left to
    /// do is the executor's: see [`Preprocessor::patches_of_cut`].
    pub fn cut(&self, photo: &Photo) -> Vec<u8> {
        match self.resized {
            Resized::Bytes => self.geometry.cut(photo),
            Resized::Floats => self.geometry.cut_unrounded(photo).into_iter().flat_map(f32::to_le_bytes).collect(),
        }
    }

    /// Number of bytes of [`Preprocessor::cut`].
    pub fn cut_bytes(&self) -> usize {
        let bytes = match self.resized {
            Resized::Bytes => 1,
            Resized::Floats => size_of::<f32>(),
        };
        3 * self.geometry.crop.pow(2) * bytes
    }

    /// The encoder's input as in the official code: `[3, crop, crop]`, red, green, blue.
    pub fn pixels(&self, photo: &Photo) -> Vec<f32> {
        let crop = self.normalised(&self.cut(photo));
        (0..3).flat_map(|c| crop.iter().skip(c).step_by(3).copied()).collect()
    }

    /// The same as rows for a patch embedding that is a linear layer: `[grid², 3 · patch²]`, patches row by row, each by channel,
    /// row, column, in the order of a convolution's weight `[width, 3, patch, patch]`. `patch` must have passed
    /// [`Geometry::validate`].
    pub fn patches(&self, photo: &Photo, patch: usize) -> Vec<f32> {
        self.patches_of_cut(&self.cut(photo), patch)
    }

    /// The same from the result of [`Preprocessor::cut`].
    pub fn patches_of_cut(&self, crop: &[u8], patch: usize) -> Vec<f32> {
        let Geometry { crop: side, .. } = self.geometry;
        let (grid, crop) = (self.geometry.grid(patch), self.normalised(crop));
        let mut out = Vec::with_capacity(3 * side * side);
        for (top, left) in (0..grid).flat_map(|y| (0..grid).map(move |x| (y * patch, x * patch))) {
            for c in 0..3 {
                for y in top..top + patch {
                    let row = &crop[3 * (y * side + left)..][..3 * patch];
                    out.extend(row.iter().skip(c).step_by(3));
                }
            }
        }
        out
    }

    /// Patches of several photos, `[batch, grid², 3 · patch²]`.
    ///
    /// # Errors
    /// As [`HostTensor::f32`].
    pub fn batch_of_cuts(&self, cuts: &[Vec<u8>], patch: usize) -> Result<HostTensor> {
        let shape = [cuts.len(), self.geometry.grid(patch).pow(2), 3 * patch * patch];
        HostTensor::f32(shape, cuts.iter().flat_map(|cut| self.patches_of_cut(cut, patch)).collect())
    }

    /// Normalised values of the result of [`Preprocessor::cut`], in its order.
    fn normalised(&self, cut: &[u8]) -> Vec<f32> {
        match self.resized {
            Resized::Bytes => {
                let values = self.values();
                let pixel = |pixel: &[u8; 3]| std::array::from_fn::<_, 3, _>(|c| values[c][usize::from(pixel[c])]);
                cut.as_chunks().0.iter().flat_map(pixel).collect()
            }
            Resized::Floats => {
                let value = |(i, &bytes): (usize, &[u8; 4])| self.value(i % 3, f32::from_le_bytes(bytes));
                cut.as_chunks().0.iter().enumerate().map(value).collect()
            }
        }
    }

    /// Normalised value of every byte, by channel: `(byte / 255 - mean) / std`, each step rounded to f32 as in torchvision.
    pub fn values(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|byte| self.value(c, byte as f32)))
    }

    fn value(&self, channel: usize, sample: f32) -> f32 {
        (sample / 255.0 - self.mean[channel]) / self.std[channel]
    }
}

/// Checks that tiles fit a geometry; they are rounded to bytes.
pub(super) fn check_tiles(tiles: Option<Tiles>, resized: Resized, geometry: Geometry) -> Result<()> {
    let Some(tiles) = tiles else { return Ok(()) };
    if resized == Resized::Floats {
        return Err(Error::config("tiles are rounded to bytes when they are resized: leave out tiles or resize_dtype"));
    }
    tiles.check(geometry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(width: u32, height: u32) -> Photo {
        let rgb = (0..width * height * 3).map(|i| (i * 29 % 251) as u8).collect();
        Photo { width, height, rgb }
    }

    #[test]
    fn a_geometry_that_does_not_fit_is_refused() {
        let refusal = |resize, crop, patch| Geometry { resize, crop }.validate(patch).unwrap_err().to_string();
        assert_eq!(
            refusal(224, 256, 16),
            "config: a crop of 256 pixels cannot be cut out of 224: it must be between 1 and 224"
        );
        assert_eq!(
            refusal(448, 390, 14),
            "config: a crop of 390 pixels cannot be divided into patches of 14: choose a multiple, such as 378 or 392"
        );
        assert!(refusal(448, 0, 14).contains("a crop of 0 pixels"));
        for side in [4097, 1_000_000, usize::MAX] {
            assert!(refusal(side, 224, 14).contains("the limit is 4096"));
        }
        assert!(refusal(448, 392, 0).contains("patches of 0"));
        assert!(Geometry { resize: 448, crop: 392 }.validate(14).is_ok());
        assert_eq!(Geometry { resize: 448, crop: 392 }.grid(14), 28);
    }

    #[test]
    fn the_region_is_where_the_crop_was_on_the_photo() {
        let region = Geometry { resize: 448, crop: 392 }.photo_region(900, 448);
        assert_eq!(region, Region { x0: 56.25, y0: 28.0, x1: 843.75, y1: 420.0 });
        let whole = Geometry { resize: 224, crop: 224 }.photo_region(31, 17);
        assert_eq!(whole, Region { x0: 0.0, y0: 0.0, x1: 31.0, y1: 17.0 });
        // A border of 15 pixels: 7.5 is rounded to the even 8.
        assert_eq!(Geometry { resize: 63, crop: 48 }.photo_region(63, 63).x0, 8.0);
    }

    #[test]
    fn patches_are_the_pixels_in_another_order() {
        let preprocessor = Preprocessor::imagenet(Geometry { resize: 10, crop: 8 });
        let photo = photo(13, 9);
        let (pixels, patches) = (preprocessor.pixels(&photo), preprocessor.patches(&photo, 4));
        assert_eq!(patches.len(), 4 * 48);
        for (grid_y, grid_x, c, y, x) in [(0, 0, 0, 0, 0), (0, 1, 2, 3, 1), (1, 0, 1, 2, 3), (1, 1, 2, 3, 3)] {
            let expected = pixels[(c * 8 + grid_y * 4 + y) * 8 + grid_x * 4 + x];
            assert_eq!(patches[(grid_y * 2 + grid_x) * 48 + (c * 4 + y) * 4 + x], expected);
        }
    }

    #[test]
    fn values_that_are_not_rounded_are_those_between_bytes() {
        let bytes = Preprocessor::imagenet(Geometry { resize: 10, crop: 8 });
        let floats = Preprocessor { resized: Resized::Floats, ..bytes.clone() };
        let photo = photo(13, 9);
        assert_eq!(floats.cut(&photo).len(), floats.cut_bytes());
        assert_eq!(bytes.cut(&photo).len(), bytes.cut_bytes());
        let (rounded, between) = (bytes.pixels(&photo), floats.pixels(&photo));
        let step = 1.01 / 255.0 / 0.224;
        assert!(rounded.iter().zip(&between).all(|(a, b)| (a - b).abs() < step) && rounded != between);
        // No resize, no difference.
        let whole = |resized| Preprocessor { geometry: Geometry { resize: 8, crop: 8 }, resized, ..bytes.clone() };
        let square = super::tests::photo(8, 8);
        assert_eq!(whole(Resized::Floats).patches(&square, 4), whole(Resized::Bytes).patches(&square, 4));
    }

    #[test]
    fn a_single_pixel_becomes_an_even_square() {
        let preprocessor = Preprocessor::imagenet(Geometry { resize: 16, crop: 14 });
        let dot = Photo { width: 1, height: 1, rgb: vec![255, 0, 128] };
        let pixels = preprocessor.pixels(&dot);
        for (channel, expected) in pixels.chunks_exact(14 * 14).zip([2.248_908_3, -2.035_714_4, 0.426_492_4]) {
            assert!(channel.iter().all(|&v: &f32| (v - expected).abs() < 1e-6), "{} instead of {expected}", channel[0]);
        }
    }

    #[test]
    fn a_mask_grows_where_any_channel_is_not_black() {
        let geometry = Geometry { resize: 8, crop: 8 };
        let mut mask = Photo { width: 8, height: 8, rgb: vec![0; 8 * 8 * 3] };
        assert!(geometry.mask(&mask, 4).iter().all(|&anomalous| !anomalous));
        mask.rgb[3 * (2 * 8 + 4) + 1] = 1;
        let found: Vec<usize> = (0..16).filter(|&i| geometry.mask(&mask, 4)[i]).collect();
        assert_eq!(found, [4 + 2], "row 2, column 4 of 8 is row 1, column 2 of 4");
        // A mask of another size than its photo, twice as large: the defect spreads over neighbours.
        let large = Photo {
            width: 16,
            height: 16,
            rgb: (0..16 * 16).flat_map(|i| [if i == 5 * 16 + 9 { 255 } else { 0 }; 3]).collect(),
        };
        assert_eq!(geometry.mask(&large, 8).iter().filter(|&&anomalous| anomalous).count(), 4);
    }
}
