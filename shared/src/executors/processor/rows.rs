//! Operations with one pass over memory, in blocks of rows on all cores.

use rayon::prelude::*;
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_vecmath::{Normalize, NormalizeOptions, Silu, Sum, SumSquare, SumSquareSub};

/// Number of rows of a task: enough to hide its overhead, few enough to share among cores.
pub(super) const ROWS: usize = 32;

/// Layer normalisation of each row: `(x - mean) / sqrt(variance + eps) * weight + bias`.
pub(super) fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f64, out: &mut [f32]) {
    let width = weight.len();
    out.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let mean = Sum::new(x).dispatch() / width as f32;
            let variance = SumSquareSub::new(x, mean).dispatch() / width as f32;
            out.copy_from_slice(x);
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: 1.0 / (variance + eps as f32).sqrt(),
                element_scale: Some(weight),
                element_bias: Some(bias),
                ..NormalizeOptions::default()
            };
            Normalize::new_mut(out, options).dispatch();
        }
    });
}

/// Each photo's rows minus its first one; with `eps` then normalised to mean 0 and variance 1.
pub(super) fn recentre(all: &[f32], tokens: usize, width: usize, eps: Option<f64>, out: &mut [f32]) {
    out.par_chunks_mut(width).zip(all.par_chunks(width)).enumerate().for_each(|(row, (out, x))| {
        let first = &all[row / tokens * tokens * width..][..width];
        out.iter_mut().zip(x).zip(first).for_each(|((out, x), first)| *out = x - first);
        if let Some(eps) = eps {
            let mean = Sum::new(out).dispatch() / width as f32;
            let variance = SumSquareSub::new(out, mean).dispatch() / width as f32;
            let scale = 1.0 / (variance + eps as f32).sqrt();
            out.iter_mut().for_each(|out| *out = (*out - mean) * scale);
        }
    });
}

/// Element-wise mean of operands.
pub(super) fn mean(xs: &[&[f32]], out: &mut [f32]) {
    const VALUES: usize = 1 << 14;
    let factor = 1.0 / xs.len() as f32;
    out.par_chunks_mut(VALUES).enumerate().for_each(|(i, out)| {
        out.fill(0.0);
        for x in xs {
            out.iter_mut().zip(&x[i * VALUES..]).for_each(|(out, x)| *out += x);
        }
        out.iter_mut().for_each(|out| *out *= factor);
    });
}

/// Mean of each photo's rows from `first` on.
pub(super) fn mean_token(x: &[f32], tokens: usize, width: usize, first: usize, out: &mut [f32]) {
    let factor = 1.0 / (tokens - first) as f32;
    out.par_chunks_mut(width).zip(x.par_chunks(tokens * width)).for_each(|(out, x)| {
        out.fill(0.0);
        for row in x[first * width..].chunks_exact(width) {
            out.iter_mut().zip(row).for_each(|(out, x)| *out += x);
        }
        out.iter_mut().for_each(|out| *out *= factor);
    });
}

/// Cosine distance of each pair of rows; norms are at least 1e-8.
pub(super) fn cosine_distance(a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
    out.par_iter_mut().zip(a.par_chunks(width).zip(b.par_chunks(width))).with_min_len(ROWS).for_each(
        |(out, (a, b))| {
            *out = 1.0 - cosine(a, b);
        },
    );
}

/// Cosine of two rows; norms are at least 1e-8.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let norm = |x: &[f32]| SumSquare::new(x).dispatch().sqrt().max(1e-8);
    dot(a, b) / (norm(a) * norm(b))
}

/// SwiGLU of each row: `silu` of its first half times its second half.
pub(super) fn swiglu(x: &[f32], width: usize, out: &mut [f32]) {
    out.par_chunks_mut(width / 2).zip(x.par_chunks(width)).with_min_len(ROWS).for_each(|(out, row)| {
        let (gates, values) = row.split_at(width / 2);
        out.copy_from_slice(gates);
        Silu {}.map_mut(out);
        out.iter_mut().zip(values).for_each(|(out, value)| *out *= value);
    });
}

/// [`crate::ops::Ops::rotate`].
pub(super) fn rotate(qkv: &[f32], tokens: usize, prefix: usize, heads: usize, rotation: &[f32], out: &mut [f32]) {
    let size = rotation.len() / (tokens - prefix);
    let packed = 3 * heads * size;
    out.par_chunks_mut(packed).zip(qkv.par_chunks(packed)).enumerate().for_each(|(row, (out, from))| {
        out.copy_from_slice(from);
        let Some(patch) = (row % tokens).checked_sub(prefix) else { return };
        let (cosines, sines) = rotation[patch * size..][..size].split_at(size / 2);
        for head in out[..2 * heads * size].chunks_exact_mut(size) {
            let (first, second) = head.split_at_mut(size / 2);
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    });
}

/// Depthwise convolution of patches `[grid², width]` with `kernels [width, side, side]`, zero padding.
pub(super) fn depthwise_conv(x: &[f32], width: usize, kernels: &[f32], grid: usize, side: usize, out: &mut [f32]) {
    let (reach, tokens) = (side / 2, grid * grid);
    // Channels last, as in the patches.
    let turned: Vec<f32> =
        (0..side * side).flat_map(|place| (0..width).map(move |c| kernels[c * side * side + place])).collect();
    out.par_chunks_mut(width).enumerate().for_each(|(token, out)| {
        let (photo, row, column) = (token / tokens, token % tokens / grid, token % grid);
        out.fill(0.0);
        for (place, kernel) in turned.chunks_exact(width).enumerate() {
            let (y, x_) = (row + place / side, column + place % side);
            if (reach..grid + reach).contains(&y) && (reach..grid + reach).contains(&x_) {
                let from = photo * tokens + (y - reach) * grid + x_ - reach;
                let values = &x[from * width..][..width];
                out.iter_mut().zip(values).zip(kernel).for_each(|((out, value), weight)| *out += value * weight);
            }
        }
    });
}

/// Dot product in sixteen lanes, which is vectorised and rounds less than a sequential sum.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (mut lanes, mut chunks) = ([0f32; 16], a.chunks_exact(16).zip(b.chunks_exact(16)));
    for (a, b) in &mut chunks {
        lanes.iter_mut().zip(a).zip(b).for_each(|((lane, a), b)| *lane += a * b);
    }
    let rest = a.len() / 16 * 16;
    lanes.iter().sum::<f32>() + a[rest..].iter().zip(&b[rest..]).map(|(a, b)| a * b).sum::<f32>()
}
