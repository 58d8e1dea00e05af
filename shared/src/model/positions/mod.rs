//! Interpolation of a position table to another grid: bicubic, as in `torch.nn.functional.interpolate`.
//!
//! The official encoders pass a scale factor of `(target + 0.1) / grid` ("a small number to avoid floating-point error in
//! the interpolation"), and torch then maps coordinates with that factor instead of `target / grid`, which shifts every
//! position a little. Published checkpoints depend on it, so it is reproduced.
//!
//! Other encoders use [`rotary`] positions or a [`relative`] bias.

pub mod relative;
pub mod rotary;

/// Free parameter of the cubic kernel, as in torch.
const A: f32 = -0.75;

/// Interpolates a position table, class token excluded: `[grid², width]` → `[target², width]`. Bicubic (a = -0.75), not
/// antialiased, `align_corners=False`, borders repeated. Equal grids return the table unchanged.
///
/// # Panics
/// If `table` does not hold `grid² · width` values.
pub fn interpolate(table: &[f32], grid: usize, target: usize, width: usize) -> Vec<f32> {
    assert_eq!(table.len(), grid * grid * width, "a position table of {grid}x{grid} rows of {width} values");
    if grid == target {
        return table.to_vec();
    }
    let taps = taps(grid, target);
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

/// Four source positions and weights of every target position along one axis, computed in f32 as in torch.
fn taps(grid: usize, target: usize) -> Vec<[(usize, f32); 4]> {
    let scale = (1.0 / ((target as f64 + 0.1) / grid as f64)) as f32;
    (0..target)
        .map(|i| {
            // Fused multiply-add, as in torch's builds for processors that have it.
            let at = scale.mul_add(i as f32 + 0.5, -0.5);
            let t = at - at.floor();
            let first = at.floor() as isize - 1;
            let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
            std::array::from_fn(|k| ((first + k as isize).clamp(0, grid as isize - 1) as usize, weights[k]))
        })
        .collect()
}

/// Cubic kernel for distances up to 1.
fn near(x: f32) -> f32 {
    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
}

/// Cubic kernel for distances from 1 to 2.
fn far(x: f32) -> f32 {
    ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
}

/// Writes to `out` the weighted sum of four rows of `from`.
fn weigh(out: &mut [f32], from: &[f32], taps: &[(usize, f32); 4]) {
    let n = out.len();
    for &(index, weight) in taps {
        for (out, value) in out.iter_mut().zip(&from[index * n..][..n]) {
            *out += weight * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::interpolate;

    #[test]
    fn an_equal_grid_is_left_alone() {
        let table: Vec<f32> = (0..4 * 3).map(|v| v as f32 * 0.37).collect();
        assert_eq!(interpolate(&table, 2, 2, 3), table);
    }

    #[test]
    fn channels_stay_apart_and_weights_sum_to_one() {
        let table: Vec<f32> = (0..5 * 5).flat_map(|_| [1.0, -3.0]).collect();
        for target in [1, 3, 4, 7, 12] {
            let out = interpolate(&table, 5, target, 2);
            assert_eq!(out.len(), target * target * 2);
            for row in out.chunks_exact(2) {
                assert!((row[0] - 1.0).abs() < 3e-6 && (row[1] + 3.0).abs() < 9e-6, "target {target}: {row:?}");
            }
        }
    }

    #[test]
    fn coordinates_use_the_official_offset_of_a_tenth() {
        let (grid, target) = (9, 7);
        let ramp: Vec<f32> = (0..grid * grid).map(|i| (i % grid) as f32).collect();
        let out = interpolate(&ramp, grid, target, 1);
        // Without the offset the middle of 7 is the middle of 9, at 4; with it it is at 3.9366, where the kernel gives this.
        assert!((out[3] - 3.910_700_6).abs() < 1e-5, "{}", out[3]);
    }

    #[test]
    #[should_panic(expected = "a position table of 3x3 rows of 2 values")]
    fn a_table_of_another_size_is_refused() {
        interpolate(&[0.0; 9], 3, 4, 2);
    }
}
