//! The colour format of a picture file.

use std::fmt;
use std::io::Cursor;

use dinomaly_core::photo::decode;
use image::{ExtendedColorType, ImageDecoder, ImageFormat, ImageReader};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;

/// Colour formats that are read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colours {
    /// RGB of 8 bits.
    Rgb,
    /// Grey of up to 8 bits.
    Grey,
    /// Grey of 16 bits.
    Grey16,
    /// Colours of more than 8 bits.
    Deep,
    /// 8 bits, with transparency.
    Alpha,
    /// CMYK.
    Cmyk,
}

impl fmt::Display for Colours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb => "colour",
            Self::Grey => "grey",
            Self::Grey16 => "16-bit grey",
            Self::Deep => "16-bit colour",
            Self::Alpha => "transparent",
            Self::Cmyk => "CMYK",
        })
    }
}

impl Colours {
    /// File format and colour format of a file; `None` if it cannot be decoded.
    pub fn of(bytes: &[u8]) -> Option<(ImageFormat, Self)> {
        let format = decode::format(bytes)?;
        if format == ImageFormat::Jpeg {
            let mut decoder = JpegDecoder::new(ZCursor::new(bytes));
            decoder.decode_headers().ok()?;
            if matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK)) {
                return Some((format, Self::Cmyk));
            }
        }
        let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().ok()?;
        let colours = match decoder.original_color_type() {
            ExtendedColorType::L1 | ExtendedColorType::L2 | ExtendedColorType::L4 | ExtendedColorType::L8 => Self::Grey,
            ExtendedColorType::L16 => Self::Grey16,
            ExtendedColorType::La8 | ExtendedColorType::Rgba8 | ExtendedColorType::Bgra8 => Self::Alpha,
            ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16 => Self::Cmyk,
            ExtendedColorType::La16 => Self::Deep,
            other if other.bits_per_pixel() > 32 => Self::Deep,
            _ => Self::Rgb,
        };
        Some((format, colours))
    }
}

#[cfg(test)]
mod tests {
    use image::DynamicImage;

    use super::*;

    #[test]
    fn colours_are_told_from_the_file() {
        let of = |image: DynamicImage, format| {
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, format).unwrap();
            Colours::of(file.get_ref()).map(|(_, colours)| colours)
        };
        for (image, format, expected) in [
            (DynamicImage::new_rgb8(3, 2), ImageFormat::Jpeg, Colours::Rgb),
            (DynamicImage::new_luma8(3, 2), ImageFormat::Jpeg, Colours::Grey),
            (DynamicImage::new_luma8(3, 2), ImageFormat::Png, Colours::Grey),
            (DynamicImage::new_luma16(3, 2), ImageFormat::Png, Colours::Grey16),
            (DynamicImage::new_luma16(3, 2), ImageFormat::Tiff, Colours::Grey16),
            (DynamicImage::new_rgb16(3, 2), ImageFormat::Png, Colours::Deep),
            (DynamicImage::new_rgba8(3, 2), ImageFormat::WebP, Colours::Alpha),
        ] {
            assert_eq!(of(image, format), Some(expected), "{format:?}");
        }
        assert_eq!(Colours::of(b"no picture"), None);
    }

    /// A BigTIFF of one pixel made by hand, because no encoder here writes one.
    #[test]
    fn a_big_tiff_has_colours() {
        let tags: [(u16, u64); 6] = [(256, 1), (257, 1), (258, 16), (262, 1), (273, 0), (279, 2)];
        let entry = |(tag, value): (u16, u64)| {
            [&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0, 0, 0, 0, 0], &value.to_le_bytes()].concat()
        };
        let entries: Vec<u8> = tags.into_iter().flat_map(entry).collect();
        let file = [&b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0"[..], &entries, &[0; 8]].concat();
        assert_eq!(Colours::of(&file), Some((ImageFormat::Tiff, Colours::Grey16)));
    }

    /// A CMYK file made by hand, because no encoder here writes one: four components in the frame header, and Adobe's marker.
    #[test]
    fn four_components_are_inks() {
        let frame = [0xFF, 0xC0, 0, 20, 8, 0, 8, 0, 8, 4, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0];
        let adobe = [&[0xFF, 0xEE, 0, 14][..], b"Adobe", &[0, 100, 0, 0, 0, 0, 0]].concat();
        let scan = [0xFF, 0xDA, 0, 14, 4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0, 0xFF, 0xD9];
        let file = [&[0xFF, 0xD8][..], &adobe, &frame, &scan].concat();
        assert_eq!(Colours::of(&file), Some((ImageFormat::Jpeg, Colours::Cmyk)));
    }
}
