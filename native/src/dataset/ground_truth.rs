//! Ground-truth masks of defective photos.

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::decode::Photo;

use super::{TestPhoto, read_photo};

impl TestPhoto {
    /// The union of a photo's masks, for a photo of `size` pixels: white where a mask is not black, because VisA's masks number the
    /// kinds of defects from 1. `None` for a good photo, and if the class has no masks.
    ///
    /// # Errors
    /// If a mask is missing, unreadable or of another size; the error names it.
    pub fn ground_truth(&self, size: (u32, u32)) -> Result<Option<Photo>> {
        let mut united: Option<Photo> = None;
        for path in &self.masks {
            if !path.is_file() {
                bail!("mask {} of photo {} is missing", path.display(), self.path.display());
            }
            let mut mask = read_photo(path).with_context(|| format!("mask of photo {}", self.path.display()))?;
            let (width, height) = (mask.width, mask.height);
            if (width, height) != size {
                bail!("mask {} is {width} × {height} pixels, its photo {} × {}", path.display(), size.0, size.1);
            }
            mask.rgb.iter_mut().for_each(|value| *value = if *value == 0 { 0 } else { u8::MAX });
            match &mut united {
                Some(united) => united.rgb.iter_mut().zip(&mask.rgb).for_each(|(all, one)| *all |= one),
                None => united = Some(mask),
            }
        }
        Ok(united)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    #[test]
    fn masks_are_united_and_any_number_counts() {
        let root = Root::with(&[]);
        let masks = ["000.png", "001.bmp"].map(|name| root.path(name));
        for (i, path) in masks.iter().enumerate() {
            let mut mask = image::GrayImage::new(4, 3);
            mask.put_pixel(i as u32, 1, image::Luma([1 + 100 * i as u8]));
            mask.save(path).unwrap();
        }
        let mut photo = TestPhoto { masks: masks.to_vec(), ..TestPhoto::default() };
        let united = photo.ground_truth((4, 3)).unwrap().unwrap();
        let white: Vec<usize> = (0..12).filter(|pixel| united.rgb[3 * pixel..][..3] == [255; 3]).collect();
        assert_eq!(white, [4, 5]);
        let error = photo.ground_truth((3, 4)).unwrap_err().to_string();
        assert!(error.contains("000.png is 4 × 3 pixels, its photo 3 × 4"), "{error}");
        photo.masks[1] = root.path("002.png");
        assert!(photo.ground_truth((4, 3)).unwrap_err().to_string().contains("002.png of photo"));
        photo.masks.clear();
        assert_eq!(photo.ground_truth((4, 3)).unwrap(), None);
    }
}
