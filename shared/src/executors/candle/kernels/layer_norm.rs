//! Layer norm: one warp per row.

use super::{BLOCK, CHUNK, Element, Launch, Rows, WARP, add_rows};

const ROWS_OF_A_BLOCK: usize = 4;

fn by_row<P>(kernel: String, rows: Rows) -> Launch<P> {
    Launch::new("layer_norm", kernel, rows.count.div_ceil(ROWS_OF_A_BLOCK), ROWS_OF_A_BLOCK * WARP)
}

/// `x`, `weight`, `bias` in f32 → `out`.
pub fn forward<P>(out: Element, pointers: [P; 4], rows: Rows, eps: f32) -> Launch<P> {
    by_row(out.named("layer_norm"), rows).pointers(pointers).numbers([rows.count, rows.width]).floats([eps])
}

/// `x`, `weight` in f32 and the result's gradient → the gradient of `x` in f32, plus `more` if given.
pub fn grad_x<P: Copy>(
    grad_type: Element,
    [x, weight, grad, out]: [P; 4],
    more: Option<P>,
    rows: Rows,
    eps: f32,
) -> Launch<P> {
    by_row(grad_type.named("layer_norm_grad_x"), rows)
        .pointers([x, weight, grad, more.unwrap_or(x), out])
        .numbers([rows.count, rows.width, more.is_some().into()])
        .floats([eps])
}

/// `x` in f32 and the result's gradient → the gradients of weight and bias, `[2, width]`, with scratch `moments [rows, 2]` and
/// `chunks [`[`Rows::chunks`]`, 2, width]`.
pub fn grad_weight<P: Copy>(
    grad_type: Element,
    [x, grad, moments, chunks, out]: [P; 5],
    rows: Rows,
    eps: f32,
) -> [Launch<P>; 3] {
    let sizes = [rows.count, rows.width];
    [
        by_row("layer_norm_moments".into(), rows).pointers([x, moments]).numbers(sizes).floats([eps]),
        Launch::new("layer_norm", grad_type.named("layer_norm_grad_weight"), rows.column_blocks(), BLOCK)
            .pointers([x, moments, grad, chunks])
            .numbers([rows.count, rows.width, CHUNK]),
        add_rows([chunks, out], rows.chunks(), 2 * rows.width),
    ]
}
