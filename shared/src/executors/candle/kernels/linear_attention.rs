//! Linear attention: a block a head, and 64 of its tokens.

use super::{BLOCK, Element, Launch};

/// Largest size of a head, and tokens of a block.
pub const SIDE: usize = 64;

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
    /// Values of the sums of all heads.
    pub fn sums(self) -> usize {
        self.batch * self.heads * self.size * self.size
    }

    /// Values of the totals of all heads.
    pub fn totals(self) -> usize {
        self.batch * self.heads * self.size
    }

    fn numbers(self) -> [usize; 3] {
        [self.tokens, self.heads, self.size]
    }

    fn by_head<P>(self, kernel: String) -> Launch<P> {
        Launch::new("linear_attention", kernel, self.batch * self.heads, BLOCK)
    }

    fn by_tile<P>(self, kernel: String) -> Launch<P> {
        let tiles = self.tokens.div_ceil(SIDE);
        Launch::new("linear_attention", kernel, self.batch * self.heads * tiles, BLOCK)
    }
}

/// `qkv` → `out [batch, tokens, heads·size]`, stored as `qkv` is, by way of sums and totals.
pub fn forward<P: Copy>(stored: Element, [qkv, sums, totals, out]: [P; 4], heads: Heads) -> [Launch<P>; 2] {
    [
        heads.by_head(stored.named("key_value_sums")).pointers([qkv, sums, totals]).numbers(heads.numbers()),
        heads.by_tile(stored.named("attend")).pointers([qkv, sums, totals, out]).numbers(heads.numbers()),
    ]
}

/// Buffers of the gradient; all but the first two and the last are f32 and only used on the way.
#[derive(Clone, Copy, Debug)]
pub struct Grad<P> {
    /// What went in.
    pub qkv: P,
    /// The result's gradient, stored as `qkv` is.
    pub grad: P,
    /// [`Heads::sums`] values.
    pub sums: P,
    /// [`Heads::totals`] values.
    pub totals: P,
    /// As many as `grad`.
    pub divided: P,
    /// `[batch·heads, tokens]`.
    pub of_normaliser: P,
    /// The gradient of `qkv`, stored as it is.
    pub out: P,
}

/// The gradient of `qkv`. Sums and totals are made anew, and then overwritten with their gradients.
pub fn grad<P: Copy>(stored: Element, b: &Grad<P>, heads: Heads) -> [Launch<P>; 4] {
    [
        heads.by_head(stored.named("key_value_sums")).pointers([b.qkv, b.sums, b.totals]).numbers(heads.numbers()),
        heads
            .by_tile(stored.named("grad_q"))
            .pointers([b.qkv, b.sums, b.totals, b.grad, b.out, b.divided, b.of_normaliser])
            .numbers(heads.numbers()),
        heads
            .by_head(stored.named("grad_sums"))
            .pointers([b.qkv, b.divided, b.of_normaliser, b.sums, b.totals])
            .numbers(heads.numbers()),
        heads.by_tile(stored.named("grad_kv")).pointers([b.qkv, b.sums, b.totals, b.out]).numbers(heads.numbers()),
    ]
}
