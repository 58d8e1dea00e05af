//! Addition of bias and residual to a product.

use super::{BLOCK, Element, Launch, Rows};

/// `x`, `bias` and `residual`, both in f32 → `out` in f32.
pub fn add_bias_residual<P>(x: Element, pointers: [P; 4], rows: Rows) -> Launch<P> {
    let count = rows.count * rows.width;
    // A thread per four values.
    Launch::new("residual", x.named("add_bias_residual"), count.div_ceil(4 * BLOCK), BLOCK)
        .pointers(pointers)
        .numbers([count, rows.width])
}
