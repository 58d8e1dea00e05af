//! Pixels that another program decoded → upright 8-bit RGB, as if they came from a file.

use super::{Photo, check_size, levels, three_channels};
use crate::photo::window::Window;
use crate::{Error, Result};

/// Decoded pixels, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Red, green and blue of each pixel.
    Rgb(&'a [u8]),
    /// Red, green, blue and alpha of each pixel. Alpha is dropped, as from files.
    Rgba(&'a [u8]),
    /// A value for each pixel.
    Grey(&'a [u8]),
    /// A value of 16 bits for each pixel.
    Grey16(&'a [u16]),
}

impl Photo {
    /// A photo of pixels in memory, with a window for 16-bit grey. Without it values above 255 are white. `name` is used in error
    /// messages only.
    ///
    /// # Errors
    /// [`Error::Photo`] if it is empty or larger than a file may be, or there are more or fewer values than pixels of this size have.
    pub fn of_pixels(
        name: &str,
        [width, height]: [u32; 2],
        pixels: Pixels<'_>,
        window: Option<Window>,
    ) -> Result<Self> {
        let refuse = |reason: String| Error::Photo { name: name.into(), reason };
        check_size(width, height).map_err(refuse)?;
        let pixel_count = width as usize * height as usize;
        let (expected, found) = match pixels {
            Pixels::Rgb(values) => (3 * pixel_count, values.len()),
            Pixels::Rgba(values) => (4 * pixel_count, values.len()),
            Pixels::Grey(values) => (pixel_count, values.len()),
            Pixels::Grey16(values) => (pixel_count, values.len()),
        };
        if found != expected {
            return Err(refuse(format!("{found} values, and {width}x{height} pixels have {expected}")));
        }
        let rgb = match pixels {
            Pixels::Rgb(values) => values.to_vec(),
            Pixels::Rgba(values) => three_channels(values, 4, |value| value),
            Pixels::Grey(values) => three_channels(values, 1, |value| value),
            Pixels::Grey16(values) => levels(values, window),
        };
        Ok(Self { width, height, rgb })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageBuffer, ImageFormat, Luma};

    use super::*;

    #[test]
    fn pixels_are_what_their_file_is() {
        let values: Vec<u16> = (0..12).map(|i| i * 90).collect();
        let mut file = Cursor::new(Vec::new());
        let picture = ImageBuffer::<Luma<u16>, _>::from_raw(4, 3, values.clone()).unwrap();
        picture.write_to(&mut file, ImageFormat::Png).unwrap();
        for window in [None, Some(Window::new(100, 800).unwrap())] {
            let of_file = Photo::decode_in("a.png", file.get_ref(), window).unwrap();
            assert_eq!(Photo::of_pixels("a", [4, 3], Pixels::Grey16(&values), window).unwrap(), of_file);
        }
        let grey = Photo::of_pixels("a", [2, 1], Pixels::Grey(&[7, 9]), None).unwrap();
        assert_eq!(grey, Photo::of_pixels("a", [2, 1], Pixels::Rgb(&[7, 7, 7, 9, 9, 9]), None).unwrap());
        assert_eq!(grey, Photo::of_pixels("a", [2, 1], Pixels::Rgba(&[7, 7, 7, 0, 9, 9, 9, 255]), None).unwrap());
    }

    #[test]
    fn pixels_that_do_not_fit_are_refused() {
        let refused =
            |size, values: &[u8]| Photo::of_pixels("a", size, Pixels::Rgb(values), None).unwrap_err().to_string();
        assert!(refused([2, 1], &[0; 5]).contains("5 values, and 2x1 pixels have 6"));
        assert!(refused([0, 1], &[]).contains("is empty"));
        assert!(refused([70_000, 1], &[0; 210_000]).contains("the limit is 65535 along a side"));
    }
}
