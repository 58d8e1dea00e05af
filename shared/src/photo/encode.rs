//! Picture → file: a heatmap goes to disk, into a page or over a network as PNG.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::decode::Photo;
use crate::{Error, Result};

impl Photo {
    /// The picture as a PNG file.
    ///
    /// # Errors
    /// [`Error::Photo`] if it has no pixels, or `rgb` does not hold `3 · width · height` bytes.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let Self { width, height, rgb } = self;
        let refuse = |reason: String| Error::Photo { name: "to be written as PNG".into(), reason };
        let expected = 3 * u64::from(*width) * u64::from(*height);
        if rgb.len() as u64 != expected {
            return Err(refuse(format!("{width}x{height} pixels are {expected} bytes, found {}", rgb.len())));
        }
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(rgb, *width, *height, ExtendedColorType::Rgb8)
            .map_err(|error| refuse(error.to_string()))?;
        Ok(png)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_holds_the_pixels() {
        let photo = Photo { width: 7, height: 5, rgb: (0..105).collect() };
        assert_eq!(Photo::decode("photo", &photo.to_png().unwrap()).unwrap(), photo);
    }

    #[test]
    fn a_picture_that_is_not_whole_is_refused() {
        let error = Photo { width: 7, height: 5, rgb: vec![0; 104] }.to_png().unwrap_err().to_string();
        assert_eq!(error, "photo to be written as PNG: 7x5 pixels are 105 bytes, found 104");
        assert!(Photo { width: 0, height: 5, rgb: Vec::new() }.to_png().is_err());
    }
}
