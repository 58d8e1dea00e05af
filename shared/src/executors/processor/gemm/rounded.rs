//! Products of integers, in the tiles of `tiles.rs`: for int8 weights, and for products that need not be exact.

use std::array::from_fn;
use std::borrow::Cow;

use super::View;
use super::lanes::{Factor, Lanes, Pair};
use super::tiles::{COLUMNS, Panels, ROWS, affine, by_panel};

/// Right-hand side of integers with a scale per column. simd128 adds products of pairs of 16-bit integers, not of bytes. The
/// left-hand side, which is rounded too, and a right-hand side that is not int8 thus keep more than eight bits: as many as leave sums
/// exact in 32 bits.
pub struct Rounded {
    panels: Panels<Pair>,
    depth: usize,
    /// Scale of each column.
    scales: Vec<[Lanes; 2]>,
    /// Largest integer on the left-hand side.
    levels: f32,
    /// Largest sum of the integers in a left-hand row whose values sum to one.
    sum: f32,
}

/// Largest integer of mixed values: twelve bits, which leaves nineteen to the sum of their weights.
const MIXED_LEVELS: f32 = 4095.0;

impl Rounded {
    /// Packs an int8 weight, `values [columns, depth]` with a scale per column.
    pub fn int8(values: &[i8], scales: &[f32], [columns, depth]: [usize; 2]) -> Self {
        let levels = levels(127 * depth).min(f32::from(i16::MAX));
        Self::pack(|column, k| i16::from(values[column * depth + k]), scales, [columns, depth], levels)
    }

    /// Rounds and packs a matrix `[depth, columns]`.
    pub fn new(right: View<'_>) -> Self {
        let levels = levels(right.rows).sqrt().floor().min(f32::from(i16::MAX));
        Self::with_levels(right, levels, levels)
    }

    /// The same if rows of the left-hand side are weights: not negative, their sum at most one. Most may be far smaller than the
    /// largest, so they keep as many bits as their sum allows.
    pub fn mixed(right: View<'_>) -> Self {
        // Rounding increases each weight by at most a half.
        let sum = levels(MIXED_LEVELS as usize) - 0.5 * right.rows as f32;
        Self { sum, ..Self::with_levels(right, MIXED_LEVELS, f32::from(i16::MAX)) }
    }

    /// Rounds and packs with integers of at most `levels` on this side and `left_levels` on the other.
    fn with_levels(right: View<'_>, levels: f32, left_levels: f32) -> Self {
        let (depth, columns) = (right.rows, right.columns);
        let (right, pairs) = (right.transposed(), depth.div_ceil(2));
        let mut groups = [vec![[[0; 2]; ROWS]; pairs], vec![[[0; 2]; ROWS]; pairs]];
        let (mut factors, mut scales) = (Vec::with_capacity(columns.div_ceil(COLUMNS) * pairs), Vec::new());
        for first in (0..columns).step_by(COLUMNS) {
            for (group, first) in groups.iter_mut().zip([first, first + COLUMNS / 2]) {
                scales.extend(round_rows(right, first, |_| levels, group));
            }
            let [low, high] = &groups;
            factors.extend(low.iter().zip(high).map(|(&low, &high)| [Pair::four(low), Pair::four(high)]));
        }
        Self::new_of(Panels { factors, depth: pairs, columns }, depth, &scales, left_levels)
    }

    fn pack(value: impl Fn(usize, usize) -> i16, scales: &[f32], [columns, depth]: [usize; 2], levels: f32) -> Self {
        let at = |column, k| if k < depth { value(column, k) } else { 0 };
        let pairs = |pair, column| [at(column, 2 * pair), at(column, 2 * pair + 1)];
        Self::new_of(Panels::pack(depth.div_ceil(2), columns, pairs), depth, scales, levels)
    }

    fn new_of(panels: Panels<Pair>, depth: usize, scales: &[f32], levels: f32) -> Self {
        let scales = by_panel(scales, panels.columns);
        Self { panels, depth, scales, levels, sum: f32::INFINITY }
    }

    /// Depth and columns.
    pub fn extents(&self) -> [usize; 2] {
        [self.depth, self.panels.columns]
    }

    /// Writes `alpha · left · self + bias` to `out [rows, columns]`.
    pub fn product(&self, left: View<'_>, alpha: f32, bias: Option<&[f32]>, out: &mut [f32]) {
        let (pairs, columns) = (self.panels.depth, self.panels.columns);
        let bias = by_panel(bias.unwrap_or_default(), columns);
        let rows_at_once = self.panels.rows_at_once();
        let (mut packed, mut steps) = (Vec::new(), Vec::new());
        let levels = |largest: f32| self.levels.min(self.sum * largest);
        for (block, out) in out.chunks_mut(rows_at_once * columns).enumerate() {
            let groups = (out.len() / columns).div_ceil(ROWS);
            packed.resize(groups * pairs, [[0; 2]; ROWS]);
            steps.clear();
            for (group, packed) in packed.chunks_exact_mut(pairs).enumerate() {
                let first = block * rows_at_once + group * ROWS;
                steps.extend(round_rows(left, first, levels, packed).map(|step| alpha * step));
            }
            let finish = |row: usize, panel: usize, sums| {
                let (step, [low, high]) = (Lanes::splat(steps[row]), self.scales[panel]);
                affine(sums, [step.times(low), step.times(high)], bias[panel])
            };
            self.panels.multiply(&packed, finish, out);
        }
    }
}

/// Largest integers of which `count` products sum up in 32 bits.
fn levels(count: usize) -> f32 {
    (i32::MAX as usize / count.max(1)) as f32
}

/// Largest magnitude, compared as bits: NaN is the largest, stays NaN, and is found in the maps.
fn largest(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().map(|value| value.to_bits() & 0x7fff_ffff).max().unwrap_or(0))
}

/// Packs four rows from `first` on as integers, a row's largest magnitude as its `levels`; returns the scale of each row. Rows
/// past the end are zeros.
fn round_rows(x: View<'_>, first: usize, levels: impl Fn(f32) -> f32, packed: &mut [[Pair; ROWS]]) -> [f32; ROWS] {
    let rows: [Cow<'_, [f32]>; ROWS] =
        from_fn(|i| if first + i < x.rows { x.row(first + i) } else { Cow::Owned(vec![0.0; x.columns]) });
    let steps = from_fn(|i| {
        let largest = largest(&rows[i]);
        // A row of zeros may have 0 levels.
        if largest == 0.0 { 0.0 } else { largest / levels(largest) }
    });
    let factors = steps.map(|step| Lanes::splat(if step > f32::MIN_POSITIVE { 1.0 / step } else { 0.0 }));
    let whole = |values: [[f32; 4]; ROWS]| Lanes::pairs(from_fn(|i| Lanes::new(values[i]).times(factors[i])));
    let [a, b, c, d] = rows.each_ref().map(|row| row.as_chunks::<4>());
    let (fours, rest) = packed.split_at_mut(x.columns / 4 * 2);
    for ((pairs, (a, b)), (c, d)) in
        fours.as_chunks_mut::<2>().0.iter_mut().zip(a.0.iter().zip(b.0)).zip(c.0.iter().zip(d.0))
    {
        *pairs = whole([*a, *b, *c, *d]);
    }
    let padded = |rest: &[f32]| from_fn(|i| rest.get(i).copied().unwrap_or_default());
    rest.copy_from_slice(&whole([a.1, b.1, c.1, d.1].map(padded))[..rest.len()]);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENTS: [[usize; 3]; 6] = [[1, 1, 1], [3, 5, 7], [17, 64, 33], [70, 192, 130], [9, 771, 65], [400, 96, 9]];

    /// Rows whose largest value is the largest integer round to themselves, and their sums reach the limit of 32 bits.
    #[test]
    fn int8_sums_are_exact_up_to_the_largest() {
        for [rows, inputs, outputs] in EXTENTS {
            let most = levels(127 * inputs).min(f32::from(i16::MAX));
            let x: Vec<f32> = (0..rows * inputs)
                .map(|i| match (i % inputs, i / inputs % 3) {
                    (0, _) | (_, 0) => most,
                    (k, 1) => (i * 31 % 50) as f32 - (k % 2) as f32 * most,
                    _ => -((i * 7919) as f32 % most),
                })
                .map(f32::floor)
                .collect();
            let weight =
                |output: usize, k: usize| if output == 0 { 127 } else { (output * inputs + k) as i64 * 67 % 255 - 127 };
            let values: Vec<i8> = (0..outputs * inputs).map(|i| weight(i / inputs, i % inputs) as i8).collect();
            let scales: Vec<f32> = (0..outputs).map(|output| 0.5 + output as f32).collect();
            let bias: Vec<f32> = (0..outputs).map(|output| output as f32).collect();
            let mut out = vec![f32::NAN; rows * outputs];
            Rounded::int8(&values, &scales, [outputs, inputs]).product(
                View::new(&x, [rows, inputs]),
                1.0,
                Some(&bias),
                &mut out,
            );
            for (i, &found) in out.iter().enumerate() {
                let (row, output) = (i / outputs, i % outputs);
                let sum: i64 = (0..inputs).map(|k| x[row * inputs + k] as i64 * weight(output, k)).sum();
                let expected = sum as f32 * scales[output] + bias[output];
                assert_eq!(found, expected, "{rows} {inputs} {outputs} at {i}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none_and_zeros_stay_zeros() {
        let weight = Rounded::int8(&[1, 2, 3], &[1.0], [1, 3]);
        let mut out = [0.0; 4];
        let rows = [0.0, 0.0, 0.0, 1.0, f32::NAN, 2.0, f32::INFINITY, 1.0, 0.0, 1.0, -1.0, 2.0];
        weight.product(View::new(&rows, [4, 3]), 1.0, None, &mut out);
        assert_eq!(out[0], 0.0);
        assert!(out[1].is_nan() && !out[2].is_finite(), "{out:?}");
        assert!((out[3] - 5.0).abs() < 1e-3, "{out:?}");
    }

    /// Weights of which one is large, all are equal, all are hidden, or some are hidden; values as large as possible.
    #[test]
    fn mixtures_are_off_by_their_rounding() {
        for [rows, depth, columns] in EXTENTS {
            let weights: Vec<f32> = (0..rows * depth)
                .map(|i| match (i / depth % 4, i % depth) {
                    (0, 0) => 0.5,
                    (0, _) => 0.5 / depth as f32,
                    (1, _) => 1.0 / depth as f32,
                    (2, _) => 0.0,
                    (_, k) => ((k % 3) as f32) / (3 * depth) as f32,
                })
                .collect();
            let right: Vec<f32> = (0..depth * columns)
                .map(|i| if i % columns == 0 { 3.0 } else { (i as f32 * 2.1).sin() + 0.2 })
                .collect();
            let mut out = vec![f32::NAN; rows * columns];
            Rounded::mixed(View::new(&right, [depth, columns])).product(
                View::new(&weights, [rows, depth]),
                1.0,
                None,
                &mut out,
            );
            // Half a step of each factor: of values up to 3, whose weights sum to one, and of each weight.
            let of_value = 0.5 * 3.0 / MIXED_LEVELS;
            let of_weight = |largest: f32| 0.5 * (largest / f32::from(i16::MAX)).max(1.0 / 5e5);
            for (i, &found) in out.iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let weights = &weights[row * depth..][..depth];
                let products =
                    weights.iter().enumerate().map(|(k, &w)| f64::from(w) * f64::from(right[k * columns + column]));
                let off = (f64::from(found) - products.sum::<f64>()).abs();
                let allowed = of_value + 3.0 * depth as f32 * of_weight(largest(weights));
                assert!(off <= f64::from(allowed), "{rows} {depth} {columns} at {i}: off by {off}, allowed {allowed}");
            }
        }
    }

    /// Both sides as large as their sums allow: the error is that of rounding, and no sum wraps.
    #[test]
    fn rounded_products_are_off_by_their_rounding() {
        for [rows, depth, columns] in EXTENTS {
            let wave = |i: usize| (i as f32 * 0.7).sin() + 0.2;
            let left: Vec<f32> = (0..rows * depth).map(|i| if i < depth { 1.0 } else { wave(i) }).collect();
            let right: Vec<f32> =
                (0..depth * columns).map(|i| if i % columns == 0 { 3.0 } else { wave(i * 3) }).collect();
            let mut out = vec![f32::NAN; rows * columns];
            Rounded::new(View::new(&right, [depth, columns])).product(
                View::new(&left, [rows, depth]),
                2.0,
                None,
                &mut out,
            );
            // Half a step of each factor; the largest ones are 1.2 and 3.
            let allowed = 2.0 * depth as f32 * (1.2 * 3.0) / levels(depth).sqrt().min(32_767.0);
            for (i, &found) in out.iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let products =
                    (0..depth).map(|k| f64::from(left[row * depth + k]) * f64::from(right[k * columns + column]));
                let expected = 2.0 * products.sum::<f64>();
                let off = (f64::from(found) - expected).abs();
                assert!(off <= f64::from(allowed), "{rows} {depth} {columns} at {i}: {found} {expected}");
            }
        }
    }
}
