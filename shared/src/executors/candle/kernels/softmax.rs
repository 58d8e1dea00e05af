//! Softmax over rows: one warp per row.

use super::{Element, Launch, Rows, WARP};

const ROWS_OF_A_BLOCK: usize = 8;

/// Softmax of `x` times a positive `scale` → `out`, stored like `x`.
pub fn softmax<P>(x: Element, pointers: [P; 2], rows: Rows, scale: f32) -> Launch<P> {
    Launch::new("softmax", x.named("softmax"), rows.count.div_ceil(ROWS_OF_A_BLOCK), ROWS_OF_A_BLOCK * WARP)
        .pointers(pointers)
        .numbers([rows.count, rows.width])
        .floats([scale])
}
