//! Photo → what the encoder sees, and the way back to the photo.
//!
//! The official pipeline squashes a photo to a square, whatever its aspect ratio, cuts out the centre and normalises.

use serde::{Deserialize, Serialize};

use crate::photo::Photo;
use crate::resize::resize;
use crate::{Error, Result};

/// Which part of a photo is looked at, at what size. Sides in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Side of the square that the photo is resized to.
    pub resize: usize,
    /// Side of the centre that is cut out of it: the encoder's input.
    pub crop: usize,
}

/// A rectangle on a photo, in its pixels: `x0..x1` to the right, `y0..y1` down. May begin and end inside a pixel.
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
    /// Checks that the crop fits and is made of whole patches of side `patch`.
    ///
    /// # Errors
    /// [`Error::Config`] saying what does not.
    pub fn validate(&self, patch: usize) -> Result<()> {
        self.check_crop()?;
        if patch == 0 || self.crop % patch != 0 {
            return Err(Error::config(format!(
                "a crop of {} pixels cannot be divided into patches of {patch}: choose a multiple",
                self.crop
            )));
        }
        Ok(())
    }

    fn check_crop(&self) -> Result<()> {
        let Self { resize, crop } = self;
        if *crop == 0 || crop > resize {
            return Err(Error::config(format!(
                "a crop of {crop} pixels cannot be cut out of {resize}: it must be between 1 and {resize}"
            )));
        }
        Ok(())
    }

    /// Patches along a side of the crop.
    pub fn grid(&self, patch: usize) -> usize {
        self.crop / patch
    }

    /// Pixels left and above of the crop: half of what is cut away, rounded half to even as Python's `round` does.
    fn offset(&self) -> usize {
        let cut = self.resize - self.crop;
        let half = cut / 2;
        half + (cut % 2) * (half % 2)
    }

    /// The part of a photo of this size that the crop, and with it an anomaly map, covers.
    pub fn photo_region(&self, width: u32, height: u32) -> Region {
        let [start, end] = [self.offset(), self.offset() + self.crop].map(|at| at as f64 / self.resize as f64);
        let (width, height) = (f64::from(width), f64::from(height));
        Region { x0: start * width, y0: start * height, x1: end * width, y1: end * height }
    }

    /// Resizes and cuts a picture of `C` interleaved channels: `crop · crop · C` bytes.
    fn square<const C: usize>(&self, pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
        let square = resize::<C>(pixels, (width as usize, height as usize), (self.resize, self.resize));
        let (offset, side) = (self.offset(), self.crop);
        let rows = square.chunks_exact(self.resize * C).skip(offset).take(side);
        rows.flat_map(|row| &row[offset * C..][..side * C]).copied().collect()
    }

    /// A ground-truth mask as the official evaluation sees it: resized bilinearly and cut like its photo, then to
    /// `side · side` by nearest neighbour. Whatever is not black counts as defective, so that defects grow by about a
    /// pixel. A coloured mask counts where any channel is not 0. It need not be of its photo's size.
    pub fn mask(&self, mask: &Photo, side: usize) -> Vec<bool> {
        let grey: Vec<u8> = mask.rgb.chunks_exact(3).map(|p| p[0].max(p[1]).max(p[2])).collect();
        let crop = self.square::<1>(&grey, mask.width, mask.height);
        // As torch's `nearest`: the coordinate is computed in f32 and rounded down.
        let scale = self.crop as f32 / side as f32;
        let source: Vec<usize> = (0..side).map(|i| ((i as f32 * scale) as usize).min(self.crop - 1)).collect();
        let pixel = |y: usize, x: usize| crop[y * self.crop + x] != 0;
        source.iter().flat_map(|&y| source.iter().map(move |&x| pixel(y, x))).collect()
    }
}

/// Everything between a decoded photo and the encoder. Serialised as Hugging Face's `preprocessor_config.json`; what
/// such a file asks for and this crate does not do is refused by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "HuggingFace", into = "HuggingFace")]
pub struct Preprocessor {
    /// Resize and crop.
    pub geometry: Geometry,
    /// Subtracted from each channel after scaling it to 0..=1.
    pub mean: [f32; 3],
    /// Each channel is divided by this then.
    pub std: [f32; 3],
}

impl Preprocessor {
    /// With mean and standard deviation of ImageNet, which DINO, DINOv2 and DeiT were trained with.
    pub fn imagenet(geometry: Geometry) -> Self {
        Self { geometry, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// The encoder's input as the official code has it: `[3, crop, crop]`, red, green, blue.
    pub fn pixels(&self, photo: &Photo) -> Vec<f32> {
        let crop = self.geometry.square::<3>(&photo.rgb, photo.width, photo.height);
        let values = self.values();
        let channel = |c: usize| crop.iter().skip(c).step_by(3).map(move |&byte| values[c][usize::from(byte)]);
        (0..3).flat_map(channel).collect()
    }

    /// The same as rows for a patch embedding written as a linear layer: `[grid², 3 · patch²]`, patches row by row, inside
    /// a patch by channel, row, column, as a convolution's weight `[width, 3, patch, patch]` is laid out. `patch` must have
    /// passed [`Geometry::validate`].
    pub fn patches(&self, photo: &Photo, patch: usize) -> Vec<f32> {
        let Geometry { crop: side, .. } = self.geometry;
        let grid = self.geometry.grid(patch);
        let crop = self.geometry.square::<3>(&photo.rgb, photo.width, photo.height);
        let values = self.values();
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

    /// The normalised value of every byte, by channel: `(byte / 255 - mean) / std`, each step rounded to f32 as in torchvision.
    fn values(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }
}

/// `preprocessor_config.json` of a `BitImageProcessor`: the Hugging Face class that resizes to a fixed size, cuts the
/// centre and normalises.
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
/// Pillow's number of its bilinear filter.
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
        Ok(Self { geometry, mean: file.image_mean, std: file.image_std })
    }
}
