//! Photo file → upright 8-bit RGB. The format is detected from the content, never from the name.
//!
//! Colours follow Pillow's `convert("RGB")`, as in the official data loader: alpha is dropped, not blended; 16-bit grey is
//! clipped at 255, so that such photos become nearly white; other 16-bit samples keep their high byte; CMYK JPEGs are read
//! as Adobe's (inverted). Colour profiles are ignored. Results are equal to Pillow's, except for JPEG, where decoders round
//! and smooth differently (measured: grey photos 1 level, colour 5, below a third of a level on average), and CMYK TIFF (1).
//!
//! Deliberate difference: the EXIF orientation is applied, as in browsers and photo viewers. The official loader ignores it.
//! Training, evaluation and the page all decode here, so that they agree.

use std::io::{Cursor, ErrorKind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::{Error, Result};

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
    ///
    /// # Errors
    /// [`Error::Photo`] if the file is no picture, of another format, damaged, cut off, or larger than [`MAX_PIXELS`] or
    /// [`MAX_SIDE`] (checked before pixels are allocated).
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        decode(bytes).map_err(|reason| Error::Photo { name: name.into(), reason })
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
fn decode(bytes: &[u8]) -> std::result::Result<Photo, String> {
    let (format, mut decoder) = open(bytes)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if !is_whole(format, bytes) {
        return Err(cut_off(format));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| explain(format, bytes, &error))?;
    let rgb = RgbImage::from_raw(width, height, to_rgb(image)?).ok_or("the decoder returned another size")?;
    let mut upright = DynamicImage::ImageRgb8(rgb);
    upright.apply_orientation(orientation);
    Ok(Photo { width: upright.width(), height: upright.height(), rgb: upright.into_bytes() })
}

/// The decoder of a file, which has read its header.
fn open(bytes: &[u8]) -> std::result::Result<(ImageFormat, impl ImageDecoder), String> {
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
        Some(other) => return Err(format!("{other:?} files are not supported: convert the photo to PNG or JPEG")),
        None => return Err("not a PNG, JPEG, BMP, TIFF or WebP picture".into()),
    };
    Ok((format, reader.into_decoder().map_err(|error| explain(format, bytes, &error))?))
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
        other => {
            return Err(format!("samples of type {:?} are not supported: convert the photo to 8 bits", other.color()));
        }
    })
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
        ImageError::Unsupported(e) => {
            format!("this kind of {format:?} is not supported: convert the photo to PNG ({e})")
        }
        ImageError::Limits(_) => {
            format!("the {format:?} file asks for more than {} MB of memory", MAX_ALLOCATION >> 20)
        }
        _ => format!("the {format:?} file is damaged ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Pixel, PixelWithColorType, Rgb, Rgba};

    use super::*;

    const FORMATS: [ImageFormat; 5] =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP];

    fn encode<P>(image: &ImageBuffer<P, Vec<P::Subpixel>>, format: ImageFormat) -> Vec<u8>
    where
        P: Pixel + PixelWithColorType,
        [P::Subpixel]: image::EncodableLayout,
    {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    /// Gradient of red to the right and green downwards.
    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 40]))
    }

    fn refusal(bytes: &[u8]) -> String {
        Photo::decode("part 7.jpg", bytes).expect_err("a refusal").to_string()
    }

    #[test]
    fn what_is_no_picture_is_refused_by_name() {
        assert_eq!(refusal(b""), "photo part 7.jpg: the file is empty");
        let unknown = "photo part 7.jpg: not a PNG, JPEG, BMP, TIFF or WebP picture";
        assert_eq!(refusal(b"Dear diary, today I photographed a screw."), unknown);
        assert_eq!(refusal(&[0; 1000]), unknown);
        assert_eq!(
            refusal(b"GIF89a\x01\0\x01\0"),
            "photo part 7.jpg: Gif files are not supported: convert the photo to PNG or JPEG"
        );
        assert!(refusal(b"\x89PNG\r\n\x1a\n\0\0\0\x0djunk and more junk and more").contains("Png file is damaged"));
    }

    #[test]
    fn the_format_is_told_from_the_content() {
        for format in FORMATS {
            let photo = Photo::decode("misleading.txt", &encode(&gradient(9, 5), format)).unwrap();
            assert_eq!((photo.width, photo.height), (9, 5), "{format:?}");
            assert_eq!(photo.rgb.len(), 9 * 5 * 3, "{format:?}");
        }
    }

    /// A file cut anywhere is refused, or read in full if only data after the picture is missing.
    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        for format in FORMATS {
            let whole = encode(&gradient(33, 21), format);
            let photo = Photo::decode("whole", &whole).unwrap();
            let mut read = Vec::new();
            for length in 1..whole.len() {
                match Photo::decode("cut", &whole[..length]) {
                    Ok(cut) => {
                        assert_eq!(cut, photo, "{format:?} cut to {length} of {} bytes", whole.len());
                        read.push(length);
                    }
                    Err(error) => assert!(error.to_string().starts_with("photo cut: "), "{error}"),
                }
            }
            let trailer = if format == ImageFormat::Png { 16 } else { 0 };
            assert!(
                read.iter().all(|length| whole.len() - length <= trailer),
                "{format:?}: read although cut to {read:?}"
            );
            let half = refusal(&whole[..whole.len() / 2]);
            assert_eq!(half, format!("photo part 7.jpg: {}", cut_off(format)));
        }
    }

    #[test]
    fn no_damage_makes_the_decoder_panic() {
        for format in FORMATS {
            let whole = encode(&gradient(24, 16), format);
            for at in 0..whole.len() {
                for bits in [0x01, 0x80, 0xFF] {
                    let mut damaged = whole.clone();
                    damaged[at] ^= bits;
                    // Some damage only changes colours; the result must be a picture or an error, never a panic.
                    if let Ok(photo) = Photo::decode("damaged", &damaged) {
                        assert_eq!(photo.rgb.len(), 3 * photo.width as usize * photo.height as usize);
                    }
                }
            }
        }
    }

    #[test]
    fn one_pixel_is_a_photo() {
        for format in FORMATS {
            let photo = Photo::decode("1x1", &encode(&RgbImage::from_pixel(1, 1, Rgb([90, 90, 90])), format)).unwrap();
            assert_eq!(photo, Photo { width: 1, height: 1, rgb: vec![90; 3] }, "{format:?}");
        }
    }

    #[test]
    fn a_huge_photo_is_refused_by_its_header() {
        for format in FORMATS {
            let small = encode(&gradient(8, 8), format);
            let (width, height) = if format == ImageFormat::WebP { (16383, 16383) } else { (20_000, 20_000) };
            let error = refusal(&with_size(small, format, width, height));
            let megapixels = (u64::from(width) * u64::from(height)).div_ceil(1_000_000);
            let expected = format!("{width}x{height} pixels are {megapixels} megapixels, the limit is 120");
            assert!(error.contains(&expected), "{format:?}: {error}");
        }
    }

    #[test]
    fn a_long_strip_is_refused_by_its_header() {
        let small = encode(&gradient(8, 8), ImageFormat::Png);
        let error = refusal(&with_size(small, ImageFormat::Png, 1, 1_000_000));
        assert!(error.contains("1x1000000 pixels: the limit is 65535 along a side"), "{error}");
    }

    /// The file with another size in its header.
    fn with_size(mut file: Vec<u8>, format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let find = |file: &[u8], bytes: &[u8]| file.windows(bytes.len()).position(|w| w == bytes).unwrap();
        match format {
            ImageFormat::Png => {
                file[16..20].copy_from_slice(&width.to_be_bytes());
                file[20..24].copy_from_slice(&height.to_be_bytes());
                let crc = crc32(&file[12..29]);
                file[29..33].copy_from_slice(&crc.to_be_bytes());
            }
            ImageFormat::Jpeg => {
                let frame = find(&file, &[0xFF, 0xC0]);
                file[frame + 5..frame + 7].copy_from_slice(&(height as u16).to_be_bytes());
                file[frame + 7..frame + 9].copy_from_slice(&(width as u16).to_be_bytes());
            }
            ImageFormat::Bmp => {
                file[18..22].copy_from_slice(&width.to_le_bytes());
                file[22..26].copy_from_slice(&height.to_le_bytes());
            }
            ImageFormat::Tiff => {
                // Tags 256 and 257, each one LONG.
                for (tag, side) in [(256u16, width), (257, height)] {
                    let [low, high] = tag.to_le_bytes();
                    let entry = find(&file, &[low, high, 4, 0, 1, 0, 0, 0]);
                    file[entry + 8..entry + 12].copy_from_slice(&side.to_le_bytes());
                }
            }
            ImageFormat::WebP => {
                // Two sides of 14 bits, each less 1.
                let bits = (width - 1) | (height - 1) << 14;
                let header = find(&file, b"VP8L") + 9;
                file[header..header + 4].copy_from_slice(&bits.to_le_bytes());
            }
            other => panic!("{other:?}"),
        }
        file
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
        })
    }

    #[test]
    fn grey_alpha_and_16_bits_become_what_pillow_makes_of_them() {
        let rgb = |bytes: Vec<u8>| Photo::decode("photo", &bytes).unwrap().rgb;
        let grey = image::GrayImage::from_raw(3, 1, vec![0, 90, 255]).unwrap();
        assert_eq!(rgb(encode(&grey, ImageFormat::Png)), [0, 0, 0, 90, 90, 90, 255, 255, 255]);
        let clear = image::RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 0]));
        assert_eq!(rgb(encode(&clear, ImageFormat::Png)), [10, 20, 30], "alpha is dropped, not blended");
        let grey16 = ImageBuffer::<image::Luma<u16>, _>::from_raw(3, 1, vec![7u16, 255, 40_000]).unwrap();
        assert_eq!(rgb(encode(&grey16, ImageFormat::Png)), [7, 7, 7, 255, 255, 255, 255, 255, 255], "clipped");
        let rgb16 = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![0x12FFu16, 0x8000, 0xFFFF]).unwrap();
        assert_eq!(rgb(encode(&rgb16, ImageFormat::Png)), [0x12, 0x80, 0xFF], "high byte");
        let float = ImageBuffer::<Rgb<f32>, _>::from_raw(1, 1, vec![0.5f32; 3]).unwrap();
        assert!(refusal(&encode(&float, ImageFormat::Tiff)).contains("convert the photo to 8 bits"));
    }

    #[test]
    fn a_photo_lying_on_its_side_is_turned_upright() {
        let jpeg = encode(&gradient(32, 16), ImageFormat::Jpeg);
        let lying = Photo::decode("lying", &jpeg).unwrap();
        // EXIF with the one tag 0x0112, orientation 6: turn clockwise by 90 degrees.
        let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut turned = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, exif.len() as u8 + 2];
        turned.extend(exif);
        turned.extend(&jpeg[2..]);
        let upright = Photo::decode("upright", &turned).unwrap();
        assert_eq!((upright.width, upright.height), (16, 32));
        for (x, y) in [(0, 0), (15, 0), (3, 29)] {
            let from = 3 * ((15 - x) * 32 + y);
            let to = 3 * (y * 16 + x);
            assert_eq!(upright.rgb[to..to + 3], lying.rgb[from..from + 3], "at {x}, {y}");
        }
    }

    #[test]
    fn a_preview_inside_does_not_pass_for_the_end() {
        let (preview, jpeg) =
            (encode(&gradient(8, 8), ImageFormat::Jpeg), encode(&gradient(32, 16), ImageFormat::Jpeg));
        let mut file = vec![0xFF, 0xD8, 0xFF, 0xE2];
        file.extend((preview.len() as u16 + 2).to_be_bytes());
        file.extend(&preview);
        file.extend(&jpeg[2..]);
        assert!(Photo::decode("with preview", &file).is_ok());
        assert!(refusal(&file[..file.len() - 100]).contains("cut off"));
    }
}
