//! Linear attention: a block per chunk of a head's tokens.

use super::{Element, Launch};

/// Largest size of a head.
pub const SIDE: usize = 64;

/// Number of threads per block.
const THREADS: usize = 128;

/// Number of tokens per chunk, which a block processes 64 at a time: few enough to occupy the whole GPU, and enough that reading
/// the sums of all chunks, as every block does, takes less time than its tokens.
const CHUNK: usize = 4 * 64;

/// Extents of packed queries, keys and values `[batch, tokens, 3, heads, size]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of photos.
    pub batch: usize,
    /// Number of tokens per photo.
    pub tokens: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of channels per head, at most [`SIDE`].
    pub size: usize,
}

impl Heads {
    /// Number of values of the sums: a matrix `[size, size]` per head and chunk.
    pub fn sums(self) -> usize {
        self.totals() * self.size
    }

    /// Number of values of the totals: a vector `[size]` per head and chunk.
    pub fn totals(self) -> usize {
        self.chunks() * self.size
    }

    /// Number of tokens of all heads: values of [`Grad::inverses`] and of [`Grad::slopes`].
    pub fn rows(self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// Number of chunks of all heads.
    fn chunks(self) -> usize {
        self.batch * self.heads * self.tokens.div_ceil(CHUNK)
    }

    /// Launch of `blocks` blocks per chunk.
    fn launch<P, const N: usize>(self, kernel: String, blocks: usize, pointers: [P; N]) -> Launch<P> {
        let launch = Launch::new("linear_attention", kernel, blocks * self.chunks(), THREADS);
        launch.pointers(pointers).numbers([self.tokens, self.heads, self.size, CHUNK])
    }
}

/// `qkv` → `sums` ([`Heads::sums`] values of f32) and `totals` ([`Heads::totals`]), which [`attend`] and [`grad`] need.
pub fn key_value_sums<P>(stored: Element, pointers: [P; 3], heads: Heads) -> Launch<P> {
    heads.launch(stored.named("key_value_sums"), 1, pointers)
}

/// `qkv`, `sums` and `totals` → `out [batch, tokens, heads·size]`, stored like `qkv`. `eps` is added to each normaliser.
pub fn attend<P>(stored: Element, pointers: [P; 4], heads: Heads, eps: f32) -> Launch<P> {
    heads.launch(stored.named("attend"), 1, pointers).floats([eps])
}

/// Buffers of the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Grad<P> {
    /// Packed queries, keys and values.
    pub qkv: P,
    /// Gradient of the result, stored like `qkv`.
    pub grad: P,
    /// Sums of [`key_value_sums`]: [`Heads::sums`] values of f32, read only.
    pub sums: P,
    /// Totals of [`key_value_sums`]: [`Heads::totals`] values of f32, read only.
    pub totals: P,
    /// Scratch: inverse of each normaliser, [`Heads::rows`] values of f32.
    pub inverses: P,
    /// Scratch: gradients of the normalisers, [`Heads::rows`] values of f32.
    pub slopes: P,
    /// Scratch: gradients of the sums, [`Heads::sums`] values of f32.
    pub of_sums: P,
    /// Scratch: gradients of the totals, [`Heads::totals`] values of f32.
    pub of_totals: P,
    /// Gradient of `qkv`, stored like it.
    pub out: P,
}

/// Gradient of `qkv`.
pub fn grad<P: Copy>(stored: Element, b: &Grad<P>, heads: Heads, eps: f32) -> [Launch<P>; 3] {
    let of_q = [b.qkv, b.sums, b.totals, b.grad, b.out, b.inverses, b.slopes];
    [
        heads.launch(stored.named("grad_q"), 1, of_q).floats([eps]),
        heads.launch(stored.named("grad_sums"), 1, [b.qkv, b.grad, b.inverses, b.slopes, b.of_sums, b.of_totals]),
        heads.launch(stored.named("grad_kv"), 2, [b.qkv, b.of_sums, b.of_totals, b.out]),
    ]
}
