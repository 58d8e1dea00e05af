//! Linear attention: a block a chunk of a head's tokens.

use super::{Element, Launch};

/// Largest size of a head.
pub const SIDE: usize = 64;

/// Threads of a block.
const THREADS: usize = 128;

/// Tokens of a chunk, which a block takes 64 at a time: few enough that all of a GPU has work, and many enough that the sums of
/// all chunks, which every block reads, cost less than its tokens.
const CHUNK: usize = 4 * 64;

/// Extents of packed queries, keys and values `[batch, tokens, 3, heads, size]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Photos of the batch.
    pub batch: usize,
    /// Tokens of a photo.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a head, at most [`SIDE`].
    pub size: usize,
}

impl Heads {
    /// Values of the sums: of every head and chunk of its tokens a matrix `[size, size]`.
    pub fn sums(self) -> usize {
        self.totals() * self.size
    }

    /// Values of the totals: of every head and chunk of its tokens a vector `[size]`.
    pub fn totals(self) -> usize {
        self.chunks() * self.size
    }

    /// Tokens of all heads: values of [`Grad::inverses`] and of [`Grad::slopes`].
    pub fn rows(self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// Chunks of all heads.
    fn chunks(self) -> usize {
        self.batch * self.heads * self.tokens.div_ceil(CHUNK)
    }

    /// `blocks` for each chunk.
    fn launch<P, const N: usize>(self, kernel: String, blocks: usize, pointers: [P; N]) -> Launch<P> {
        let launch = Launch::new("linear_attention", kernel, blocks * self.chunks(), THREADS);
        launch.pointers(pointers).numbers([self.tokens, self.heads, self.size, CHUNK])
    }
}

/// `qkv` → `sums` ([`Heads::sums`] values of f32) and `totals` ([`Heads::totals`]), which [`attend`] and [`grad`] need.
pub fn key_value_sums<P>(stored: Element, pointers: [P; 3], heads: Heads) -> Launch<P> {
    heads.launch(stored.named("key_value_sums"), 1, pointers)
}

/// `qkv`, `sums` and `totals` → `out [batch, tokens, heads·size]`, stored as `qkv` is.
pub fn attend<P>(stored: Element, pointers: [P; 4], heads: Heads) -> Launch<P> {
    heads.launch(stored.named("attend"), 1, pointers)
}

/// Buffers of the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Grad<P> {
    /// What went in.
    pub qkv: P,
    /// The result's gradient, stored as `qkv` is.
    pub grad: P,
    /// Of [`key_value_sums`]: [`Heads::sums`] values of f32, which are only read.
    pub sums: P,
    /// Of [`key_value_sums`]: [`Heads::totals`] values of f32, which are only read.
    pub totals: P,
    /// Only used on the way: one over each normaliser, [`Heads::rows`] values of f32.
    pub inverses: P,
    /// Only used on the way: the gradients of the normalisers, [`Heads::rows`] values of f32.
    pub slopes: P,
    /// Only used on the way: the gradients of the sums, [`Heads::sums`] values of f32.
    pub of_sums: P,
    /// Only used on the way: the gradients of the totals, [`Heads::totals`] values of f32.
    pub of_totals: P,
    /// The gradient of `qkv`, stored as it is.
    pub out: P,
}

/// The gradient of `qkv`.
pub fn grad<P: Copy>(stored: Element, b: &Grad<P>, heads: Heads) -> [Launch<P>; 3] {
    let of_q = [b.qkv, b.sums, b.totals, b.grad, b.out, b.inverses, b.slopes];
    [
        heads.launch(stored.named("grad_q"), 1, of_q),
        heads.launch(stored.named("grad_sums"), 1, [b.qkv, b.grad, b.inverses, b.slopes, b.of_sums, b.of_totals]),
        heads.launch(stored.named("grad_kv"), 2, [b.qkv, b.of_sums, b.of_totals, b.out]),
    ]
}
