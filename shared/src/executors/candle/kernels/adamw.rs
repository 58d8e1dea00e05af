//! StableAdamW over many tensors at once.

use super::{BLOCK, Launch};

/// Number of values per block.
const LENGTH: usize = 8192;

/// Number of threads of the only block that adds up all pieces of the gradients.
const ADDERS: usize = 1024;

/// Number of 64-bit words per tensor in [`Pieces::tensors`].
pub const WORDS: usize = 9;

/// Division of tensors into pieces, one per block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    counts: Vec<usize>,
    /// Tensor and first value of every piece.
    pub table: Vec<u32>,
}

impl Pieces {
    /// Pieces of tensors with these numbers of values.
    pub fn new(counts: Vec<usize>) -> Self {
        let of_tensor = |(tensor, &count): (usize, &usize)| {
            (0..count).step_by(LENGTH).flat_map(move |begin| [super::number(tensor), super::number(begin)])
        };
        let table = counts.iter().enumerate().flat_map(of_tensor).collect();
        Self { counts, table }
    }

    /// Number of pieces.
    pub fn count(&self) -> usize {
        self.table.len() / 2
    }

    /// Table of tensors for the kernels, [`WORDS`] words each: addresses of parameter, gradient, first, second and largest second
    /// moment, number of values, first block, number of blocks; then two floats, the learning rate and the share of the parameter
    /// that weight decay leaves.
    pub fn tensors(&self, pointers: &[[u64; 5]], rates: &[f64], decay: f64) -> Vec<u64> {
        let mut first = 0;
        let words = pointers.iter().zip(rates).zip(&self.counts).flat_map(|((pointers, &rate), &count)| {
            let blocks = count.div_ceil(LENGTH) as u64;
            first += blocks;
            let floats = [rate, 1.0 - rate * decay].map(|x| u64::from((x as f32).to_bits()));
            let sizes = [count as u64, first - blocks, blocks, floats[0] | floats[1] << 32];
            pointers.iter().copied().chain(sizes).collect::<Vec<_>>()
        });
        words.collect()
    }
}

/// Buffers of a step.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<P> {
    /// [`Pieces::tensors`].
    pub tensors: P,
    /// [`Pieces::table`].
    pub pieces: P,
    /// Scratch, one value per piece.
    pub sums: P,
    /// Scratch, two values.
    pub decision: P,
    /// Number of steps that counted, one `u32`.
    pub steps: P,
    /// The loss, one value.
    pub loss: P,
    /// Loss and norm of all gradients together: two values.
    pub record: P,
}

/// Hyperparameters of a step that all tensors share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Decay rates of the moments.
    pub betas: (f64, f64),
    /// Epsilon of the denominator.
    pub eps: f64,
    /// Whether the denominator uses the largest second moment so far.
    pub amsgrad: bool,
    /// Root mean square above which a tensor's step is reduced.
    pub threshold: f64,
    /// Largest total norm of all gradients.
    pub limit: f64,
}

/// One step.
pub fn step<P: Copy>(pieces: &Pieces, b: &Buffers<P>, r: &Settings) -> [Launch<P>; 4] {
    let by_piece = |kernel| Launch::new("adamw", kernel, pieces.count(), BLOCK);
    let (beta1, beta2) = r.betas;
    let [log_beta1, log_beta2] = [beta1, beta2].map(|beta| beta.ln() as f32);
    // The difference from 1 is small, and is computed in double precision.
    let moments = [beta1, 1.0 - beta1, beta2, 1.0 - beta2].map(|x| x as f32);
    let [eps, threshold] = [r.eps, r.threshold].map(|x| x as f32);
    [
        by_piece("gradient_squares").pointers([b.tensors, b.pieces, b.sums]).numbers([LENGTH]),
        Launch::new("adamw", "clip", 1, ADDERS)
            .pointers([b.sums])
            .numbers([pieces.count()])
            .pointers([b.loss, b.decision, b.steps, b.record])
            .floats([r.limit as f32]),
        by_piece("adamw_moments")
            .pointers([b.tensors, b.pieces, b.decision, b.steps, b.sums])
            .numbers([LENGTH, r.amsgrad.into()])
            .floats(moments)
            .floats([log_beta2, eps]),
        by_piece("adamw_apply")
            .pointers([b.tensors, b.pieces, b.decision, b.steps, b.sums])
            .numbers([LENGTH])
            .floats([log_beta1, log_beta2, eps, threshold]),
    ]
}
