//! A photo → overlapping tiles, each the model's input, and patches of the tiles → patches of the photo.
//!
//! A small defect of a large photo is lost when all of the photo is resized to one square. In tiles it is as large as the model needs.
//! A patch near a tile's border knows little of what is around it, so that each place of the photo is taken from the tile in which it
//! is most central (as in SuperADD, arXiv 2605.14808).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::photo::decode::Photo;
use crate::photo::preprocess::Geometry;
use crate::photo::resize::{resize, resize_part};
use crate::{Error, Result};

/// Overlapping tiles of a photo. A photo that is smaller than a tile is resized to one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiles {
    /// Side of a tile in pixels of the photo. It is resized to the model's input.
    pub size: usize,
    /// Share of its side that a tile has in common with the next one, at least.
    pub overlap: f64,
}

impl Tiles {
    /// Largest side of a tile in pixels.
    pub const MAX_SIZE: usize = 1 << 16;

    /// Usual overlap: of a place's surroundings, no less than an eighth of a tile is seen on each side.
    pub const OVERLAP: f64 = 0.25;

    /// A pixel of the photo is enlarged to at most so many of the model's input along each axis.
    const LARGEST_SCALE: usize = 8;

    /// Tiles of this side with the usual overlap.
    pub fn new(size: usize) -> Self {
        Self { size, overlap: Self::OVERLAP }
    }

    /// Checks that the tiles fit a model's input.
    ///
    /// # Errors
    /// [`Error::Config`] naming the wrong value.
    pub fn check(&self, geometry: Geometry) -> Result<()> {
        let Geometry { resize, crop } = geometry;
        if resize != crop {
            return Err(Error::config(format!(
                "tiles cover all of a photo, and a crop of {crop} pixels out of {resize} leaves its border out: resize to {crop}"
            )));
        }
        let smallest = crop.div_ceil(Self::LARGEST_SCALE);
        if !(smallest..=Self::MAX_SIZE).contains(&self.size) {
            return Err(Error::config(format!(
                "tiles of {} pixels cannot be resized to {crop}: their side must lie between {smallest} and {}",
                self.size,
                Self::MAX_SIZE
            )));
        }
        if !(0.0..=0.75).contains(&self.overlap) {
            return Err(Error::config(format!("tiles overlap by {}: it must lie between 0 and 0.75", self.overlap)));
        }
        Ok(())
    }

    /// Tiles of a photo of this width and height. `geometry` is checked, `patch` the side of a patch in pixels of the model's input.
    pub fn plan(&self, (width, height): (u32, u32), geometry: Geometry, patch: usize) -> TilePlan {
        let grid = geometry.grid(patch);
        let line = |pixels: u32| {
            let patches = (f64::from(pixels) * grid as f64 / self.size as f64).round() as usize;
            Line::new(patches.max(grid), grid, self.overlap)
        };
        TilePlan { grid, patch, across: line(width), down: line(height) }
    }
}

/// Places of a photo's tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TilePlan {
    /// Side of a tile in patches.
    grid: usize,
    /// Side of a patch in pixels of the model's input.
    patch: usize,
    across: Line,
    down: Line,
}

/// Tiles along one axis, in patches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// Of the whole photo.
    patches: usize,
    /// First patch of each tile.
    starts: Vec<usize>,
    /// Patches that are taken from each tile: those whose centres are closest to its own.
    taken: Vec<Range<usize>>,
}

impl Line {
    /// As few tiles of `grid` patches as `patches` need with this overlap, evenly spread.
    fn new(patches: usize, grid: usize, overlap: f64) -> Self {
        let common = ((overlap * grid as f64).ceil() as usize).min(grid - 1);
        let steps = (patches - grid).div_ceil(grid - common);
        let starts: Vec<usize> =
            (0..=steps).map(|i| (i * (patches - grid) + steps / 2).checked_div(steps).unwrap_or(0)).collect();
        // Half way between the centres of two tiles.
        let edges = starts.windows(2).map(|pair| (pair[0] + pair[1] + grid).div_ceil(2)).chain([patches]);
        let taken = edges
            .scan(0, |first, end| {
                let taken = *first..end;
                *first = end;
                Some(taken)
            })
            .collect();
        Self { patches, starts, taken }
    }
}

impl TilePlan {
    /// Number of tiles.
    pub fn count(&self) -> usize {
        self.across.starts.len() * self.down.starts.len()
    }

    /// Patches along the photo's height and width.
    pub fn patches(&self) -> [usize; 2] {
        [self.down.patches, self.across.patches]
    }

    /// Share of the photo that a tile covers.
    pub fn share(&self) -> f64 {
        (self.grid * self.grid) as f64 / (self.down.patches * self.across.patches) as f64
    }

    /// Column and row of a tile.
    fn place(&self, tile: usize) -> (usize, usize) {
        (tile % self.across.starts.len(), tile / self.across.starts.len())
    }

    /// A tile of the photo, resized to the model's input: `[crop, crop, 3]`. The rest of the photo is not resized.
    pub fn cut(&self, photo: &Photo, tile: usize) -> Vec<u8> {
        let (column, row) = self.place(tile);
        let pixels = |start: usize| start * self.patch..(start + self.grid) * self.patch;
        resize_part::<3>(
            &photo.rgb,
            (photo.width as usize, photo.height as usize),
            (self.across.patches * self.patch, self.down.patches * self.patch),
            pixels(self.across.starts[column]),
            pixels(self.down.starts[row]),
        )
    }

    /// Puts the patches `[grid, grid, channels]` of a tile to their places among those of the photo, `[rows, columns, channels]`. Only
    /// those that are more central here than in other tiles are taken.
    pub fn stitch<T: Copy>(&self, tile: usize, patches: &[T], channels: usize, photo: &mut [T]) {
        let (column, row) = self.place(tile);
        let (taken, left, top) = (&self.across.taken[column], self.across.starts[column], self.down.starts[row]);
        let length = taken.len() * channels;
        for y in self.down.taken[row].clone() {
            let from = ((y - top) * self.grid + taken.start - left) * channels;
            let to = (y * self.across.patches + taken.start) * channels;
            photo[to..][..length].copy_from_slice(&patches[from..][..length]);
        }
    }

    /// Ground-truth mask in the shape `[height, width]` of the photo's map: a pixel counts as defective if a defect touches it. The
    /// mask may be of another size than its photo.
    pub fn mask(&self, mask: &Photo, [height, width]: [usize; 2]) -> Vec<bool> {
        let grey: Vec<u8> = mask.rgb.chunks_exact(3).map(|p| p[0].max(p[1]).max(p[2])).collect();
        let resized = resize::<1>(&grey, (mask.width as usize, mask.height as usize), (width, height));
        resized.into_iter().map(|value| value != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { resize: 16, crop: 16 };

    fn photo(width: u32, height: u32) -> Photo {
        Photo { width, height, rgb: (0..width * height * 3).map(|i| (i * i % 251) as u8).collect() }
    }

    #[test]
    fn tiles_cover_every_patch_once_and_each_from_the_tile_whose_centre_is_closest() {
        for grid in [1, 2, 5, 14, 28] {
            for patches in grid..5 * grid + 3 {
                for overlap in [0.0, 0.25, 0.5, 0.75] {
                    let line = Line::new(patches, grid, overlap);
                    let common = (overlap * grid as f64) as usize;
                    assert!(line.starts.windows(2).all(|s| s[0] < s[1] && s[0] + grid >= s[1] + common.min(grid - 1)));
                    assert_eq!((line.starts[0], line.starts[line.starts.len() - 1] + grid), (0, patches));
                    assert_eq!(
                        line.taken.iter().cloned().flatten().collect::<Vec<_>>(),
                        (0..patches).collect::<Vec<_>>()
                    );
                    for (tile, taken) in line.taken.iter().enumerate() {
                        for patch in taken.clone() {
                            // Twice the distance to a tile's centre.
                            let off = |start: usize| (2 * patch + 1).abs_diff(2 * start + grid);
                            let least = line.starts.iter().map(|&start| off(start)).min();
                            assert_eq!(Some(off(line.starts[tile])), least, "{grid}, {patches}, {overlap}: {patch}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_photo_that_fits_one_tile_is_cut_as_without_tiles() {
        let tiles = Tiles::new(40);
        for (width, height) in [(40, 40), (31, 17), (3, 40)] {
            let plan = tiles.plan((width, height), GEOMETRY, 4);
            assert_eq!((plan.count(), plan.patches(), plan.share()), (1, [4, 4], 1.0));
            let photo = photo(width, height);
            assert_eq!(plan.cut(&photo, 0), GEOMETRY.cut(&photo));
        }
    }

    #[test]
    fn tiles_are_squares_of_the_resized_photo() {
        let plan = Tiles::new(20).plan((103, 47), GEOMETRY, 4);
        // 103 · 4 / 20 = 20.6 and 47 · 4 / 20 = 9.4 patches.
        assert_eq!(plan.patches(), [9, 21]);
        let photo = photo(103, 47);
        let (width, height) = (21 * 4, 9 * 4);
        let whole = resize::<3>(&photo.rgb, (103, 47), (width, height));
        let mut seen = vec![false; 9 * 21];
        for tile in 0..plan.count() {
            let (column, row) = plan.place(tile);
            let (left, top) = (4 * plan.across.starts[column], 4 * plan.down.starts[row]);
            let expected: Vec<u8> =
                (top..top + 16).flat_map(|y| &whole[3 * (y * width + left)..][..3 * 16]).copied().collect();
            assert_eq!(plan.cut(&photo, tile), expected, "tile {tile}");
            plan.stitch(tile, &[true; 16], 1, &mut seen);
        }
        assert!(seen.into_iter().all(|seen| seen));
    }

    #[test]
    fn patches_go_where_they_were() {
        let plan = Tiles::new(20).plan((103, 47), GEOMETRY, 4);
        let (mut photo, [rows, columns]) = (vec![0; 2 * 9 * 21], plan.patches());
        for tile in 0..plan.count() {
            let (column, row) = plan.place(tile);
            let (left, top) = (plan.across.starts[column], plan.down.starts[row]);
            let number = |i: usize| (top + i / 4) * columns + left + i % 4;
            let patches: Vec<usize> = (0..16).flat_map(|i| [number(i), 1000 + number(i)]).collect();
            plan.stitch(tile, &patches, 2, &mut photo);
        }
        assert_eq!(photo, (0..rows * columns).flat_map(|i| [i, 1000 + i]).collect::<Vec<_>>());
    }

    #[test]
    fn a_mask_keeps_the_smallest_defect() {
        let plan = Tiles::new(20).plan((100, 60), GEOMETRY, 4);
        let mut mask = Photo { width: 100, height: 60, rgb: vec![0; 3 * 100 * 60] };
        mask.rgb[3 * (31 * 100 + 77)] = 255;
        let found = plan.mask(&mask, [6, 10]);
        let found: Vec<usize> = (0..60).filter(|&i| found[i]).collect();
        assert!(found.contains(&(3 * 10 + 7)) && found.len() <= 4, "{found:?}");
    }

    #[test]
    fn tiles_that_do_not_fit_are_refused() {
        let refusal = |tiles: Tiles, resize| tiles.check(Geometry { resize, crop: 16 }).unwrap_err().to_string();
        assert!(refusal(Tiles::new(40), 20).contains("a crop of 16 pixels out of 20 leaves its border out"));
        assert!(refusal(Tiles::new(1), 16).contains("tiles of 1 pixels cannot be resized to 16"));
        assert!(refusal(Tiles::new(usize::MAX), 16).contains("must lie between 2 and 65536"));
        for overlap in [-0.1, 0.8, f64::NAN] {
            assert!(refusal(Tiles { overlap, ..Tiles::new(40) }, 16).contains("between 0 and 0.75"));
        }
        Tiles::new(40).check(GEOMETRY).unwrap();
    }
}
