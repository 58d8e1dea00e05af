//! Photo → the encoder's input, and its place on the photo.
//!
//! As in the official pipeline, a photo of any aspect ratio is resized to a square, cropped at the centre and normalised.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::photo::decode::Photo;
use crate::photo::resize::resize;
use crate::photo::tiles::{TilePlan, Tiles};
use crate::photo::window::Window;
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

    fn check_crop(&self) -> Result<()> {
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
}

impl Preprocessor {
    /// Preprocessing with mean and standard deviation of ImageNet, as for DINO, DINOv2 and DeiT.
    pub fn imagenet(geometry: Geometry) -> Self {
        Self { geometry, tiles: None, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], window: None }
    }

    /// Checks that geometry and tiles fit each other and patches of side `patch`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the wrong value.
    pub fn validate(&self, patch: usize) -> Result<()> {
        self.geometry.validate(patch)?;
        self.tiles.map_or(Ok(()), |tiles| tiles.check(self.geometry))
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

    /// The encoder's input as in the official code: `[3, crop, crop]`, red, green, blue.
    pub fn pixels(&self, photo: &Photo) -> Vec<f32> {
        let (crop, values) = (self.geometry.cut(photo), self.values());
        let channel = |c: usize| crop.iter().skip(c).step_by(3).map(move |&byte| values[c][usize::from(byte)]);
        (0..3).flat_map(channel).collect()
    }

    /// The same as rows for a patch embedding that is a linear layer: `[grid², 3 · patch²]`, patches row by row, each by channel,
    /// row, column, in the order of a convolution's weight `[width, 3, patch, patch]`. `patch` must have passed
    /// [`Geometry::validate`].
    pub fn patches(&self, photo: &Photo, patch: usize) -> Vec<f32> {
        self.patches_of_cut(&self.geometry.cut(photo), patch)
    }

    /// The same from the result of [`Geometry::cut`].
    pub fn patches_of_cut(&self, crop: &[u8], patch: usize) -> Vec<f32> {
        let Geometry { crop: side, .. } = self.geometry;
        let (grid, values) = (self.geometry.grid(patch), self.values());
        let mut out = Vec::with_capacity(3 * side * side);
        for (top, left) in (0..grid).flat_map(|y| (0..grid).map(move |x| (y * patch, x * patch))) {
            for (c, values) in values.iter().enumerate() {
                for y in top..top + patch {
                    let row = &crop[3 * (y * side + left)..][..3 * patch];
                    out.extend(row.iter().skip(c).step_by(3).map(|&byte| values[usize::from(byte)]));
                }
            }
        }
        out
    }

    /// Normalised value of every byte, by channel: `(byte / 255 - mean) / std`, each step rounded to f32 as in torchvision.
    pub fn values(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }
}

/// `preprocessor_config.json` of a `BitImageProcessor`, the Hugging Face class that resizes to a fixed size, crops the centre
/// and normalises.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HuggingFace {
    image_processor_type: String,
    do_convert_rgb: bool,
    do_resize: bool,
    size: Size,
    resample: u32,
    do_center_crop: bool,
    crop_size: Size,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
    /// Not of Hugging Face: values of 16-bit grey that become black and white.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grey16_window: Option<[u16; 2]>,
    /// Not of Hugging Face: tiles that are resized to `size` one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tiles: Option<Tiles>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    height: usize,
    width: usize,
}

impl Size {
    fn square(name: &str, side: Self) -> Result<usize> {
        if side.height != side.width {
            return Err(Error::config(format!("{name} {}x{} is not square", side.height, side.width)));
        }
        Ok(side.height)
    }
}

const PROCESSOR: &str = "BitImageProcessor";
/// Pillow's number for its bilinear filter.
const BILINEAR: u32 = 2;
const RESCALE: f64 = 1.0 / 255.0;

impl From<Preprocessor> for HuggingFace {
    fn from(p: Preprocessor) -> Self {
        let size = |side| Size { height: side, width: side };
        Self {
            image_processor_type: PROCESSOR.into(),
            do_convert_rgb: true,
            do_resize: true,
            size: size(p.geometry.resize),
            resample: BILINEAR,
            do_center_crop: true,
            crop_size: size(p.geometry.crop),
            do_rescale: true,
            rescale_factor: RESCALE,
            do_normalize: true,
            image_mean: p.mean,
            image_std: p.std,
            grey16_window: p.window.map(|window| [window.low(), window.high()]),
            tiles: p.tiles,
        }
    }
}

impl TryFrom<HuggingFace> for Preprocessor {
    type Error = Error;

    fn try_from(file: HuggingFace) -> Result<Self> {
        if file.image_processor_type != PROCESSOR {
            let found = file.image_processor_type;
            return Err(Error::config(format!("image_processor_type is {found:?}, only {PROCESSOR:?} is supported")));
        }
        for (name, value) in [
            ("do_convert_rgb", file.do_convert_rgb),
            ("do_resize", file.do_resize),
            ("do_center_crop", file.do_center_crop),
            ("do_rescale", file.do_rescale),
            ("do_normalize", file.do_normalize),
        ] {
            if !value {
                return Err(Error::config(format!("{name} is false, only true is supported")));
            }
        }
        if file.resample != BILINEAR {
            return Err(Error::config(format!(
                "resample is {}, only {BILINEAR} (bilinear) is supported",
                file.resample
            )));
        }
        if (file.rescale_factor / RESCALE - 1.0).abs() > 1e-6 {
            return Err(Error::config(format!("rescale_factor is {}, only 1/255 is supported", file.rescale_factor)));
        }
        if file.image_mean.iter().any(|mean| !mean.is_finite()) {
            return Err(Error::config(format!("image_mean {:?} must be finite", file.image_mean)));
        }
        if file.image_std.iter().any(|&std| !(std > 0.0 && std.is_finite())) {
            return Err(Error::config(format!("image_std {:?} must be positive and finite", file.image_std)));
        }
        let geometry =
            Geometry { resize: Size::square("size", file.size)?, crop: Size::square("crop_size", file.crop_size)? };
        geometry.check_crop()?;
        file.tiles.map_or(Ok(()), |tiles| tiles.check(geometry))?;
        let window = file.grey16_window.map(|[low, high]| Window::new(low, high)).transpose()?;
        Ok(Self { geometry, tiles: file.tiles, mean: file.image_mean, std: file.image_std, window })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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

    fn config() -> Value {
        serde_json::to_value(Preprocessor::imagenet(Geometry { resize: 448, crop: 392 })).unwrap()
    }

    #[test]
    fn the_hugging_face_file_is_written_and_read_back() {
        let expected = json!({
            "image_processor_type": "BitImageProcessor", "do_convert_rgb": true, "do_resize": true,
            "size": {"height": 448, "width": 448}, "resample": 2, "do_center_crop": true,
            "crop_size": {"height": 392, "width": 392}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        });
        let preprocessor = Preprocessor::imagenet(Geometry { resize: 448, crop: 392 });
        let text = serde_json::to_string(&preprocessor).unwrap();
        assert_eq!(serde_json::from_str::<Preprocessor>(&text).unwrap(), preprocessor);
        assert_eq!(serde_json::from_value::<Preprocessor>(expected).unwrap(), preprocessor);
        assert!(text.contains("\"image_mean\":[0.485,0.456,0.406]"), "{text}");
    }

    #[test]
    fn tiles_are_written_and_read_back_and_others_refused() {
        let whole = Preprocessor::imagenet(Geometry { resize: 392, crop: 392 });
        let preprocessor = Preprocessor { tiles: Some(Tiles::new(784)), ..whole };
        let mut file = serde_json::to_value(&preprocessor).unwrap();
        assert_eq!(file["tiles"], json!({ "size": 784, "overlap": 0.25 }));
        assert_eq!(serde_json::from_value::<Preprocessor>(file.clone()).unwrap(), preprocessor);
        file["tiles"]["size"] = json!(10);
        let error = serde_json::from_value::<Preprocessor>(file).unwrap_err().to_string();
        assert!(error.contains("tiles of 10 pixels cannot be resized to 392"), "{error}");
        let mut cropped = config();
        cropped["tiles"] = json!({ "size": 784, "overlap": 0.25 });
        let error = serde_json::from_value::<Preprocessor>(cropped).unwrap_err().to_string();
        assert!(error.contains("leaves its border out"), "{error}");
        assert!(config().get("tiles").is_none());
    }

    #[test]
    fn what_a_file_asks_for_and_is_not_done_is_refused_by_name() {
        for (name, value) in [
            ("image_processor_type", json!("ViTImageProcessor")),
            ("do_convert_rgb", json!(false)),
            ("do_resize", json!(false)),
            ("do_center_crop", json!(false)),
            ("do_rescale", json!(false)),
            ("do_normalize", json!(false)),
            ("resample", json!(3)),
            ("rescale_factor", json!(1.0)),
            ("size", json!({"height": 448, "width": 400})),
            ("size", json!({"shortest_edge": 448})),
            ("crop_size", json!({"height": 392, "width": 400})),
            ("image_std", json!([0.2, 0.0, 0.2])),
            ("image_mean", json!([1e39, 0.0, 0.2])),
            ("do_pad", json!(true)),
        ] {
            let mut file = config();
            file[name] = value;
            let error = serde_json::from_value::<Preprocessor>(file).unwrap_err().to_string();
            let word = if error.contains("shortest_edge") { "shortest_edge" } else { name };
            assert!(error.contains(word), "{name}: {error}");
        }
        let mut small = config();
        small["size"] = json!({"height": 224, "width": 224});
        let error = serde_json::from_value::<Preprocessor>(small).unwrap_err().to_string();
        assert!(error.contains("a crop of 392 pixels cannot be cut out of 224"), "{error}");
        let mut missing = config();
        missing.as_object_mut().unwrap().remove("resample");
        let error = serde_json::from_value::<Preprocessor>(missing).unwrap_err().to_string();
        assert!(error.contains("resample"), "{error}");
    }
}
