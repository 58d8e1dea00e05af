//! Dropout by the words of rand_chacha's ChaCha8.

use super::{Arg, BLOCK, Element, Launch};

/// Number of values per thread: the words of a block of ChaCha.
const WORDS: usize = 16;

/// Parameters of a dropout mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// Key of the generator.
    pub seed: [u8; 32],
    /// Stream of the generator.
    pub stream: u64,
    /// Word of the first value: the number of earlier values of the batch.
    pub first: u64,
    /// Limit below which a word drops its value.
    pub limit: u32,
    /// Factor on all other values.
    pub kept: f32,
}

/// `x` → `out`, stored like `x`; the same for gradients.
pub fn dropout<P>(x: Element, pointers: [P; 2], count: usize, mask: &Mask) -> Launch<P> {
    let words = count + (mask.first % WORDS as u64) as usize;
    let mut launch = Launch::new("dropout", x.named("dropout"), words.div_ceil(WORDS * BLOCK), BLOCK)
        .pointers(pointers)
        .numbers([count]);
    let (key, _) = mask.seed.as_chunks();
    launch.args.extend(key.iter().map(|&bytes| Arg::U64(u64::from_le_bytes(bytes))));
    launch.args.extend([Arg::U64(mask.stream), Arg::U64(mask.first), Arg::U32(mask.limit)]);
    launch.floats([mask.kept])
}
