//! Photo file → upright 8-bit RGB. The format is detected from the content, never from the name.
//!
//! Colours follow Pillow's `convert("RGB")`, as in the official data loader: alpha is dropped, not blended; 16-bit grey is
//! clipped at 255, so that such photos become nearly white, unless a [`Window`] is given; other 16-bit samples keep their high
//! byte; CMYK JPEGs are read
//! as Adobe's (inverted). Colour profiles are ignored. Results are equal to Pillow's, except for JPEG, where decoders round
//! and smooth differently (measured: grey photos 1 level, colour 5, below a third of a level on average), CMYK TIFF (1), and
//! 16-bit TIFF with white as zero or in separate planes, which Pillow misreads.
//!
//! Deliberate difference: the EXIF orientation is applied, as in browsers and photo viewers. The official loader ignores it.
//! Training, evaluation and the page all decode here, so that they agree.

mod pixels;
mod tiff_kinds;

use std::fmt::Display;
use std::io::{Cursor, ErrorKind};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::photo::window::Window;
use crate::{Error, Result};

pub use pixels::Pixels;

/// Largest number of pixels of a photo: 360 MB of RGB, more than the 108 megapixels of the largest common camera.
pub const MAX_PIXELS: u64 = 120_000_000;

/// Largest number of pixels along a side, the limit of JPEG. Without it a photo one pixel wide and 120 million high would need
/// gigabytes, because the intermediate picture of a resize is as high as the photo.
pub const MAX_SIDE: u32 = 65_535;

/// Limit of a decoder's allocations in bytes: 16 bytes per pixel hold 16-bit RGBA twice.
const MAX_ALLOCATION: u64 = 16 * MAX_PIXELS;

/// A decoded photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `3 · width · height` bytes, row by row, red, green, blue.
    pub rgb: Vec<u8>,
}

impl Photo {
    /// Decodes a PNG, JPEG, BMP, TIFF or WebP file, of several frames or pages the first. `name` is used in error messages only.
    /// For a model's photos use [`Detector::decode`](crate::Detector::decode), which knows its window for 16-bit grey.
    ///
    /// # Errors
    /// [`Error::Photo`] if the file is no picture, of another format, damaged, cut off, or larger than [`MAX_PIXELS`] or
    /// [`MAX_SIDE`] (checked before pixels are allocated).
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        Self::decode_in(name, bytes, None)
    }

    /// [`Photo::decode`] with a window for 16-bit grey. Without it values above 255 are white.
    ///
    /// # Errors
    /// As [`Photo::decode`].
    pub fn decode_in(name: &str, bytes: &[u8], window: Option<Window>) -> Result<Self> {
        decode(bytes, window).map_err(|reason| Error::Photo { name: name.into(), reason })
    }

    /// The picture turned as the EXIF orientation of another file says; unchanged if that has none.
    pub fn turned_as(self, file: &[u8]) -> Self {
        let orientation = open(file).ok().and_then(|(_, mut decoder)| decoder.orientation().ok());
        let (Some(orientation), Some(picture)) =
            (orientation, RgbImage::from_raw(self.width, self.height, self.rgb.clone()))
        else {
            return self;
        };
        let mut picture = DynamicImage::ImageRgb8(picture);
        picture.apply_orientation(orientation);
        Self { width: picture.width(), height: picture.height(), rgb: picture.into_bytes() }
    }
}

/// What the beginning of a photo file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Width and height, after rotation.
    pub size: [u32; 2],
    /// Whether its EXIF orientation exchanges width and height.
    pub turned: bool,
}

/// Reads the header of a photo file, of which `bytes` may be the beginning. `name` is used in error messages only.
///
/// # Errors
/// As [`Photo::decode`], but for damage behind the header.
pub fn header(name: &str, bytes: &[u8]) -> Result<Header> {
    let read = || {
        let (_, mut decoder) = open(bytes)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height)?;
        let turned = exchanges_sides(decoder.orientation().unwrap_or(Orientation::NoTransforms));
        Ok(Header { size: if turned { [height, width] } else { [width, height] }, turned })
    };
    read().map_err(|reason| Error::Photo { name: name.into(), reason })
}

/// [`Photo::decode`], with errors that do not have the name.
fn decode(bytes: &[u8], window: Option<Window>) -> std::result::Result<Photo, String> {
    let (orientation, image) = decoded(bytes)?;
    let (width, height) = (image.width(), image.height());
    let rgb = RgbImage::from_raw(width, height, to_rgb(image, window)?).ok_or("the decoder returned another size")?;
    let mut upright = DynamicImage::ImageRgb8(rgb);
    upright.apply_orientation(orientation);
    Ok(Photo { width: upright.width(), height: upright.height(), rgb: upright.into_bytes() })
}

/// Values of a photo of 16-bit grey, to choose a window; `None` of any other.
///
/// # Errors
/// As [`Photo::decode`].
pub fn grey16(name: &str, bytes: &[u8]) -> Result<Option<Vec<u16>>> {
    match decoded(bytes) {
        Ok((_, DynamicImage::ImageLuma16(image))) => Ok(Some(image.into_raw())),
        Ok(_) => Ok(None),
        Err(reason) => Err(Error::Photo { name: name.into(), reason }),
    }
}

/// The picture as it lies in the file, and its orientation.
fn decoded(bytes: &[u8]) -> std::result::Result<(Orientation, DynamicImage), String> {
    let (format, mut decoder) = open(bytes)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if !is_whole(format, bytes) {
        return Err(cut_off(format));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| explain(format, bytes, &error))?;
    Ok((orientation, image))
}

/// The decoder of a file, which has read its header.
fn open(bytes: &[u8]) -> std::result::Result<(ImageFormat, impl ImageDecoder), String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    let format = match format(bytes) {
        Some(
            format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff | ImageFormat::WebP),
        ) => format,
        Some(other) => return Err(format!("{other:?} files are not supported: convert the photo to PNG or JPEG")),
        None => return Err("not a PNG, JPEG, BMP, TIFF or WebP picture".into()),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| explain(format, bytes, &error))?;
    match decoder.color_type() {
        colours @ (ColorType::Rgb32F | ColorType::Rgba32F) => {
            Err(unsupported(format, bytes, format_args!("{colours:?}")))
        }
        _ => Ok((format, decoder)),
    }
}

/// Format of a picture file, from its first bytes; `None` if it is no picture.
pub fn format(bytes: &[u8]) -> Option<ImageFormat> {
    // The decoder reads files beyond 4 GB, too, but does not know their first bytes: findings/image-bigtiff-guess.sh.
    let is_big_tiff = [b"II\x2b\0", b"MM\0\x2b"].iter().any(|first| bytes.starts_with(*first));
    if is_big_tiff { Some(ImageFormat::Tiff) } else { image::guess_format(bytes).ok() }
}

fn exchanges_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn check_size(width: u32, height: u32) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("a picture of {width}x{height} pixels is empty"));
    }
    if pixels > MAX_PIXELS {
        return Err(format!(
            "{width}x{height} pixels are {} megapixels, the limit is {}: scale it down or crop it",
            pixels.div_ceil(1_000_000),
            MAX_PIXELS / 1_000_000
        ));
    }
    if width.max(height) > MAX_SIDE {
        return Err(format!("{width}x{height} pixels: the limit is {MAX_SIDE} along a side, scale it down or crop it"));
    }
    Ok(())
}

/// Pillow's `convert("RGB")`, and its conversion of 16-bit files.
fn to_rgb(image: DynamicImage, window: Option<Window>) -> std::result::Result<Vec<u8>, String> {
    let high_byte = |sample: u16| (sample >> 8) as u8;
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma8(image) => three_channels(&image, 1, |sample| sample),
        DynamicImage::ImageLumaA8(image) => three_channels(&image, 2, |sample| sample),
        DynamicImage::ImageRgba8(image) => three_channels(&image, 4, |sample| sample),
        DynamicImage::ImageLuma16(image) => levels(&image, window),
        DynamicImage::ImageLumaA16(image) => three_channels(&image, 2, high_byte),
        DynamicImage::ImageRgb16(image) => three_channels(&image, 3, high_byte),
        DynamicImage::ImageRgba16(image) => three_channels(&image, 4, high_byte),
        other => {
            return Err(format!("samples of type {:?} are not supported: convert the photo to 8 bits", other.color()));
        }
    })
}

/// 16-bit grey in a window.
fn levels(samples: &[u16], window: Option<Window>) -> Vec<u8> {
    match window {
        Some(window) => three_channels(samples, 1, |sample| window.level(sample)),
        None => three_channels(samples, 1, |sample| sample.min(255) as u8),
    }
}

/// Repeats grey for three channels, and drops alpha.
fn three_channels<T: Copy>(samples: &[T], channels: usize, to_byte: impl Fn(T) -> u8) -> Vec<u8> {
    samples
        .chunks_exact(channels)
        .flat_map(|pixel| if channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] })
        .map(to_byte)
        .collect()
}

/// Whether a file is complete, for the formats whose decoders do not always check it.
fn is_whole(format: ImageFormat, bytes: &[u8]) -> bool {
    match format {
        ImageFormat::Jpeg => jpeg_reaches_its_end(bytes),
        // The container's second word is the length of the rest.
        ImageFormat::WebP => match bytes.get(4..8) {
            Some(length) => {
                bytes.len() as u64 >= 8 + u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]]))
            }
            None => false,
        },
        _ => true,
    }
}

/// Whether a JPEG has its end marker. The decoder silently fills missing data with grey; Pillow refuses it.
///
/// Every 0xFF begins a marker: inside compressed data only stuffed zeros and restart markers follow it. Other markers have a
/// length and are skipped, together with a preview picture inside them.
fn jpeg_reaches_its_end(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut at = 2;
    while let Some(step) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xFF)) {
        at += step + 1;
        match bytes.get(at) {
            Some(&END_OF_IMAGE) => return true,
            Some(0xFF) => {}
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(length) => at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
            None => return false,
        }
    }
    false
}

fn cut_off(format: ImageFormat) -> String {
    format!("the {format:?} file is cut off before the end of the picture: copy it again")
}

/// A decoder's error as one sentence.
fn explain(format: ImageFormat, bytes: &[u8], error: &ImageError) -> String {
    match error {
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => cut_off(format),
        _ if !is_whole(format, bytes) => cut_off(format),
        ImageError::Unsupported(e) => unsupported(format, bytes, e),
        ImageError::Limits(_) => {
            format!("the {format:?} file asks for more than {} MB of memory", MAX_ALLOCATION >> 20)
        }
        _ => format!("the {format:?} file is damaged ({error})"),
    }
}

/// Why a file of a supported format is not read.
fn unsupported(format: ImageFormat, bytes: &[u8], details: impl Display) -> String {
    let named = (format == ImageFormat::Tiff).then(|| tiff_kinds::refusal(bytes)).flatten();
    named.unwrap_or_else(|| format!("this kind of {format:?} is not supported: convert the photo to PNG ({details})"))
}

#[cfg(test)]
mod tests;
