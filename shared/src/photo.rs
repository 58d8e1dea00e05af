//! Bytes of a photo file → upright 8-bit RGB, with clear refusals. Formats are told from the content, never from the name.
//!
//! Colours follow Pillow's `convert("RGB")`, which the official data loader uses: alpha is dropped, not blended; 16-bit
//! grey is clipped at 255, so that such photos become nearly white, while other 16-bit samples keep their high byte; CMYK
//! JPEGs count as Adobe's (inverted). Colour profiles are ignored. JPEG decoders differ by a few levels from each other,
//! everything else is exact.
//!
//! Deliberate difference: the EXIF orientation is applied, as browsers and photo viewers do. The official loader leaves
//! such photos lying on their side. Training, evaluation and the page all decode here, so that they agree.

use std::io::{Cursor, ErrorKind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::{Error, Result};

/// The most pixels that a photo may have: 360 MB of RGB, more than the largest common camera's 108 megapixels.
pub const MAX_PIXELS: u64 = 120_000_000;

/// The most pixels along a side, JPEG's own limit. The intermediate picture of a resize is as high as the photo, so that
/// a photo one pixel wide and 120 million high would need gigabytes.
pub const MAX_SIDE: u32 = 65_535;

/// What decoders may allocate besides reading the file: 16 bytes a pixel hold RGBA of 16 bits twice.
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
    /// Decodes a PNG, JPEG, BMP, TIFF or WebP file (of several frames or pages the first). `name` is for messages only.
    ///
    /// # Errors
    /// [`Error::Photo`] for what is no picture, is of another format, damaged, cut off, or larger than [`MAX_PIXELS`] or
    /// [`MAX_SIDE`] (found out before any pixel is allocated).
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        decode(bytes).map_err(|reason| Error::Photo { name: name.into(), reason })
    }
}

/// [`Photo::decode`], the reason of a refusal without the name.
fn decode(bytes: &[u8]) -> std::result::Result<Photo, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.limits(limits);
    let reader = reader.with_guessed_format().map_err(|e| e.to_string())?;
    let format = match reader.format() {
        Some(
            format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff | ImageFormat::WebP),
        ) => format,
        Some(other) => return Err(format!("{other:?} files are not read, convert it to PNG or JPEG")),
        None => return Err("not a PNG, JPEG, BMP, TIFF or WebP picture".into()),
    };
    let explain = |error| explain(format, bytes, &error);
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(cut_off(format));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(explain)?;
    let rgb = RgbImage::from_raw(width, height, to_rgb(image)?).ok_or("the decoder returned another size")?;
    let mut upright = DynamicImage::ImageRgb8(rgb);
    upright.apply_orientation(orientation);
    Ok(Photo { width: upright.width(), height: upright.height(), rgb: upright.into_bytes() })
}

fn check_size(width: u32, height: u32) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(format!("{width}x{height} pixels hold no picture"));
    }
    if pixels > MAX_PIXELS {
        return Err(format!(
            "{width}x{height} pixels are {} megapixels, the limit is {}: scale it down or cut it",
            pixels.div_ceil(1_000_000),
            MAX_PIXELS / 1_000_000
        ));
    }
    if width.max(height) > MAX_SIDE {
        return Err(format!("{width}x{height} pixels: the limit is {MAX_SIDE} along a side, cut it into pieces"));
    }
    Ok(())
}

/// Pillow's `convert("RGB")`, and its reading of 16-bit files.
fn to_rgb(image: DynamicImage) -> std::result::Result<Vec<u8>, String> {
    let high_byte = |sample: u16| (sample >> 8) as u8;
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageLuma8(image) => three_channels(&image, 1, |sample| sample),
        DynamicImage::ImageLumaA8(image) => three_channels(&image, 2, |sample| sample),
        DynamicImage::ImageRgba8(image) => three_channels(&image, 4, |sample| sample),
        DynamicImage::ImageLuma16(image) => three_channels(&image, 1, |sample| sample.min(255) as u8),
        DynamicImage::ImageLumaA16(image) => three_channels(&image, 2, high_byte),
        DynamicImage::ImageRgb16(image) => three_channels(&image, 3, high_byte),
        DynamicImage::ImageRgba16(image) => three_channels(&image, 4, high_byte),
        other => return Err(format!("samples of type {:?} are not read, convert it to 8 bits", other.color())),
    })
}

/// Repeats grey three times and drops alpha.
fn three_channels<T: Copy>(samples: &[T], channels: usize, to_byte: impl Fn(T) -> u8) -> Vec<u8> {
    samples
        .chunks_exact(channels)
        .flat_map(|pixel| if channels < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] })
        .map(to_byte)
        .collect()
}

/// Whether a JPEG reaches its end marker. The decoder fills what is missing with grey and says nothing; Pillow refuses.
///
/// Every 0xFF begins a marker: inside compressed data only stuffed zeros and restart markers follow it. Other markers
/// carry a length and are skipped, with the preview picture that may hide inside.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
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
    format!("the {format:?} file is cut off before the end of the picture, copy it again")
}

/// One sentence for what a decoder refused.
fn explain(format: ImageFormat, bytes: &[u8], error: &ImageError) -> String {
    match error {
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => cut_off(format),
        _ if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) => cut_off(format),
        ImageError::Unsupported(e) => format!("this kind of {format:?} is not read, convert it to PNG ({e})"),
        ImageError::Limits(_) => {
            format!("the {format:?} file asks for more than {} MB of memory", MAX_ALLOCATION >> 20)
        }
        _ => format!("the {format:?} file is damaged ({error})"),
    }
}
