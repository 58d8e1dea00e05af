//! Dropout with the words that rand_chacha's ChaCha8 gives.

use super::{Arg, BLOCK, Element, Launch};

/// Values that a thread takes: the words of a block of ChaCha.
const WORDS: usize = 16;

/// Which values are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// Key of the generator.
    pub seed: [u8; 32],
    /// Its stream.
    pub stream: u64,
    /// The word of the first value: 0, or how many values of a batch lie before those at hand.
    pub first: u64,
    /// A word below drops its value.
    pub limit: u32,
    /// Factor on all others.
    pub kept: f32,
}

/// `x` → `out`, stored as `x` is; the same for gradients.
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
