//! Operations of heads that compare tokens with stored rows. None of them loses a NaN, as `f32::max` would.

use rayon::prelude::*;
use rten_simd::SimdOp;
use rten_vecmath::SumSquare;

use super::rows::{ROWS, cosine};

/// Divides each row by its norm, which is at least 1e-8.
pub(super) fn normalize(x: &[f32], width: usize, out: &mut [f32]) {
    out.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(ROWS).for_each(|(out, row)| {
        let norm = SumSquare::new(row).dispatch().sqrt();
        let norm = if norm < 1e-8 { 1e-8 } else { norm };
        out.iter_mut().zip(row).for_each(|(out, value)| *out = value / norm);
    });
}

/// One minus the largest of each row of `n` cosines, or the distance so far, if that is smaller.
pub(super) fn nearest(cosines: &[f32], n: usize, so_far: Option<&[f32]>, out: &mut [f32]) {
    out.par_iter_mut().zip(cosines.par_chunks(n)).enumerate().with_min_len(ROWS).for_each(|(i, (out, row))| {
        let distance = 1.0 - largest(row);
        // The larger of two negated numbers is the smaller one.
        *out = so_far.map_or(distance, |so_far| -larger(-distance, -so_far[i]));
    });
}

/// Sum of squares of each part of `width` values.
pub(super) fn squared_norms(x: &[f32], width: usize, out: &mut [f32]) {
    out.par_iter_mut().zip(x.par_chunks(width)).with_min_len(ROWS).for_each(|(out, part)| {
        *out = SumSquare::new(part).dispatch();
    });
}

/// [`crate::ops::Ops::choose`].
pub(super) fn choose(values: &[f32], x: &[f32], prototypes: &[f32], width: usize, tokens: usize, out: &mut [f32]) {
    let n = prototypes.len() / width;
    let photos = values.par_chunks(tokens * n).zip(x.par_chunks(tokens * width));
    out.par_chunks_mut(tokens).zip(photos).for_each(|(out, (values, x))| {
        let cosines: Vec<f32> = prototypes.chunks_exact(width).map(|row| cosine(&x[..width], row)).collect();
        let most = largest(&cosines);
        match cosines.iter().position(|&cosine| cosine == most) {
            Some(chosen) => out.iter_mut().zip(values.chunks_exact(n)).for_each(|(out, row)| *out = row[chosen]),
            // Only a NaN differs from itself.
            None => out.fill(f32::NAN),
        }
    });
}

/// Larger of two values, NaN if one of them is.
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// Largest of some values in sixteen lanes, which is vectorised; NaN if one of them is.
fn largest(x: &[f32]) -> f32 {
    let (mut lanes, mut chunks) = ([f32::NEG_INFINITY; 16], x.chunks_exact(16));
    for values in &mut chunks {
        lanes.iter_mut().zip(values).for_each(|(lane, &value)| *lane = larger(*lane, value));
    }
    lanes.iter().chain(chunks.remainder()).copied().fold(f32::NEG_INFINITY, larger)
}
