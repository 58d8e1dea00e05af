//! Depthwise convolution with gradients in one pass each, for the CPU.

use candle_core::{DType, Result, Shape, Tensor};
use rayon::prelude::*;

use super::fused::{Fused, Op, add_rows, last_dim};

/// Depthwise convolution of `image [batch, grid, grid, channels]` with `kernels [side², channels]`, zero padding; differentiable in
/// both.
pub fn depthwise_conv(image: &Tensor, kernels: &Tensor) -> Result<Tensor> {
    image.contiguous()?.apply_op2(kernels, Op(DepthwiseConv))
}

struct DepthwiseConv;

impl Fused<2> for DepthwiseConv {
    const NAME: &'static str = "depthwise-conv";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [image, kernels]: [&[f32]; 2], [shape, of_kernels]: [&Shape; 2]) -> Result<(Vec<f32>, Shape)> {
        let (window, channels) = (Window::of(shape, of_kernels)?, last_dim(shape));
        let mut out = vec![0f32; image.len()];
        let photo = window.grid * window.grid * channels;
        out.par_chunks_mut(photo).zip(image.par_chunks(photo)).for_each(|(out, image)| {
            window.each(|to, from, place| {
                let sums = out[to * channels..].iter_mut().take(channels);
                for ((sum, x), weight) in sums.zip(&image[from * channels..]).zip(&kernels[place * channels..]) {
                    *sum += x * weight;
                }
            });
        });
        Ok((out, shape.clone()))
    }

    fn backward(&self, [image, kernels]: [&Tensor; 2], _result: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let grad = grad.contiguous()?;
        // The gradient of the image is the result's, convolved with the flipped kernels.
        let of_image = grad.apply_op2_no_bwd(&kernels.flip(&[0])?.contiguous()?, &Op(DepthwiseConv))?;
        let of_kernels =
            image.contiguous()?.apply_op3_no_bwd(&grad, &kernels.contiguous()?, &Op(DepthwiseConvGradKernels))?;
        Ok([Some(of_image), Some(of_kernels)])
    }
}

struct DepthwiseConvGradKernels;

impl Fused<3> for DepthwiseConvGradKernels {
    const NAME: &'static str = "depthwise-conv-grad-kernels";

    fn dtype(&self, _first: DType) -> DType {
        DType::F32
    }

    fn cpu(&self, [image, grad, _]: [&[f32]; 3], [shape, _, of_kernels]: [&Shape; 3]) -> Result<(Vec<f32>, Shape)> {
        let (window, channels) = (Window::of(shape, of_kernels)?, last_dim(shape));
        let photo = window.grid * window.grid * channels;
        let kernels = of_kernels.elem_count();
        let partial: Vec<Vec<f32>> = image
            .par_chunks(photo)
            .zip(grad.par_chunks(photo))
            .map(|(image, grad)| {
                let mut sums = vec![0f32; kernels];
                window.each(|to, from, place| {
                    let sums = sums[place * channels..].iter_mut().take(channels);
                    for ((sum, x), grad) in sums.zip(&image[from * channels..]).zip(&grad[to * channels..]) {
                        *sum += x * grad;
                    }
                });
                sums
            })
            .collect();
        Ok((add_rows(&partial, kernels), of_kernels.clone()))
    }
}

/// Square kernel on a square grid.
struct Window {
    grid: usize,
    side: usize,
}

impl Window {
    /// Extents of `image [batch, grid, grid, channels]` and `kernels [side², channels]`.
    fn of(image: &Shape, kernels: &Shape) -> Result<Self> {
        let ((_, grid, _, _), (places, _)) = (image.dims4()?, kernels.dims2()?);
        Ok(Self { grid, side: places.isqrt() })
    }

    /// Calls `visit` for every point of the grid and every point of its window, with the position of the latter in the kernel.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (grid, side, reach) = (self.grid, self.side, self.side / 2);
        for (row, column) in (0..grid * grid).map(|point| (point / grid, point % grid)) {
            for (dy, dx) in (0..side * side).map(|place| (place / side, place % side)) {
                let (from_row, from_column) = (row + dy, column + dx);
                if (reach..grid + reach).contains(&from_row) && (reach..grid + reach).contains(&from_column) {
                    visit(row * grid + column, (from_row - reach) * grid + from_column - reach, dy * side + dx);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::fused::tests::compare;
    use super::super::shifted_products;
    use super::*;

    #[test]
    fn the_fused_form_and_its_gradients_equal_the_composed_one() {
        for side in [1, 3, 5] {
            let composed = |v: &[Var]| shifted_products(&v[0], &v[1], side);
            compare(|v| depthwise_conv(&v[0], &v[1]), composed, &[&[2, 4, 4, 13], &[side * side, 13]]);
        }
    }
}
