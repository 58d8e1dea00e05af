//! Interpolation of a position table to another grid: bicubic, as in `torch.nn.functional.interpolate`.
//!
//! The projects that publish encoders do it differently, and the head was trained with what one of them does, so each is reproduced:
//!
//! - The official DINO and DINOv2 pass a scale factor of `(target + 0.1) / grid` ("a small number to avoid floating-point error in the
//!   interpolation"), and torch then maps coordinates with that factor instead of `target / grid`, which shifts every position a little.
//! - Others pass the target's size, with or without `antialias=True`, for which torch takes another kernel (a = -0.5, as Pillow does).

use crate::model::config::Resampling;

/// Free parameter of the cubic kernel, as in torch.
const A: f32 = -0.75;

/// The same where torch antialiases.
const ANTIALIASED_A: f32 = -0.5;

/// Positions and weights of the values that a new value is the weighted sum of, along one axis.
type Taps = Vec<(usize, f32)>;

/// Interpolates a position table, class token excluded: `[grid², width]` → `[target², width]`. `align_corners=False`; beyond borders
/// the outermost value is repeated or, antialiased, nothing is taken. Equal grids return the table unchanged.
///
/// # Panics
/// If `table` does not hold `grid² · width` values.
pub fn interpolate(table: &[f32], grid: usize, target: usize, width: usize, resampling: Resampling) -> Vec<f32> {
    assert_eq!(table.len(), grid * grid * width, "a position table of {grid}x{grid} rows of {width} values");
    if grid == target {
        return table.to_vec();
    }
    let taps = match resampling {
        Resampling::Offset => repeated(grid, target, (1.0 / ((target as f64 + 0.1) / grid as f64)) as f32),
        Resampling::Exact => repeated(grid, target, grid as f32 / target as f32),
        Resampling::Antialiased => antialiased(grid, target),
    };
    let mut columns = vec![0.0; grid * target * width];
    for (from, to) in table.chunks_exact(grid * width).zip(columns.chunks_exact_mut(target * width)) {
        for (out, taps) in to.chunks_exact_mut(width).zip(&taps) {
            weigh(out, from, taps);
        }
    }
    let mut rows = vec![0.0; target * target * width];
    for (out, taps) in rows.chunks_exact_mut(target * width).zip(&taps) {
        weigh(out, &columns, taps);
    }
    rows
}

/// Four taps of every target position, computed in f32 as in torch. `scale` maps target to source coordinates.
fn repeated(grid: usize, target: usize, scale: f32) -> Vec<Taps> {
    let last = grid as isize - 1;
    let at = |i: usize| {
        // Fused multiply-add, as in torch's builds for processors that have it.
        let at = scale.mul_add(i as f32 + 0.5, -0.5);
        let t = at - at.floor();
        let first = at.floor() as isize - 1;
        let weights = [far(t + 1.0, A), near(t, A), near(1.0 - t, A), far(2.0 - t, A)];
        (first..).zip(weights).map(|(place, weight)| (place.clamp(0, last) as usize, weight)).collect()
    };
    (0..target).map(at).collect()
}

/// Taps of every target position with a kernel as wide as the coarser of the two grids asks for, computed in f32 as in torch's
/// `_upsample_bicubic2d_aa`.
fn antialiased(grid: usize, target: usize) -> Vec<Taps> {
    let scale = grid as f32 / target as f32;
    let (reach, inverse) = (2.0 * scale.max(1.0), 1.0 / scale.max(1.0));
    let at = |i: usize| -> Taps {
        let centre = scale * (i as f32 + 0.5);
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(grid);
        let weight = |place: usize| {
            let x = ((place as f32 - centre + 0.5) * inverse).abs();
            match x {
                _ if x < 1.0 => near(x, ANTIALIASED_A),
                _ if x < 2.0 => far(x, ANTIALIASED_A),
                _ => 0.0,
            }
        };
        let sum: f32 = (first..end).map(weight).sum();
        (first..end).map(|place| (place, weight(place) / sum)).collect()
    };
    (0..target).map(at).collect()
}

/// Cubic kernel for distances up to 1.
fn near(x: f32, a: f32) -> f32 {
    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
}

/// Cubic kernel for distances from 1 to 2.
fn far(x: f32, a: f32) -> f32 {
    ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
}

/// Adds to `out` the weighted sum of rows of `from`.
fn weigh(out: &mut [f32], from: &[f32], taps: &Taps) {
    let n = out.len();
    for &(index, weight) in taps {
        for (out, value) in out.iter_mut().zip(&from[index * n..][..n]) {
            *out += weight * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Resampling; 3] = [Resampling::Offset, Resampling::Exact, Resampling::Antialiased];

    #[test]
    fn an_equal_grid_is_left_alone() {
        let table: Vec<f32> = (0..4 * 3).map(|v| v as f32 * 0.37).collect();
        for resampling in ALL {
            assert_eq!(interpolate(&table, 2, 2, 3, resampling), table);
        }
    }

    #[test]
    fn channels_stay_apart_and_weights_sum_to_one() {
        let table: Vec<f32> = (0..5 * 5).flat_map(|_| [1.0, -3.0]).collect();
        for (target, resampling) in [1, 3, 4, 7, 12].into_iter().flat_map(|target| ALL.map(|kind| (target, kind))) {
            let out = interpolate(&table, 5, target, 2, resampling);
            assert_eq!(out.len(), target * target * 2);
            for row in out.chunks_exact(2) {
                let near = (row[0] - 1.0).abs() < 3e-6 && (row[1] + 3.0).abs() < 9e-6;
                assert!(near, "target {target}, {resampling:?}: {row:?}");
            }
        }
    }

    /// The middle of 7 is the middle of 9, at 4, but with the offset it is at 3.9366.
    #[test]
    fn coordinates_have_an_offset_of_a_tenth_where_the_official_code_has_it() {
        let (grid, target) = (9, 7);
        let ramp: Vec<f32> = (0..grid * grid).map(|i| (i % grid) as f32).collect();
        for (resampling, expected) in
            [(Resampling::Offset, 3.910_700_6), (Resampling::Exact, 4.0), (Resampling::Antialiased, 4.0)]
        {
            let out = interpolate(&ramp, grid, target, 1, resampling);
            assert!((out[3] - expected).abs() < 1e-5, "{resampling:?}: {}", out[3]);
        }
    }

    #[test]
    fn antialiasing_weighs_what_lies_between_the_new_positions() {
        // Of a single one among zeros nothing is lost when nine values become three, and much without antialiasing.
        let mut spike = [0.0; 9 * 9];
        spike[4 * 9 + 3] = 1.0;
        let sum = |resampling| interpolate(&spike, 9, 3, 1, resampling).iter().sum::<f32>();
        assert!((sum(Resampling::Antialiased) - 1.0 / 9.0).abs() < 0.02, "{}", sum(Resampling::Antialiased));
        assert_eq!(sum(Resampling::Exact), 0.0);
    }

    #[test]
    #[should_panic(expected = "a position table of 3x3 rows of 2 values")]
    fn a_table_of_another_size_is_refused() {
        interpolate(&[0.0; 9], 3, 4, 2, Resampling::Offset);
    }
}
