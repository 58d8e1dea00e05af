//! A photo in tiles: distances of each tile's patches → one map and score of the photo.

use super::{Detection, Detector, Seen};
use crate::Result;
use crate::maps::score::every;
use crate::ops::Read;
use crate::photo::decode::Photo;

/// Tiles of a photo that go through the model at once.
pub const TILES_AT_ONCE: usize = 4;

impl<O: Read> Detector<O> {
    /// [`Detector::detect`] for a photo, of whose tiles `batch` at a time are in memory. A model that does not look at tiles takes the
    /// photo as one.
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub async fn detect_in_tiles(&self, photo: &Photo, batch: usize) -> Result<Detection> {
        let Some(plan) = self.preparation.tile_plan(photo) else {
            let seen = self.see(&[self.prepare(photo)]).await?.remove(0);
            return Ok(self.detection(photo, seen));
        };
        let (layout, [rows, columns]) = (&self.preparation.layout, plan.patches());
        let mut stitched = vec![0.0; rows * columns];
        let mut descriptor = Vec::new();
        for first in (0..plan.count()).step_by(batch.max(1)) {
            let count = batch.max(1).min(plan.count() - first);
            let cut = every(count, |i| plan.cut(photo, first + i));
            let looked = self.look(&cut)?;
            let both = looked.distances.iter().chain([&looked.descriptor]).collect::<Vec<_>>();
            let mut groups = self.ops.read_back(&both).await?;
            add_rows(&mut descriptor, &groups.pop().unwrap_or_default(), count);
            for (i, distances) in layout.means(&groups, count)?.iter().enumerate() {
                plan.stitch(first + i, distances, 1, &mut stitched);
            }
        }
        // That of a photo is the mean of its tiles'.
        descriptor.iter_mut().for_each(|value| *value /= plan.count() as f32);
        let map = layout.stitched(&stitched, [rows, columns])?;
        Ok(self.detection(photo, Seen { map, descriptor }))
    }
}

/// Adds so many rows to a sum of rows, which is empty before the first one.
pub(crate) fn add_rows(sum: &mut Vec<f32>, rows: &[f32], count: usize) {
    let width = rows.len() / count;
    sum.resize(width, 0.0);
    rows.chunks_exact(width).for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::bundle::Model;
    use crate::bundle::tests::model;
    use crate::executors::reference::Reference;
    use crate::photo::preprocess::Geometry;
    use crate::photo::tiles::Tiles;

    /// A model of 3 × 3 patches that sees tiles of this side.
    fn tiled(size: Option<usize>) -> Model {
        let mut model = model();
        model.preprocessor.geometry = Geometry { resize: 6, crop: 6 };
        model.preprocessor.tiles = size.map(Tiles::new);
        model
    }

    fn photo(width: u32, height: u32) -> Photo {
        Photo { width, height, rgb: (0..3 * width * height).map(|i| (i * i % 251) as u8).collect() }
    }

    #[test]
    fn a_photo_that_fits_one_tile_is_detected_as_without_tiles() {
        let detector = |size| Detector::new(Reference, &tiled(size)).unwrap();
        for (width, height) in [(40, 40), (31, 17), (5, 40)] {
            let photo = photo(width, height);
            let (found, expected) = (detector(Some(40)).detect_now(&photo), detector(None).detect_now(&photo));
            assert_eq!(found.unwrap(), expected.unwrap());
        }
        let mask = Photo { rgb: photo(31, 17).rgb.into_iter().map(|v| u8::from(v > 240)).collect(), ..photo(31, 17) };
        assert_eq!(detector(Some(40)).preparation().mask(&mask), detector(None).preparation().mask(&mask));
    }

    #[test]
    fn the_map_has_the_aspect_of_the_photo_and_does_not_depend_on_the_batch() {
        let detector = Detector::new(Reference, &tiled(Some(10))).unwrap();
        let photo = photo(63, 31);
        let found = detector.detect_now(&photo).unwrap();
        // 63 · 3 / 10 = 18.9 and 31 · 3 / 10 = 9.3 patches, each 256 / 3 pixels of the map.
        assert_eq!((found.map.width, found.map.height, found.map.values.len()), (1621, 768, 1621 * 768));
        assert_eq!((found.region.x0, found.region.y0, found.region.x1, found.region.y1), (0.0, 0.0, 63.0, 31.0));
        for batch in [1, 7, 1000] {
            assert_eq!(block_on(detector.detect_in_tiles(&photo, batch)).unwrap(), found, "{batch}");
        }
        assert_eq!(block_on(detector.detect(&[photo.clone(), photo.clone()])).unwrap(), [found.clone(), found.clone()]);
        // As many values as are 1 % of a tile's 256².
        let mut values = found.map.values.clone();
        values.sort_by(|a, b| b.total_cmp(a));
        let of_tile = values[..655].iter().map(|&v| f64::from(v)).sum::<f64>() / 655.0;
        assert!((f64::from(found.score) - of_tile).abs() < 1e-4 * of_tile, "{} is not {of_tile}", found.score);
        let mask = Photo { rgb: vec![0; 3 * 63 * 31], ..photo };
        assert_eq!(detector.preparation().mask(&mask).len(), found.map.values.len());
    }

    #[test]
    fn a_defect_is_where_it_is_and_leaves_other_tiles_as_they_are() {
        let detector = Detector::new(Reference, &tiled(Some(6))).unwrap();
        let (width, height) = (60, 24);
        let mut photo = Photo { width, height, rgb: vec![128; (3 * width * height) as usize] };
        let even = detector.detect_now(&photo).unwrap();
        for (x, y) in (37..40).flat_map(|x| (10..13).map(move |y| (x, y))) {
            photo.rgb[(3 * (y * width + x)) as usize..][..3].copy_from_slice(&[255, 0, 0]);
        }
        let found = detector.detect_now(&photo).unwrap();
        let changed = |i: &usize| (found.map.values[*i] - even.map.values[*i]).abs() > 1e-4;
        let places: Vec<(usize, usize)> = (0..found.map.values.len())
            .filter(changed)
            .map(|i| (i % found.map.width * 60 / found.map.width, i / found.map.width * 24 / found.map.height))
            .collect();
        assert!(!places.is_empty() && places.iter().all(|(x, y)| (30..48).contains(x) && (4..20).contains(y)));
        assert_ne!(found.score, even.score);
    }

    #[test]
    fn a_tile_that_is_no_number_is_refused() {
        let mut model = tiled(Some(10));
        let bias = model.weights.0.get_mut("decoder.3.mlp.fc2.bias").unwrap();
        *bias = crate::tensor::HostTensor::f32(bias.shape.clone(), vec![f32::NAN; bias.shape[0]]).unwrap();
        let error = Detector::new(Reference, &model).unwrap().detect_now(&photo(63, 31)).unwrap_err().to_string();
        assert!(error.contains("the distance NaN, expected a finite number"), "{error}");
    }
}
