//! Operations of heads that compare tokens with stored rows. None of them loses a NaN, as `f32::max` would.

use rayon::prelude::*;
use rten_simd::SimdOp;
use rten_vecmath::SumSquare;

use super::rows::{ROWS, cosine, dot};
use crate::ops::Places;

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

/// [`crate::ops::Ops::top_rows`].
pub(super) fn top_rows(x: &[f32], tokens: usize, rows: &[f32], width: usize, k: usize, out: &mut [f32]) {
    let n = rows.len() / width;
    out.par_chunks_mut(n).zip(x.par_chunks(tokens * width)).for_each(|(out, x)| {
        let cosines: Vec<f32> = rows.par_chunks(width).map(|row| cosine(&x[..width], row)).collect();
        if cosines.iter().any(|cosine| cosine.is_nan()) {
            return out.fill(f32::NAN);
        }
        let mut order: Vec<usize> = (0..n).collect();
        // Stable: earlier ones of equal ones stay first.
        order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
        out.fill(0.0);
        order.iter().take(k).for_each(|&row| out[row] = 1.0);
    });
}

/// [`crate::ops::Ops::nearest_around`] for so many tokens, channels and photos of the bank; `out` holds the distances so far. A row of
/// the grid at a time, whose tokens are compared with the same rows of a photo.
pub(super) fn nearest_around(
    x: &[f32],
    rows: &[f32],
    chosen: &[f32],
    places: Places,
    [tokens, width, photos]: [usize; 3],
    out: &mut [f32],
) {
    let (n, grid, first_patch) = (rows.len() / width, places.grid, tokens - places.patches());
    let of_photo = out.par_chunks_mut(tokens).zip(x.par_chunks(tokens * width)).zip(chosen.par_chunks(photos));
    of_photo.for_each(|((out, x), chosen)| {
        let lines = out[first_patch..].par_chunks_mut(grid).zip(x[first_patch * width..].par_chunks(grid * width));
        lines.enumerate().for_each(|(line, (out, x))| {
            let mut cosines = vec![f32::NEG_INFINITY; grid];
            for photo in places.photos(n).filter(|&photo| chosen[photo] != 0.0) {
                for (column, (most, token)) in cosines.iter_mut().zip(x.chunks_exact(width)).enumerate() {
                    let near = places.around(line).flat_map(|y| places.around(column).map(move |x| (y, x)));
                    for row in near.filter_map(|(y, x)| places.row_of(photo, y, x, n)) {
                        *most = larger(*most, chosen[photo] * dot(token, &rows[row * width..][..width]));
                    }
                }
            }
            // The larger of two negated numbers is the smaller one.
            out.iter_mut().zip(&cosines).for_each(|(out, most)| *out = -larger(-*out, -(1.0 - most)));
        });
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
