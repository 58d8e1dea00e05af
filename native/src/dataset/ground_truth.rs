//! Ground-truth masks of defective photos.

use std::fs;

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::decode::Photo;

use super::TestPhoto;

/// Most values that number kinds of defects.
const MOST_KINDS: usize = 14;

/// First bytes of a JPEG.
const JPEG: [u8; 3] = [0xFF, 0xD8, 0xFF];

impl TestPhoto {
    /// The union of a photo's masks, for a photo of `size` pixels: white where a mask is not black, because VisA's masks number the
    /// kinds of defects from 1. In a JPEG, and in a mask with many values, as smoothing gives, it is white from half of the largest on. A
    /// mask that was drawn on the photo as it lies in its file, without its EXIF orientation, is turned with it. `None` for a good photo, and if the class has no masks.
    ///
    /// # Errors
    /// If a mask is missing, unreadable or of another size; the error names it.
    pub fn ground_truth(&self, size: (u32, u32)) -> Result<Option<Photo>> {
        let mut united: Option<Photo> = None;
        for path in &self.masks {
            if !path.is_file() {
                bail!("mask {} of photo {} is missing", path.display(), self.path.display());
            }
            let read = || -> Result<(Vec<u8>, Photo)> {
                let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
                let mask = Photo::decode(&path.display().to_string(), &bytes)?;
                Ok((bytes, mask))
            };
            let (bytes, mut mask) = read().with_context(|| format!("mask of photo {}", self.path.display()))?;
            if (mask.width, mask.height) != size && (mask.height, mask.width) == size {
                // Drawn on the photo as it lies in its file.
                mask = mask.turned_as(&fs::read(&self.path).unwrap_or_default());
            }
            let (width, height) = (mask.width, mask.height);
            if (width, height) != size {
                bail!("mask {} is {width} × {height} pixels, its photo {} × {}", path.display(), size.0, size.1);
            }
            let least = least_defect(&bytes, &mask.rgb);
            mask.rgb.iter_mut().for_each(|value| *value = if *value < least { 0 } else { u8::MAX });
            match &mut united {
                Some(united) => united.rgb.iter_mut().zip(&mask.rgb).for_each(|(all, one)| *all |= one),
                None => united = Some(mask),
            }
        }
        Ok(united)
    }
}

/// Smallest value that is a defect in a mask, given as its file and its decoded values.
fn least_defect(file: &[u8], mask: &[u8]) -> u8 {
    let largest = mask.iter().copied().max().unwrap_or_default();
    if is_lossy(file, mask) { largest.div_ceil(2).max(1) } else { 1 }
}

/// Whether values between black and white mean nothing: the mask is a JPEG, or has more values than a data set has kinds of defects
/// because its edges are smooth.
pub(super) fn is_lossy(file: &[u8], mask: &[u8]) -> bool {
    let mut seen = [false; 256];
    mask.iter().for_each(|&value| seen[usize::from(value)] = true);
    let values = seen[1..].iter().filter(|&&seen| seen).count();
    values > if file.starts_with(&JPEG) { 1 } else { MOST_KINDS }
}

/// Share of a mask's values that are a defect.
pub(super) fn defect_share(file: &[u8], mask: &[u8]) -> f64 {
    let least = least_defect(file, mask);
    mask.iter().filter(|&&value| value >= least).count() as f64 / mask.len().max(1) as f64
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
    #[test]
    fn lossy_edges_are_no_defect() {
        let clean: Vec<u8> = vec![0, 0, 1, 2, 255];
        assert!(!is_lossy(b"", &clean));
        assert_eq!((least_defect(b"", &clean), defect_share(b"", &clean)), (1, 0.6));
        assert_eq!((least_defect(&JPEG, &clean), defect_share(&JPEG, &clean)), (128, 0.2));
        let lossy: Vec<u8> = (0..20).map(|i| i * 12).collect();
        assert!(is_lossy(b"", &lossy));
        assert_eq!((least_defect(b"", &lossy), defect_share(b"", &lossy)), (114, 0.5));
        assert_eq!((defect_share(b"", &[0; 9]), defect_share(&JPEG, &[0; 9])), (0.0, 0.0));
    }

    #[test]
    fn a_mask_is_turned_with_its_photo() {
        let root = Root::with(&[]);
        let (path, mask) = (root.path("photo.jpg"), root.path("mask.png"));
        let mut jpeg = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(4, 3).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
        // EXIF with the one tag 0x0112, orientation 6: turn clockwise by 90 degrees.
        let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let head = [&[0xFF, 0xD8, 0xFF, 0xE1, 0, exif.len() as u8 + 2][..], exif].concat();
        std::fs::write(&path, [&head, &jpeg.get_ref()[2..]].concat()).unwrap();
        let mut drawn = image::GrayImage::new(4, 3);
        drawn.put_pixel(0, 0, image::Luma([255]));
        drawn.save(&mask).unwrap();
        let photo = TestPhoto { path, masks: vec![mask], ..TestPhoto::default() };
        let turned = photo.ground_truth((3, 4)).unwrap().unwrap();
        let white: Vec<usize> = (0..12).filter(|pixel| turned.rgb[3 * pixel] == 255).collect();
        assert_eq!(
            (turned.width, turned.height, white),
            (3, 4, vec![2]),
            "the corner above on the left is now on the right"
        );
    }
}
