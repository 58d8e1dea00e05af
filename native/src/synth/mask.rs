//! Masks: where a photo visibly differs from the photo of the same piece without its defect.

use dinomaly_core::maps::metrics::Regions;
use image::{GrayImage, Luma, RgbImage};

use super::filter::box_blur;

/// Smallest visible difference of a channel, in levels of 255.
const VISIBLE: u8 = 12;

/// Masks the visible change between two photos of one size, and takes everything outside the mask from `good`, so that the
/// two differ within the mask only. Small gaps are closed and specks dropped, as a person drawing the mask would.
pub fn confine(good: &RgbImage, defective: &mut RgbImage) -> GrayImage {
    let size = good.width() as usize;
    let changed = |a: &image::Rgb<u8>, b: &image::Rgb<u8>| (0..3).any(|c| a[c].abs_diff(b[c]) >= VISIBLE);
    let mut mask: Vec<bool> = good.pixels().zip(defective.pixels()).map(|(a, b)| changed(a, b)).collect();
    let reach = (size / 50).max(1);
    mask = shrink(&grow(&mask, size, reach), size, reach);
    drop_specks(&mut mask, size);
    mask = grow(&mask, size, 1);
    for ((bad, good), &inside) in defective.pixels_mut().zip(good.pixels()).zip(&mask) {
        if !inside {
            *bad = *good;
        }
    }
    GrayImage::from_fn(size as u32, size as u32, |x, y| {
        Luma([if mask[y as usize * size + x as usize] { 255 } else { 0 }])
    })
}

/// Visibility of a defect: its share of the picture, and the mean change over the mask in levels of the most changed channel.
pub fn visibility(good: &RgbImage, defective: &RgbImage, mask: &GrayImage) -> (f32, f32) {
    let (mut count, mut change) = (0_u32, 0_u32);
    for ((a, b), inside) in good.pixels().zip(defective.pixels()).zip(mask.pixels()) {
        if inside[0] > 0 {
            count += 1;
            change += (0..3).map(|c| u32::from(a[c].abs_diff(b[c]))).max().unwrap_or(0);
        }
    }
    (count as f32 / (good.width() * good.height()) as f32, change as f32 / count.max(1) as f32)
}

/// Unsets regions of less than 1/2000 of the picture.
fn drop_specks(mask: &mut [bool], size: usize) {
    let regions = Regions::new(mask, size);
    for (inside, &label) in mask.iter_mut().zip(&regions.labels) {
        *inside &= label > 0 && regions.areas[label as usize - 1] * 2000 >= size * size;
    }
}

/// Every pixel within a square of `2·radius + 1` around a set pixel.
fn grow(mask: &[bool], size: usize, radius: usize) -> Vec<bool> {
    let values: Vec<f32> = mask.iter().map(|&m| f32::from(u8::from(m))).collect();
    let least = 0.5 / ((2 * radius + 1) * (2 * radius + 1)) as f32;
    box_blur(&values, size, radius).into_iter().map(|v| v > least).collect()
}

/// Every pixel whose square of `2·radius + 1` is set as a whole.
fn shrink(mask: &[bool], size: usize, radius: usize) -> Vec<bool> {
    let unset: Vec<bool> = mask.iter().map(|&m| !m).collect();
    grow(&unset, size, radius).into_iter().map(|m| !m).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn the_mask_covers_the_change_closes_gaps_and_drops_specks() {
        let good = RgbImage::from_pixel(96, 96, Rgb([100, 100, 100]));
        let mut bad = good.clone();
        for y in 30..50 {
            for x in (30..50).filter(|x| x % 2 == 0) {
                bad.put_pixel(x, y, Rgb([100, 160, 100]));
            }
        }
        bad.put_pixel(5, 5, Rgb([255, 255, 255]));
        bad.put_pixel(80, 80, Rgb([105, 105, 105]));
        let mask = confine(&good, &mut bad);
        assert!((30..49).all(|x| mask.get_pixel(x, 40)[0] == 255));
        assert_eq!([mask.get_pixel(5, 5)[0], mask.get_pixel(80, 80)[0], mask.get_pixel(55, 40)[0]], [0, 0, 0]);
        assert_eq!([bad.get_pixel(5, 5), bad.get_pixel(80, 80)], [good.get_pixel(5, 5); 2]);
        let (area, change) = visibility(&good, &bad, &mask);
        assert!((0.04..0.07).contains(&area) && (20.0..40.0).contains(&change), "{area} {change}");
    }
}
