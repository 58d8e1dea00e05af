//! Layer norm, bias and GELU as one pass over memory each, with their gradients, for training on the CPU.
//!
//! Composed of candle's own operations they take some ten passes, most of them over broadcast operands, which its CPU
//! backend walks element by element. Other devices keep the composed form.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows that one task takes: enough to hide its cost, few enough to share among cores. Column sums are added within
/// these blocks first, which keeps their rounding low.
const ROWS: usize = 64;

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension; differentiable in all three.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { eps: eps as f32 })
}

/// `x + bias` over the last dimension; differentiable in both.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, AddBias)
}

/// Exact GELU of `x + bias`; differentiable in both.
pub fn add_bias_gelu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, AddBiasGelu)
}

/// The error function within 5e-7 of the exact value: the rational approximation of Eigen and XLA, which compilers
/// vectorise.
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let mut p = -2.726_142_3e-10f32;
    for coefficient in
        [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2f32]
    {
        p = p * x2 + coefficient;
    }
    let mut q = -1.456_607_2e-5f32;
    for coefficient in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2f32] {
        q = q * x2 + coefficient;
    }
    x * p / q
}

/// The distribution function of the normal distribution.
fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// Mean and `1 / sqrt(variance + eps)` of a row.
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum(row.iter().copied()) / row.len() as f32;
    let variance = sum(row.iter().map(|v| (v - mean) * (v - mean))) / row.len() as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// A sum in eight lanes: vectorised, and rounding less than one after the other.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; 8];
    for (i, value) in values.enumerate() {
        lanes[i % 8] += value;
    }
    lanes.iter().sum()
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (values(x, x_layout)?, values(weight, weight_layout)?, values(bias, bias_layout)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let (mean, scale) = moments(x, self.eps);
                for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                    *out = (x - mean) * scale * weight + bias;
                }
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let of_x = x.contiguous()?.apply_op3_no_bwd(weight, &grad, &LayerNormGradX { eps: self.eps })?;
        let of_weight = x.contiguous()?.apply_op2_no_bwd(&grad, &LayerNormGradWeight { eps: self.eps })?;
        Ok((Some(of_x), Some(of_weight), Some(column_sum(&grad)?)))
    }
}

struct LayerNormGradX {
    eps: f32,
}

impl CustomOp3 for LayerNormGradX {
    fn name(&self) -> &'static str {
        "layer-norm-grad-x"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, grad) = (values(x, x_layout)?, values(weight, weight_layout)?, values(grad, grad_layout)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).zip(blocks(grad, width)).for_each(|((out, x), grad)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
            for ((out, x), grad) in rows {
                let (mean, scale) = moments(x, self.eps);
                let scaled = || grad.iter().zip(weight).map(|(g, w)| g * w);
                let mean_grad = sum(scaled()) / width as f32;
                let along = sum(scaled().zip(x).map(|(g, x)| g * (x - mean) * scale)) / width as f32;
                for (((out, x), grad), weight) in out.iter_mut().zip(x).zip(grad).zip(weight) {
                    *out = scale * (grad * weight - mean_grad - (x - mean) * scale * along);
                }
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

struct LayerNormGradWeight {
    eps: f32,
}

impl CustomOp2 for LayerNormGradWeight {
    fn name(&self) -> &'static str {
        "layer-norm-grad-weight"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (values(x, x_layout)?, values(grad, grad_layout)?);
        let width = last_dim(x_layout);
        let partial: Vec<Vec<f32>> = blocks(x, width)
            .zip(blocks(grad, width))
            .map(|(x, grad)| {
                let mut sums = vec![0f32; width];
                for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
                    let (mean, scale) = moments(x, self.eps);
                    for ((sum, x), grad) in sums.iter_mut().zip(x).zip(grad) {
                        *sum += grad * (x - mean) * scale;
                    }
                }
                sums
            })
            .collect();
        Ok((CpuStorage::F32(add_rows(&partial, width)), Shape::from(width)))
    }
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        map_with_bias(x, x_layout, bias, bias_layout, |x, bias| x + bias)
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(column_sum(grad)?)))
    }
}

struct AddBiasGelu;

impl CustomOp2 for AddBiasGelu {
    fn name(&self) -> &'static str {
        "add-bias-gelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        map_with_bias(x, x_layout, bias, bias_layout, |x, bias| {
            let x = x + bias;
            x * normal_cdf(x)
        })
    }

    fn bwd(&self, x: &Tensor, bias: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = x.contiguous()?.apply_op3_no_bwd(bias, &grad.contiguous()?, &AddBiasGeluGrad)?;
        let of_bias = column_sum(&grad)?;
        Ok((Some(grad), Some(of_bias)))
    }
}

struct AddBiasGeluGrad;

impl CustomOp3 for AddBiasGeluGrad {
    fn name(&self) -> &'static str {
        "add-bias-gelu-grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
        let (x, bias, grad) = (values(x, x_layout)?, values(bias, bias_layout)?, values(grad, grad_layout)?);
        let width = bias.len();
        let mut out = vec![0f32; x.len()];
        blocks_mut(&mut out, width).zip(blocks(x, width)).zip(blocks(grad, width)).for_each(|((out, x), grad)| {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
            for ((out, x), grad) in rows {
                for (((out, x), grad), bias) in out.iter_mut().zip(x).zip(grad).zip(bias) {
                    let x = x + bias;
                    *out = grad * (normal_cdf(x) + x * INVERSE_SQRT_TAU * (-0.5 * x * x).exp());
                }
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

/// `out[r, c] = f(x[r, c], bias[c])`.
fn map_with_bias(
    x: &CpuStorage,
    x_layout: &Layout,
    bias: &CpuStorage,
    bias_layout: &Layout,
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<(CpuStorage, Shape)> {
    let (x, bias) = (values(x, x_layout)?, values(bias, bias_layout)?);
    let width = bias.len();
    let mut out = vec![0f32; x.len()];
    blocks_mut(&mut out, width).zip(blocks(x, width)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for ((out, &x), &bias) in out.iter_mut().zip(x).zip(bias) {
                *out = f(x, bias);
            }
        }
    });
    Ok((CpuStorage::F32(out), x_layout.shape().clone()))
}

/// Sum over all dimensions but the last, as a product with ones: fast on every device.
fn column_sum(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let rows = x.elem_count() / width;
    Tensor::ones((1, rows), x.dtype(), x.device())?.matmul(&x.reshape((rows, width))?)?.squeeze(0)
}

pub(super) fn add_rows(rows: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0f32; width];
    for row in rows {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
    }
    total
}

fn blocks(values: &[f32], width: usize) -> rayon::slice::Chunks<'_, f32> {
    values.par_chunks(ROWS * width)
}

fn blocks_mut(values: &mut [f32], width: usize) -> rayon::slice::ChunksMut<'_, f32> {
    values.par_chunks_mut(ROWS * width)
}

pub(super) fn last_dim(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

/// The values of a contiguous f32 operand.
pub(super) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else { bail!("a fused operation takes f32 operands") };
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a fused operation takes contiguous operands") };
    Ok(&values[start..end])
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{Device, Var};
    use candle_nn::ops::layer_norm_slow;

    use super::*;

    #[test]
    fn erf_is_exact_to_float_rounding() {
        let worst = (-50_000..50_000)
            .map(|i| i as f32 * 1e-4)
            .map(|x| (f64::from(erf(x)) - libm::erf(f64::from(x))).abs())
            .fold(0.0, f64::max);
        assert!(worst < 5e-7, "{worst:e}");
    }

    /// Runs both forms on random input and compares value and all gradients of a random linear function of the result.
    pub(in super::super) fn compare(
        fused: impl Fn(&[Var]) -> Result<Tensor>,
        composed: impl Fn(&[Var]) -> Result<Tensor>,
        shapes: &[&[usize]],
    ) {
        let device = Device::Cpu;
        let inputs: Vec<Var> = shapes.iter().map(|&shape| Var::randn(0f32, 1f32, shape, &device).unwrap()).collect();
        let (a, b) = (fused(&inputs).unwrap(), composed(&inputs).unwrap());
        let weights = Tensor::randn(0f32, 1f32, a.dims(), &device).unwrap();
        let gradients = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let (of_a, of_b) = (gradients(&a), gradients(&b));
        let mut pairs = vec![(a, b)];
        pairs.extend(inputs.iter().map(|v| (of_a.get(v).unwrap().clone(), of_b.get(v).unwrap().clone())));
        for (i, (a, b)) in pairs.iter().enumerate() {
            let largest =
                |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            let difference = largest(&(a - b).unwrap());
            // Sums of up to 200 terms of size 1 in f32: measured 2e-7 to 1e-6, relative.
            assert!(difference <= 5e-6 * largest(b).max(1.0), "output {i}: {difference:e} of {:e}", largest(b));
        }
    }

    #[test]
    fn fused_forms_and_their_gradients_equal_the_composed_ones() {
        let shapes: [&[usize]; 3] = [&[2, 67, 13], &[13], &[13]];
        compare(|v| layer_norm(&v[0], &v[1], &v[2], 1e-8), |v| layer_norm_slow(&v[0], &v[1], &v[2], 1e-8), &shapes);
        compare(|v| add_bias(&v[0], &v[1]), |v| v[0].broadcast_add(&v[1]), &shapes[..2]);
        compare(|v| add_bias_gelu(&v[0], &v[1]), |v| v[0].broadcast_add(&v[1])?.gelu_erf(), &shapes[..2]);
    }
}
