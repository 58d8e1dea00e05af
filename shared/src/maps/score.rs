//! Distance maps → anomaly map → image score, as in the official evaluation.
//!
//! Bilinear resize to the side of the model's input (`align_corners=True`), then to 256 (`align_corners=False`), blur by a 5×5
//! Gaussian with zero padding (which darkens borders), mean of the highest 1 % of the pixels.

#[cfg(any(feature = "candle", feature = "processor"))]
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use serde::{Deserialize, Serialize};

use super::interpolate::{aligned_taps, centred_taps, enlarge, interpolate_columns};
pub use super::interpolate::{resize_bilinear, upsample_align_corners};
use crate::{Error, Result};

/// Side of the anomaly map in pixels, for scores, heatmaps and metrics.
pub const MAP_SIDE: usize = 256;

/// Longest side of a map of a photo that is stitched of tiles, in pixels: more would show no more, and take much memory.
const LONGEST: usize = 2048;

/// Share of most anomalous pixels whose mean is the image score.
pub const TOP_SHARE: f64 = 0.01;

/// Standard deviation of the blur in pixels; its kernel is cut to [`KERNEL`] pixels.
const SIGMA: f64 = 4.0;

/// Side of the blur's kernel in pixels.
const KERNEL: usize = 5;

/// Padding of an anomaly map for its blur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapBorder {
    /// Zeros: pixels near the border count less (official code).
    #[default]
    Zero,
    /// The map mirrored at its outermost pixels (anomalib).
    Reflect,
}

/// Anomaly of each pixel: cosine distances from 0 (normal) to 2.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyMap {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[height, width]`, row by row.
    pub values: Vec<f32>,
}

impl AnomalyMap {
    /// A map as wide as high, of `side²` values.
    pub fn square(side: usize, values: Vec<f32>) -> Self {
        Self { width: side, height: side, values }
    }

    /// Highest value; negative infinity for an empty map. A photo shows a region above a pixel threshold if this is higher.
    pub fn peak(&self) -> f32 {
        self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The two heights of a photo's map that thresholds are set by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heights {
    /// Image score, the mean of a share of the values.
    pub score: f32,
    /// Highest value.
    pub peak: f32,
}

impl Heights {
    /// The heights of a map whose score averages this share of its values.
    pub fn of(map: &AnomalyMap, score_share: f64) -> Self {
        Self { score: mean_of_highest(&map.values, score_share), peak: map.peak() }
    }
}

/// Parameters that turn distances of tokens into a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapLayout {
    /// Number of tokens before the first patch, which are not part of the map.
    pub prefix: usize,
    /// Side of the grid in patches.
    pub grid: usize,
    /// Side of the encoder's input in pixels.
    pub input_side: usize,
    /// Padding for the blur.
    pub border: MapBorder,
}

impl MapLayout {
    /// Number of tokens of a photo.
    pub fn tokens(&self) -> usize {
        self.prefix + self.grid * self.grid
    }

    /// The [`anomaly_map`] of each photo from every group's distances `[photos, tokens]`.
    ///
    /// # Errors
    /// As [`anomaly_map`].
    pub fn maps(&self, groups: &[Vec<f32>], photos: usize) -> Result<Vec<AnomalyMap>> {
        self.check(groups, photos)?;
        let map_of =
            |photo: usize| anomaly_map(&self.of_patches(groups, photo), self.grid, self.input_side, self.border);
        // Copied, because the allocator keeps memory with the thread that allocated it, and the caller may keep the maps.
        let maps = every(photos, map_of).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(maps.clone())
    }

    /// The mean over groups of the distances of a photo's patches `[grid²]`, of every photo.
    ///
    /// # Errors
    /// [`Error::Shape`] if a group does not have as many distances as the photos have tokens.
    pub fn means(&self, groups: &[Vec<f32>], photos: usize) -> Result<Vec<Vec<f32>>> {
        self.check(groups, photos)?;
        Ok((0..photos).map(|photo| mean(&self.of_patches(groups, photo))).collect())
    }

    fn check(&self, groups: &[Vec<f32>], photos: usize) -> Result<()> {
        let tokens = self.tokens();
        match groups.iter().find(|group| group.len() != photos * tokens) {
            None => Ok(()),
            Some(group) => {
                let (expected, found) = (vec![photos, tokens], vec![group.len()]);
                Err(Error::Shape { name: "distances read back".into(), expected, found })
            }
        }
    }

    /// Distances of a photo's patches in each group.
    fn of_patches<'a>(&self, groups: &'a [Vec<f32>], photo: usize) -> Vec<&'a [f32]> {
        let of_patches = photo * self.tokens() + self.prefix..(photo + 1) * self.tokens();
        groups.iter().map(|group| &group[of_patches.clone()]).collect()
    }

    /// Height and width of the map of `[rows, columns]` patches that were stitched of tiles: as many pixels for each patch as the map
    /// of a photo that is one tile, but at most 2048 on the longer side.
    pub fn stitched_size(&self, patches: [usize; 2]) -> [usize; 2] {
        let longest = patches[0].max(patches[1]);
        let of_longest = (MAP_SIDE * longest / self.grid).min(LONGEST.max(MAP_SIDE));
        patches.map(|patches| ((patches * of_longest) as f64 / longest as f64).round().max(1.0) as usize)
    }

    /// The map of the distances `[rows, columns]` of patches that were stitched of tiles; that of [`anomaly_map`] if they are one tile.
    ///
    /// # Errors
    /// As [`anomaly_map`].
    pub fn stitched(&self, distances: &[f32], [rows, columns]: [usize; 2]) -> Result<AnomalyMap> {
        check_distances(&[distances], [rows, columns])?;
        let pixels = [rows, columns].map(|patches| self.input_side * patches / self.grid);
        let [height, width] = self.stitched_size([rows, columns]);
        let values = gaussian_blur(&enlarge(distances, [rows, columns], pixels, [height, width]), width, self.border);
        Ok(AnomalyMap { width, height, values })
    }

    /// Matrix `[MAP_SIDE, grid]` of what [`anomaly_map`] does along one axis. Every step is linear and the same along both axes, so
    /// that the map of the mean distances `d` is `axis · d · axisᵀ`, except for rounding. Grid and picture must not be empty.
    pub fn axis(&self) -> Vec<f32> {
        let Self { grid, input_side, .. } = *self;
        // A column for each patch, the only one on the grid that is not zero.
        let mut patches = vec![0.0; grid * grid];
        patches.iter_mut().step_by(grid + 1).for_each(|patch| *patch = 1.0);
        let upsampled = interpolate_columns(&patches, grid, &aligned_taps(grid, input_side));
        let resized = interpolate_columns(&upsampled, grid, &centred_taps(input_side, MAP_SIDE));
        blur_columns(&resized, grid, self.border)
    }
}

/// Calls `make` for every photo or tile, on all cores if there are threads.
pub(crate) fn every<T: Send>(photos: usize, make: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    let photos = 0..photos;
    #[cfg(any(feature = "candle", feature = "processor"))]
    let photos = photos.into_par_iter();
    photos.map(make).collect()
}

/// Blurred map of side [`MAP_SIDE`] from each group's patch distances `[grid, grid]`, class and register tokens excluded.
/// `input_side` is the side of the encoder's input in pixels.
///
/// # Errors
/// [`Error::Config`] if there are no groups or a side is 0, [`Error::Shape`] if a group does not have `grid²` values,
/// [`Error::Tensor`] if a distance is not finite, because the executor computed wrongly.
pub fn anomaly_map(groups: &[&[f32]], grid: usize, input_side: usize, border: MapBorder) -> Result<AnomalyMap> {
    if groups.is_empty() || grid == 0 || input_side == 0 {
        return Err(Error::config(format!(
            "an anomaly map needs at least one group, patch and pixel, found {} groups of {grid}² patches for {input_side}² pixels",
            groups.len()
        )));
    }
    check_distances(groups, [grid; 2])?;
    let values = gaussian_blur(&enlarge(&mean(groups), [grid; 2], [input_side; 2], [MAP_SIDE; 2]), MAP_SIDE, border);
    Ok(AnomalyMap::square(MAP_SIDE, values))
}

fn check_distances(groups: &[&[f32]], [rows, columns]: [usize; 2]) -> Result<()> {
    for (i, group) in groups.iter().enumerate() {
        let name = || format!("distances of group {i}");
        if group.len() != rows * columns {
            return Err(Error::Shape { name: name(), expected: vec![rows, columns], found: vec![group.len()] });
        }
        if let Some(at) = group.iter().position(|d| !d.is_finite()) {
            let reason = format!("patch {at} has the distance {}, expected a finite number", group[at]);
            return Err(Error::Tensor { name: name(), reason });
        }
    }
    Ok(())
}

/// Mean of the groups' maps, all of one length.
///
/// The official code upsamples each group first. Upsampling is linear, so only rounding differs (by at most 4e-7 in the golden
/// maps, of values up to 1.4), and one map takes less time than several.
pub fn mean(groups: &[&[f32]]) -> Vec<f32> {
    let count = groups.len() as f32;
    (0..groups.first().map_or(0, |g| g.len())).map(|i| groups.iter().map(|g| g[i]).sum::<f32>() / count).collect()
}

/// One axis of the blur's separable kernel. Sums to 1.
pub fn gaussian_kernel() -> [f32; KERNEL] {
    let weights: [f64; KERNEL] = std::array::from_fn(|i| {
        let x = i as f64 - (KERNEL / 2) as f64;
        (-x * x / (2.0 * SIGMA * SIGMA)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|w| (w / sum) as f32)
}

/// Blurs `[height, width]` with [`gaussian_kernel`] along rows and columns.
pub fn gaussian_blur(values: &[f32], width: usize, border: MapBorder) -> Vec<f32> {
    let kernel = gaussian_kernel();
    let mirrored = mirrored(&kernel, width, border);
    let mut rows = vec![0.0; values.len()];
    for (row, out) in values.chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
        for (weight, shift) in kernel.iter().zip(0..) {
            let (from, to) = shifted(shift, width);
            add_scaled(&mut out[to..], &row[from..], *weight);
        }
        for &(to, from, weight) in &mirrored {
            out[to] += weight * row[from];
        }
    }
    blur_columns(&rows, width, border)
}

/// Blurs the columns of `[height, width]`.
fn blur_columns(values: &[f32], width: usize, border: MapBorder) -> Vec<f32> {
    let (kernel, height) = (gaussian_kernel(), values.len() / width);
    let mut blurred = vec![0.0; values.len()];
    for (weight, shift) in kernel.iter().zip(0..) {
        let (from, to) = shifted(shift, height);
        add_scaled(&mut blurred[to * width..], &values[from * width..], *weight);
    }
    for (to, from, weight) in mirrored(&kernel, height, border) {
        add_scaled(&mut blurred[to * width..][..width], &values[from * width..], weight);
    }
    blurred
}

/// Kernel entries that fall outside of a line of pixels, as result, mirrored source (torch: `reflect`) and weight. Empty with
/// zero padding.
fn mirrored(kernel: &[f32; KERNEL], side: usize, border: MapBorder) -> Vec<(usize, usize, f32)> {
    if border == MapBorder::Zero {
        return Vec::new();
    }
    let half = (KERNEL / 2) as isize;
    let last = side as isize - 1;
    let reflected = |at: isize| if at < 0 { -at } else { 2 * last - at }.clamp(0, last) as usize;
    let entries =
        (0..=last).flat_map(|to| kernel.iter().zip(-half..=half).map(move |(&weight, shift)| (to, to + shift, weight)));
    entries
        .filter(|(_, at, _)| !(0..=last).contains(at))
        .map(|(to, at, weight)| (to as usize, reflected(at), weight))
        .collect()
}

/// First source and result pixel for the kernel's entry `shift`: result `i` takes source `i + shift - KERNEL / 2`.
fn shifted(shift: usize, side: usize) -> (usize, usize) {
    (shift.saturating_sub(KERNEL / 2).min(side), (KERNEL / 2).saturating_sub(shift).min(side))
}

/// `out += weight · values`, over the shorter length.
fn add_scaled(out: &mut [f32], values: &[f32], weight: f32) {
    for (o, v) in out.iter_mut().zip(values) {
        *o += weight * v;
    }
}

/// Dinomaly's image score: the mean of the highest 1 %, 655 of 256² pixels.
pub fn image_score(map: &AnomalyMap) -> f32 {
    mean_of_highest(&map.values, TOP_SHARE)
}

/// Number of values in a share of a map: rounded down, but at least one.
pub fn top_count(values: usize, share: f64) -> usize {
    ((values as f64 * share) as usize).max(1)
}

/// Mean of this share of a map's values, the highest ones. NaN if there are none.
pub fn mean_of_highest(values: &[f32], share: f64) -> f32 {
    let mut values = values.to_vec();
    let count = top_count(values.len(), share);
    let Some(start) = values.len().checked_sub(count) else { return f32::NAN };
    values.select_nth_unstable_by(start, f32::total_cmp);
    (values[start..].iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_spreads_a_point_evenly_and_loses_what_leaves_the_border() {
        let mut point = vec![0.0; 49];
        point[24] = 1.0;
        let blurred = gaussian_blur(&point, 7, MapBorder::Zero);
        assert!((blurred.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((blurred[23] - blurred[31]).abs() < 1e-9, "rows and columns are treated alike");
        assert_eq!(blurred[0], 0.0, "three pixels away");
        let ones = gaussian_blur(&[1.0; 49], 7, MapBorder::Zero);
        assert!((ones[24] - 1.0).abs() < 1e-6 && ones[0] < 0.5, "the corner is darkened to {}", ones[0]);
    }

    #[test]
    fn a_mirrored_border_is_not_darkened() {
        let ones = gaussian_blur(&[1.0; 49], 7, MapBorder::Reflect);
        assert!(ones.iter().all(|v| (v - 1.0).abs() < 1e-6), "{ones:?}");
        // The second pixel of a line is on both sides of the first, which is not repeated.
        let mut point = vec![0.0; 49];
        point[7 * 3 + 1] = 1.0;
        let (blurred, k) = (gaussian_blur(&point, 7, MapBorder::Reflect), gaussian_kernel());
        assert!(
            (blurred[7 * 3] - 2.0 * k[1] * k[2]).abs() < 1e-7
                && (blurred[7 * 3 + 1] - (k[2] + k[0]) * k[2]).abs() < 1e-7
        );
        assert_eq!(gaussian_blur(&[2.0], 1, MapBorder::Reflect).len(), 1);
    }

    #[test]
    fn a_map_smaller_than_the_kernel_is_blurred_too() {
        let kernel = gaussian_kernel();
        assert!((gaussian_blur(&[1.0], 1, MapBorder::Zero)[0] - kernel[2] * kernel[2]).abs() < 1e-9);
    }

    /// Executors that make maps themselves rely on this. Measured difference: 3.6e-7 of the largest value.
    #[test]
    fn a_map_is_its_axis_on_both_sides() {
        let mut worst = 0f32;
        for border in [MapBorder::Zero, MapBorder::Reflect] {
            for (grid, input_side) in [(1, 14), (2, 28), (7, 49), (14, 224), (28, 392), (37, 518)] {
                let layout = MapLayout { prefix: 0, grid, input_side, border };
                let distances: Vec<f32> = (0..grid * grid).map(|i| (i * i % 17) as f32 / 12.0).collect();
                let map = layout.maps(std::slice::from_ref(&distances), 1).unwrap().remove(0).values;
                let axis = layout.axis();
                let rows: Vec<&[f32]> = axis.chunks_exact(grid).collect();
                let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                let across: Vec<Vec<f32>> =
                    rows.iter().map(|r| distances.chunks_exact(grid).map(|d| product(r, d)).collect()).collect();
                let largest = map.iter().fold(f32::MIN_POSITIVE, |largest, v| largest.max(v.abs()));
                assert_eq!(rows.len(), MAP_SIDE);
                for (i, value) in map.iter().enumerate() {
                    let found = product(rows[i / MAP_SIDE], &across[i % MAP_SIDE]);
                    let difference = (found - value).abs() / largest;
                    assert!(difference < 4e-6, "{layout:?}: pixel {i} is {value}, by its axes {found}");
                    worst = worst.max(difference);
                }
            }
        }
        println!("largest relative difference {worst:.1e}");
    }

    #[test]
    fn a_stitched_map_is_that_of_one_tile_if_it_is_one_and_else_continues_it() {
        for border in [MapBorder::Zero, MapBorder::Reflect] {
            let layout = MapLayout { prefix: 0, grid: 7, input_side: 49, border };
            let square: Vec<f32> = (0..49).map(|i| (i * i % 17) as f32 / 12.0).collect();
            let one = anomaly_map(&[&square], 7, 49, border).unwrap();
            let steps = resize_bilinear(&upsample_align_corners(&square, 7, 49), 49, MAP_SIDE);
            assert_eq!(one.values, gaussian_blur(&steps, MAP_SIDE, border), "the whole is its steps");
            assert_eq!(layout.stitched(&square, [7, 7]).unwrap(), one);
        }
        // Of equal rows every row of the map is equal but for the darkened border, whatever their number.
        let layout = MapLayout { prefix: 0, grid: 7, input_side: 49, border: MapBorder::Reflect };
        let wide = |rows: usize| {
            layout.stitched(&(0..21).map(|i| i as f32).collect::<Vec<_>>().repeat(rows), [rows, 21]).unwrap()
        };
        let (low, high) = (wide(7), wide(14));
        assert_eq!(([low.height, low.width], [high.height, high.width]), ([256, 768], [512, 768]));
        assert!(low.values[..768].iter().zip(&high.values[300 * 768..]).all(|(a, b)| (a - b).abs() < 2e-5));
        assert!((low.values[384] - 10.0).abs() < 0.1, "the middle");
        assert_eq!(layout.stitched_size([70, 700]), [205, 2048], "at most 2048 pixels");
        assert_eq!(layout.stitched_size([7, 5000]), [3, 2048]);
        assert!(
            layout.stitched(&[0.0; 5], [2, 3]).unwrap_err().to_string().contains("expected shape [2, 3], found [5]")
        );
        assert!(layout.stitched(&[f32::NAN; 6], [2, 3]).unwrap_err().to_string().contains("distance NaN"));
    }

    #[test]
    fn score_is_the_mean_of_the_highest_percent() {
        let mut values: Vec<f32> = (0..400).map(|i| (i * 7 % 400) as f32).collect();
        assert_eq!(image_score(&AnomalyMap::square(20, values.clone())), (396 + 397 + 398 + 399) as f32 / 4.0);
        values.truncate(4);
        assert_eq!(image_score(&AnomalyMap::square(2, values)), 21.0, "at least one pixel");
        assert!(image_score(&AnomalyMap::square(0, vec![])).is_nan());
    }

    #[test]
    fn a_wrong_length_or_number_is_refused() {
        let good = [0.5; 4];
        assert!(anomaly_map(&[&good], 2, 28, MapBorder::Zero).is_ok());
        let message = |groups: &[&[f32]]| anomaly_map(groups, 2, 28, MapBorder::Zero).unwrap_err().to_string();
        assert!(message(&[&good, &[0.5; 5]]).contains("group 1: expected shape [2, 2], found [5]"));
        assert!(message(&[&[0.5, f32::NAN, 0.5, 0.5]]).contains("group 0: patch 1 has the distance NaN"));
        assert!(message(&[]).contains("0 groups"));
    }
}
