//! Products for the browser, in tiles of four rows and eight columns, whose sums fit into sixteen vector registers. rten-gemm's
//! tiles of eight rows do not, and took 1.2 times (f32), 1.8 times (f32 with relaxed SIMD) and 3 times (int8) as long in Chromium.

use std::array::from_fn;

use super::View;
use super::lanes::{Factor, Lanes};

/// Number of rows of a tile.
pub(super) const ROWS: usize = 4;

/// Number of columns of a tile: two vectors of sums.
pub(super) const COLUMNS: usize = 8;

/// Bytes of the left-hand side that are packed and multiplied with all columns at a time: they stay in the L2 cache.
const LEFT_BYTES: usize = 1 << 14;

/// Right-hand side `[depth, columns]` as panels of eight columns, with factors in the order in which a tile reads them.
pub struct Panels<F: Factor> {
    pub(super) factors: Vec<[F::Four; 2]>,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

impl<F: Factor> Panels<F> {
    /// Packs `factor(depth, column)`.
    pub(super) fn pack(depth: usize, columns: usize, factor: impl Fn(usize, usize) -> F) -> Self {
        let mut factors = Vec::with_capacity(columns.div_ceil(COLUMNS) * depth);
        for first in (0..columns).step_by(COLUMNS) {
            let at = |k, column| if column < columns { factor(k, column) } else { F::default() };
            for k in 0..depth {
                let four = |first| F::four(from_fn(|i| at(k, first + i)));
                factors.push([four(first), four(first + COLUMNS / 2)]);
            }
        }
        Self { factors, depth, columns }
    }

    /// Number of rows that are multiplied at a time, a whole number of tiles.
    pub(super) fn rows_at_once(&self) -> usize {
        (LEFT_BYTES / (ROWS * self.depth.max(1) * size_of::<F>())).max(1) * ROWS
    }

    /// Multiplies packed rows; `finish` converts a row's sums to the stored values, given the numbers of row and panel.
    pub(super) fn multiply(
        &self,
        left: &[[F; ROWS]],
        finish: impl Fn(usize, usize, [Lanes; 2]) -> [Lanes; 2],
        out: &mut [f32],
    ) {
        // A pair of panels fills whole cache lines.
        for (pair, panels) in self.factors.chunks(2 * self.depth).enumerate() {
            for (group, left) in left.chunks_exact(self.depth).enumerate() {
                for (panel, right) in panels.chunks_exact(self.depth).enumerate() {
                    let panel = 2 * pair + panel;
                    let sums = tile(left, right);
                    for (i, out) in out.chunks_mut(self.columns).skip(group * ROWS).take(ROWS).enumerate() {
                        let [low, high] = &sums[i];
                        let [low, high] = finish(group * ROWS + i, panel, [F::lanes(*low), F::lanes(*high)]);
                        store(&mut out[panel * COLUMNS..], low.values(), high.values());
                    }
                }
            }
        }
    }
}

/// Sums of one tile over the whole depth.
fn tile<F: Factor>(left: &[[F; ROWS]], right: &[[F::Four; 2]]) -> [[F::Sums; 2]; ROWS] {
    let mut sums = [[F::zeros(); 2]; ROWS];
    for (left, right) in left.iter().zip(right) {
        for (sums, &left) in sums.iter_mut().zip(left) {
            for (sums, &right) in sums.iter_mut().zip(right) {
                *sums = F::add_products(*sums, left, right);
            }
        }
    }
    sums
}

/// Right-hand side in f32.
pub type Matrix = Panels<f32>;

impl Panels<f32> {
    /// Packs a matrix `[depth, columns]`.
    pub fn new(right: View<'_>) -> Self {
        Self::pack(right.rows, right.columns, |k, column| right.at(k, column))
    }

    /// Depth and columns.
    pub fn extents(&self) -> [usize; 2] {
        [self.depth, self.columns]
    }

    /// Writes `alpha · left · self + bias` to `out [rows, columns]`.
    pub fn product(&self, left: View<'_>, alpha: f32, bias: Option<&[f32]>, out: &mut [f32]) {
        let mut packed = Vec::new();
        let bias = by_panel(bias.unwrap_or_default(), self.columns);
        let rows_at_once = self.rows_at_once();
        for (block, out) in out.chunks_mut(rows_at_once * self.columns).enumerate() {
            let rows = out.len() / self.columns;
            packed.clear();
            packed.resize(rows.div_ceil(ROWS) * self.depth, [0.0; ROWS]);
            for row in 0..rows {
                let group = &mut packed[row / ROWS * self.depth..][..self.depth];
                let place = |(four, &value): (&mut [f32; ROWS], &f32)| four[row % ROWS] = value;
                group.iter_mut().zip(&*left.row(block * rows_at_once + row)).for_each(place);
            }
            let alpha = Lanes::splat(alpha);
            self.multiply(&packed, |_, panel, sums| affine(sums, [alpha; 2], bias[panel]), out);
        }
    }
}

/// Values of columns by panel, the last one padded with zeros.
pub(super) fn by_panel(values: &[f32], columns: usize) -> Vec<[Lanes; 2]> {
    let value = |column: usize| values.get(column).copied().unwrap_or_default();
    let four = |first| Lanes::new(from_fn(|i| value(first + i)));
    (0..columns).step_by(COLUMNS).map(|first| [four(first), four(first + COLUMNS / 2)]).collect()
}

/// `sums · factors + bias`.
#[inline(always)]
pub(super) fn affine([a, b]: [Lanes; 2], [factor_a, factor_b]: [Lanes; 2], [bias_a, bias_b]: [Lanes; 2]) -> [Lanes; 2] {
    [a.times(factor_a).plus(bias_a), b.times(factor_b).plus(bias_b)]
}

/// Writes up to eight values to the rest of a row.
#[inline(always)]
fn store(out: &mut [f32], low: [f32; 4], high: [f32; 4]) {
    match out.first_chunk_mut::<COLUMNS>() {
        Some(eight) => {
            eight[..4].copy_from_slice(&low);
            eight[4..].copy_from_slice(&high);
        }
        None => out.iter_mut().zip(low.into_iter().chain(high)).for_each(|(out, value)| *out = value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENTS: [[usize; 3]; 6] = [[1, 1, 1], [3, 5, 7], [17, 64, 33], [70, 192, 130], [9, 771, 65], [400, 96, 9]];

    /// Integers below 2²⁴ need no rounding: any difference is an error.
    #[test]
    fn products_of_whole_numbers_are_exact() {
        for [rows, depth, columns] in EXTENTS {
            let left: Vec<f32> = (0..rows * depth).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let right: Vec<f32> = (0..depth * columns).map(|i| (i * 53 % 89) as f32 - 44.0).collect();
            let bias: Vec<f32> = (0..columns).map(|i| i as f32).collect();
            let expected: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    let (row, column) = (i / columns, i % columns);
                    let products = (0..depth).map(|k| left[row * depth + k] * right[k * columns + column]);
                    2.0 * products.sum::<f32>() + bias[column]
                })
                .collect();
            let mut out = vec![f32::NAN; rows * columns];
            Matrix::new(View::new(&right, [depth, columns])).product(
                View::new(&left, [rows, depth]),
                2.0,
                Some(&bias),
                &mut out,
            );
            assert_eq!(out, expected, "{rows} {depth} {columns}");

            let turned =
                |values: &[f32], [rows, columns]: [usize; 2]| View::new(values, [rows, columns]).transposed().to_vec();
            let (left, right) = (turned(&left, [rows, depth]), turned(&right, [depth, columns]));
            out.fill(f32::NAN);
            Matrix::new(View::new(&right, [columns, depth]).transposed()).product(
                View::new(&left, [depth, rows]).transposed(),
                2.0,
                Some(&bias),
                &mut out,
            );
            assert_eq!(out, expected, "{rows} {depth} {columns}, turned");
        }
    }
}
