//! Softmax and linear attention by head and block of queries, so that no matrix of tokens × tokens is in memory.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::{Exp, Softmax};

use super::gemm::{Kernels, Matrix, View};
use super::{ProcessorPrecision, ProcessorTensor};
use crate::ops::{Neighbours, RelativeBias, head_size};
use crate::{Error, Result};

/// Number of queries of a block: its logits stay in the L2 cache.
const QUERIES: usize = 96;

/// Extents of packed queries, keys and values.
pub(super) struct Heads {
    batch: usize,
    pub tokens: usize,
    channels: usize,
    heads: usize,
    size: usize,
}

/// Relative position bias.
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    /// `[heads, entries]`.
    pub table: &'a [f32],
    /// Side of the grid in patches.
    pub grid: usize,
}

/// Part of `qkv`.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

impl Heads {
    /// Extents of `qkv [batch, tokens, 3·channels]`.
    ///
    /// # Errors
    /// If the channels cannot be split into 3 parts of `heads` heads.
    pub fn split(qkv: &ProcessorTensor, heads: usize) -> Result<Self> {
        let [batch, tokens, packed] = qkv.activation("qkv")?;
        Ok(Self { batch, tokens, channels: packed / 3, heads, size: head_size(packed, heads)? })
    }

    /// Shape of the result.
    pub fn shape(&self) -> Vec<usize> {
        vec![self.batch, self.tokens, self.channels]
    }

    /// View `[tokens, size]` of one head of one photo.
    fn view<'a>(&self, qkv: &'a [f32], place: usize, part: Part) -> View<'a> {
        let (photo, head) = (place / self.heads, place % self.heads);
        let start = photo * self.tokens * 3 * self.channels + part as usize * self.channels + head * self.size;
        View::with_pitch(&qkv[start..], [self.tokens, self.size], 3 * self.channels)
    }

    /// Runs `block` for every head and block of queries, on all cores, and copies its rows `[queries, size]` to `out`. Its
    /// arguments are the number of the head (over all photos), the first query and the rows.
    fn for_blocks(&self, out: &mut [f32], block: impl Fn(usize, usize, &mut [f32]) -> Result<()> + Sync) -> Result<()> {
        let blocks = self.tokens.div_ceil(QUERIES);
        let all: Vec<Vec<f32>> = (0..self.batch * self.heads * blocks)
            .into_par_iter()
            .map(|i| {
                let first = i % blocks * QUERIES;
                let mut rows = vec![0.0; QUERIES.min(self.tokens - first) * self.size];
                block(i / blocks, first, &mut rows)?;
                Ok(rows)
            })
            .collect::<Result<_>>()?;
        out.par_chunks_mut(self.channels).enumerate().for_each(|(row, out)| {
            let (photo, token) = (row / self.tokens, row % self.tokens);
            for (head, out) in out.chunks_exact_mut(self.size).enumerate() {
                let rows = &all[(photo * self.heads + head) * blocks + token / QUERIES];
                out.copy_from_slice(&rows[token % QUERIES * self.size..][..self.size]);
            }
        });
        Ok(())
    }
}

/// [`crate::ops::Ops::attention`].
///
/// # Errors
/// If the neighbours do not fit the tokens.
pub(super) fn softmax(
    split: &Heads,
    kernels: Kernels,
    precision: ProcessorPrecision,
    qkv: &[f32],
    hidden: Option<Neighbours>,
    bias: Option<Bias<'_>>,
    out: &mut [f32],
) -> Result<()> {
    let tokens = split.tokens;
    let scale = (split.size as f32).powf(-0.5);
    let hidden = hidden.map(|hidden| Ok::<_, Error>((hidden, hidden.grid(tokens)?))).transpose()?;
    let packed = pack(split, kernels, precision, qkv)?;
    split.for_blocks(out, |place, first, out| {
        let (keys, values) = &packed[place];
        let count = out.len() / split.size;
        let queries = split.view(qkv, place, Part::Query).part(first, count);
        let mut weights = vec![0.0; count * tokens];
        keys.product(queries, scale, None, &mut weights)?;
        for (query, weights) in (first..).zip(weights.chunks_exact_mut(tokens)) {
            if let Some(bias) = bias {
                let table = &bias.table[place % split.heads * RelativeBias::entries(bias.grid)..];
                for (key, weight) in weights.iter_mut().enumerate() {
                    *weight += table[RelativeBias::entry(bias.grid, query, key)];
                }
            }
            Softmax::new_mut(weights).dispatch();
            hide(hidden, query, weights);
        }
        values.product(View::new(&weights, [count, tokens]), 1.0, None, out)
    })
}

/// [`crate::ops::Ops::linear_attention`].
///
/// # Errors
/// If the neighbours do not fit the tokens.
pub(super) fn linear(
    split: &Heads,
    kernels: Kernels,
    qkv: &[f32],
    hidden: Option<Neighbours>,
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let (tokens, size) = (split.tokens, split.size);
    let hidden = hidden.map(|hidden| Ok::<_, Error>((hidden, hidden.grid(tokens)?))).transpose()?;
    if hidden.is_some() {
        return linear_but_for(split, kernels, qkv, hidden, eps, out);
    }
    // For each head the sums over keys [size, size + 1]: each channel of phi(k) times the values, and times one.
    let sums: Vec<Matrix> = (0..split.batch * split.heads)
        .into_par_iter()
        .map(|place| {
            let keys = elu_plus_one(split.view(qkv, place, Part::Key));
            let mut values = vec![1.0; tokens * (size + 1)];
            let part = split.view(qkv, place, Part::Value);
            for (token, row) in values.chunks_exact_mut(size + 1).enumerate() {
                row[..size].copy_from_slice(&part.row(token));
            }
            let mut sums = vec![0.0; size * (size + 1)];
            let values = Matrix::new(kernels, View::new(&values, [tokens, size + 1]))?;
            values.product(View::new(&keys, [tokens, size]).transposed(), 1.0, None, &mut sums)?;
            Matrix::new(kernels, View::new(&sums, [size, size + 1]))
        })
        .collect::<Result<_>>()?;
    split.for_blocks(out, |place, first, out| {
        let count = out.len() / size;
        let queries = elu_plus_one(split.view(qkv, place, Part::Query).part(first, count));
        let mut rows = vec![0.0; count * (size + 1)];
        sums[place].product(View::new(&queries, [count, size]), 1.0, None, &mut rows)?;
        for (out, row) in out.chunks_exact_mut(size).zip(rows.chunks_exact(size + 1)) {
            let factor = 1.0 / (row[size] + eps);
            out.iter_mut().zip(row).for_each(|(out, value)| *out = value * factor);
        }
        Ok(())
    })
}

/// Linear attention with hidden keys, by the product of all queries with all keys: each query has other hidden keys.
fn linear_but_for(
    split: &Heads,
    kernels: Kernels,
    qkv: &[f32],
    hidden: Option<(Neighbours, usize)>,
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let (tokens, size) = (split.tokens, split.size);
    let packed: Vec<(Matrix, Matrix)> = (0..split.batch * split.heads)
        .into_par_iter()
        .map(|place| {
            let keys = elu_plus_one(split.view(qkv, place, Part::Key));
            let keys = Matrix::new(kernels, View::new(&keys, [tokens, size]).transposed())?;
            Ok((keys, Matrix::new(kernels, split.view(qkv, place, Part::Value))?))
        })
        .collect::<Result<_>>()?;
    split.for_blocks(out, |place, first, out| {
        let (keys, values) = &packed[place];
        let count = out.len() / size;
        let queries = elu_plus_one(split.view(qkv, place, Part::Query).part(first, count));
        let mut weights = vec![0.0; count * tokens];
        keys.product(View::new(&queries, [count, size]), 1.0, None, &mut weights)?;
        for (query, weights) in (first..).zip(weights.chunks_exact_mut(tokens)) {
            hide(hidden, query, weights);
            let factor = 1.0 / (weights.iter().sum::<f32>() + eps);
            weights.iter_mut().for_each(|weight| *weight *= factor);
        }
        values.product(View::new(&weights, [count, tokens]), 1.0, None, out)
    })
}

/// Packs transposed keys, and values, of every head of every photo. With int8 weights, whose layers round more, they are rounded to
/// integers.
fn pack(split: &Heads, kernels: Kernels, precision: ProcessorPrecision, qkv: &[f32]) -> Result<Vec<(Matrix, Matrix)>> {
    let of = |place| {
        let (keys, values) = (split.view(qkv, place, Part::Key).transposed(), split.view(qkv, place, Part::Value));
        Ok(match precision {
            ProcessorPrecision::F32 => (Matrix::new(kernels, keys)?, Matrix::new(kernels, values)?),
            ProcessorPrecision::Int8 => (Matrix::rounded(kernels, keys)?, Matrix::mixed(kernels, values)?),
        })
    };
    (0..split.batch * split.heads).into_par_iter().map(of).collect()
}

/// Zeroes a query's weights of hidden keys.
fn hide(hidden: Option<(Neighbours, usize)>, query: usize, weights: &mut [f32]) {
    if let Some((hidden, grid)) = hidden {
        for (key, weight) in weights.iter_mut().enumerate() {
            if hidden.hides(grid, query, key) {
                *weight = 0.0;
            }
        }
    }
}

/// `elu(x) + 1` of every value, rows contiguous.
fn elu_plus_one(rows: View<'_>) -> Vec<f32> {
    let mut values = rows.to_vec();
    EluPlusOne.map_mut(&mut values);
    values
}

/// `elu(x) + 1`.
pub struct EluPlusOne;

impl SimdUnaryOp<f32> for EluPlusOne {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let positive = ops.gt(x, ops.zero());
        // The exponential of positive values is not needed, and would overflow for large ones.
        let power = Exp::apply(isa, ops.select(ops.zero(), x, positive));
        ops.select(ops.add(x, ops.one()), power, positive)
    }
}
