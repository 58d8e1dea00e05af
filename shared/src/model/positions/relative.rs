//! Interpolation of BEiT's relative position bias to another grid, as in its fine-tuning code and the official Dinomaly: the
//! stored offsets are placed at distances that grow geometrically until they span the new grid, and a bicubic spline through
//! them is evaluated at whole patches. Near offsets thus keep their meaning, and far ones are stretched.

use crate::ops::RelativeBias;
use crate::{Error, Result};

/// Interpolates a table `[entries, heads]` to `[heads, entries]` of another grid.
///
/// # Errors
/// [`Error::Config`] if the grids differ and the stored one is too small for a cubic spline.
///
/// # Panics
/// If `table` does not have the number of entries of `grid`.
pub fn interpolate(table: &[f32], grid: usize, target: usize, heads: usize) -> Result<Vec<f32>> {
    assert_eq!(
        table.len(),
        RelativeBias::entries(grid) * heads,
        "a relative position table for {grid}x{grid}, {heads} heads"
    );
    let (side, to) = (2 * grid - 1, 2 * target - 1);
    let weights = if grid == target { identity(side) } else { resampling(side, to)? };
    let mut all = Vec::with_capacity(RelativeBias::entries(target) * heads);
    for head in 0..heads {
        let entry = |i: usize| f64::from(table[i * heads + head]);
        // First along columns, then along rows.
        let rows: Vec<f64> = (0..side)
            .flat_map(|row| weights.iter().map(move |w| (0..side).map(|i| w[i] * entry(row * side + i)).sum()))
            .collect();
        for w in &weights {
            all.extend((0..to).map(|column| (0..side).map(|i| w[i] * rows[i * to + column]).sum::<f64>() as f32));
        }
        all.extend((side * side..side * side + 3).map(|i| table[i * heads + head]));
    }
    Ok(all)
}

fn identity(side: usize) -> Vec<Vec<f64>> {
    (0..side).map(|i| (0..side).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

/// Weights of the `side` stored offsets for each of `to` new ones.
fn resampling(side: usize, to: usize) -> Result<Vec<Vec<f64>>> {
    if side < 5 {
        return Err(Error::config(format!(
            "a relative position bias for {0}x{0} patches is too small to be interpolated",
            side.div_ceil(2)
        )));
    }
    let knots = distances(side, to);
    let splines: Vec<Vec<f64>> = identity(side).iter().map(|values| curvatures(&knots, values)).collect();
    let (first, last, reach) = (knots[0], knots[side - 1], (to / 2) as f64);
    let at = |i: usize| {
        let x = (i as f64 - reach).clamp(first, last);
        let k = knots[1..side - 1].partition_point(|&knot| knot <= x);
        let (step, below, above) = (knots[k + 1] - knots[k], x - knots[k], knots[k + 1] - x);
        let weight = |spline: (usize, &Vec<f64>)| {
            let (i, bend) = spline;
            let line = |knot: usize, share: f64| {
                let cubic = (share.powi(3) / step - share * step) / 6.0;
                bend[knot] * cubic + if knot == i { share / step } else { 0.0 }
            };
            line(k, above) + line(k + 1, below)
        };
        splines.iter().enumerate().map(weight).collect()
    };
    Ok((0..to).map(at).collect())
}

/// Positions of the stored offsets on the new grid: 0, ±1, ±(1 + q), ±(1 + q + q²), …. The ratio q, found by bisection between
/// 1.01 and 1.5, moves the farthest offset to the farthest one of the new grid.
fn distances(side: usize, to: usize) -> Vec<f64> {
    let (half, reach) = (side / 2, (to / 2) as f64);
    let (mut left, mut right, mut q) = (1.01f64, 1.5, 1.01);
    while right - left > 1e-6 {
        q = (left + right) / 2.0;
        let farthest = (1.0 - q.powi(half as i32)) / (1.0 - q);
        if farthest > reach { right = q } else { left = q }
    }
    let mut distance = 0.0;
    let steps: Vec<f64> = (0..half as i32)
        .map(|i| {
            distance += q.powi(i);
            distance
        })
        .collect();
    steps.iter().rev().map(|d| -d).chain([0.0]).chain(steps.iter().copied()).collect()
}

/// Second derivatives at the knots of the cubic spline through `values` with "not-a-knot" ends: the third derivative is
/// continuous at the second and the last but one knot.
fn curvatures(knots: &[f64], values: &[f64]) -> Vec<f64> {
    let n = knots.len();
    let h: Vec<f64> = knots.windows(2).map(|w| w[1] - w[0]).collect();
    let slope: Vec<f64> = values.windows(2).zip(&h).map(|(w, h)| (w[1] - w[0]) / h).collect();
    // Tridiagonal system of the inner knots; the end conditions eliminate the outer two.
    let mut rows: Vec<[f64; 4]> =
        (1..n - 1).map(|i| [h[i - 1], 2.0 * (h[i - 1] + h[i]), h[i], 6.0 * (slope[i] - slope[i - 1])]).collect();
    let m = rows.len();
    let (start, end) = (h[0] / h[1], h[n - 2] / h[n - 3]);
    rows[0][1] += h[0] * (1.0 + start);
    rows[0][2] -= h[0] * start;
    rows[m - 1][1] += h[n - 2] * (1.0 + end);
    rows[m - 1][0] -= h[n - 2] * end;
    for i in 1..m {
        let factor = rows[i][0] / rows[i - 1][1];
        rows[i][1] -= factor * rows[i - 1][2];
        rows[i][3] -= factor * rows[i - 1][3];
    }
    let mut bend = vec![0.0; n];
    for i in (0..m).rev() {
        let after = if i + 1 < m { rows[i][2] * bend[i + 2] } else { 0.0 };
        bend[i + 1] = (rows[i][3] - after) / rows[i][1];
    }
    bend[0] = bend[1] + start * (bend[1] - bend[2]);
    bend[n - 1] = bend[n - 2] + end * (bend[n - 2] - bend[n - 3]);
    bend
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_grid_is_only_turned() {
        let table: Vec<f32> = (0..12 * 2).map(|v| v as f32).collect();
        let turned = interpolate(&table, 2, 2, 2).unwrap();
        assert_eq!(turned, (0..24).map(|i| (2 * (i % 12) + i / 12) as f32).collect::<Vec<_>>());
    }

    #[test]
    fn a_cubic_is_its_own_spline() {
        let knots = distances(9, 15);
        let cubic = |x: f64| 0.5 * x * x * x - x * x + 3.0;
        let values: Vec<f64> = knots.iter().map(|&x| cubic(x)).collect();
        for (i, weights) in resampling(9, 15).unwrap().iter().enumerate() {
            let x = (i as f64 - 7.0).clamp(knots[0], knots[8]);
            let found: f64 = weights.iter().zip(&values).map(|(w, v)| w * v).sum();
            assert!((found - cubic(x)).abs() < 1e-9, "at {x}: {found}");
        }
    }

    #[test]
    fn a_tiny_grid_cannot_be_made_larger() {
        let error = interpolate(&[0.0; 12], 2, 3, 1).unwrap_err().to_string();
        assert!(error.contains("2x2 patches is too small"), "{error}");
    }
}
