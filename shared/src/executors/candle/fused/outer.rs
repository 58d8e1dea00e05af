//! Products that sum over rows.

use gemm::{Parallelism, gemm};

/// `leftᵀ · right` of rows `left [rows, l]` and `right [rows, r]`, on all cores: the gradient of a weight. Each sum has the same order on
/// any number of cores.
pub fn outer(left: &[f32], right: &[f32], [l, r]: [usize; 2]) -> Vec<f32> {
    let rows = left.len() / l;
    assert!(left.len() == rows * l && right.len() == rows * r, "rows of other lengths");
    let mut out = Vec::with_capacity(l * r);
    // SAFETY: with these extents and strides, `left` and `right` are read within their lengths, and each of the `l · r` values, for which
    // there is room, is written and not read.
    #[allow(unsafe_code)]
    unsafe {
        let (out_strides, left_strides, right_strides) = ([1, r as isize], [l as isize, 1], [1, r as isize]);
        let [[out_column, out_row], [left_column, left_row], [right_column, right_row]] =
            [out_strides, left_strides, right_strides];
        gemm(
            l,
            r,
            rows,
            out.as_mut_ptr(),
            out_column,
            out_row,
            false,
            left.as_ptr(),
            left_column,
            left_row,
            right.as_ptr(),
            right_column,
            right_row,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(rayon::current_num_threads()),
        );
        out.set_len(l * r);
    }
    out
}
