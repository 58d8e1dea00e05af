//! Bias and GELU after a product.

use super::{BLOCK, CHUNK, Element, Launch, Rows, add_rows};

fn by_pack<P, const N: usize>(x: Element, kernel: &str, pointers: [P; N], rows: Rows) -> Launch<P> {
    let count = rows.count * rows.width;
    let launch = Launch::new("bias", x.named(kernel), count.div_ceil(x.pack() * BLOCK), BLOCK);
    launch.pointers(pointers).numbers([count, rows.width])
}

/// `x`, `bias` in f32 → `out`, stored like `x`.
pub fn add_bias<P>(x: Element, pointers: [P; 3], rows: Rows) -> Launch<P> {
    by_pack(x, "add_bias", pointers, rows)
}

/// `x`, `bias` in f32 → `out`, stored like `x`.
pub fn add_bias_gelu<P>(x: Element, pointers: [P; 3], rows: Rows) -> Launch<P> {
    by_pack(x, "add_bias_gelu", pointers, rows)
}

/// `x`, `bias` in f32 and the result's gradient → the gradient of `x + bias`, both stored like `x`.
pub fn add_bias_gelu_grad<P>(x: Element, pointers: [P; 4], rows: Rows) -> Launch<P> {
    by_pack(x, "add_bias_gelu_grad", pointers, rows)
}

/// `x` → the sum of its rows in f32, with scratch `chunks [`[`Rows::chunks`]`, width]`.
pub fn column_sum<P: Copy>(x_type: Element, [x, chunks, out]: [P; 3], rows: Rows) -> [Launch<P>; 2] {
    [
        Launch::new("bias", x_type.named("column_sum"), rows.column_blocks(), BLOCK)
            .pointers([x, chunks])
            .numbers([rows.count, rows.width, CHUNK]),
        add_rows([chunks, out], rows.chunks(), rows.width),
    ]
}
