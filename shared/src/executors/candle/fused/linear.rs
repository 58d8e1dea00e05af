//! A linear layer with its gradient on the processor, in f32: what follows a product is done block by block, while it is in the cache.

use candle_core::Tensor;
use rayon::prelude::*;
use rten_simd::SimdUnaryOp;

use super::add_rows;
use super::bias::sums_of_columns;
use super::gelu::GeluSlope;
use super::memory::{in_blocks, read, read_if};
use super::outer::outer;
use crate::executors::processor::gelu::Gelu;
use crate::executors::processor::gemm::{Kernels, Matrix, View};
use crate::ops::Then;
use crate::{Error, Result};

/// Number of rows of a block: few enough that its product stays in the L2 cache, enough that the weight is not read too often; a multiple of
/// the kernels' tiles of 4, 6 or 8 rows.
const ROWS: usize = 48;

/// Result of a linear layer.
pub struct Layer {
    /// `[batch, tokens, outputs]`.
    pub tokens: Tensor,
    /// Derivative of the GELU at each value, if the layer ends in one.
    pub slopes: Option<Tensor>,
}

/// `then(x · weightᵀ + bias)` for `x [batch, tokens, inputs]` and `weight [outputs, inputs]`, all in f32 on the processor.
///
/// # Errors
/// If the operands do not fit together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, then: Then<'_, Tensor>) -> Result<Layer> {
    let ((batch, tokens, inputs), (outputs, _)) = (x.dims3()?, weight.dims2()?);
    let residual = if let Then::Add(residual) = &then { Some(*residual) } else { None };
    let tensor = |values: Vec<f32>| Tensor::from_vec(values, (batch, tokens, outputs), x.device());
    read([x, weight], |[x, weight]| {
        let right = Matrix::new(Kernels::default(), View::new(weight, [outputs, inputs]).transposed())?;
        read_if(bias, |bias| {
            read_if(residual, |residual| {
                if matches!(then, Then::Gelu) {
                    let ([tokens, slopes], _) =
                        in_blocks(batch * tokens, ROWS, [outputs; 2], |i, [tokens, slopes]| {
                            right.product(rows(block(x, i, inputs), inputs), 1.0, bias, tokens)?;
                            slopes.copy_from_slice(tokens);
                            Gelu.map_mut(tokens);
                            GeluSlope.map_mut(slopes);
                            Ok::<_, Error>(())
                        })?;
                    return Ok(Layer { tokens: tensor(tokens)?, slopes: Some(tensor(slopes)?) });
                }
                let ([tokens], _) = in_blocks(batch * tokens, ROWS, [outputs], |i, [tokens]| {
                    right.product(rows(block(x, i, inputs), inputs), 1.0, bias, tokens)?;
                    if let Some(residual) = residual {
                        let residual = block(residual, i, outputs);
                        tokens.iter_mut().zip(residual).for_each(|(token, residual)| *token += residual);
                    }
                    Ok::<_, Error>(())
                })?;
                Ok(Layer { tokens: tensor(tokens)?, slopes: None })
            })
        })
    })
}

/// Gradients of a linear layer's operands.
pub struct LayerGrad {
    /// Of the input, if it was wanted.
    pub x: Option<Tensor>,
    /// Of the weight.
    pub weight: Tensor,
    /// Of the bias.
    pub bias: Tensor,
}

/// Gradients of `x · weightᵀ + bias` from that of the result. That of x is multiplied by `slopes`, if there are any.
///
/// # Errors
/// If the operands do not fit together.
pub fn linear_grad(
    x: &Tensor,
    weight: &Tensor,
    of_result: &Tensor,
    slopes: Option<&Tensor>,
    wanted: bool,
) -> Result<LayerGrad> {
    let (shape, (outputs, inputs)) = (x.shape(), weight.dims2()?);
    read([x, weight, of_result], |[x, weight, gradient]| {
        let device = of_result.device();
        let (of_x, sums) = if wanted {
            let right = Matrix::new(Kernels::default(), View::new(weight, [outputs, inputs]))?;
            let ([of_x], sums) = read_if(slopes, |slopes| {
                in_blocks(x.len() / inputs, ROWS, [inputs], |i, [of_x]| {
                    let gradient = block(gradient, i, outputs);
                    right.product(rows(gradient, outputs), 1.0, None, of_x)?;
                    if let Some(slopes) = slopes {
                        of_x.iter_mut().zip(block(slopes, i, inputs)).for_each(|(of_x, slope)| *of_x *= slope);
                    }
                    Ok::<_, Error>(sums_of_columns(gradient, outputs))
                })
            })?;
            (Some(of_x), sums)
        } else {
            let sums = gradient.par_chunks(ROWS * outputs).map(|rows| sums_of_columns(rows, outputs)).collect();
            (None, sums)
        };
        let of_weight = outer(gradient, x, [outputs, inputs]);
        Ok(LayerGrad {
            x: of_x.map(|of_x| Tensor::from_vec(of_x, shape, device)).transpose()?,
            weight: Tensor::from_vec(of_weight, (outputs, inputs), device)?,
            bias: Tensor::from_vec(add_rows(&sums, outputs), outputs, device)?,
        })
    })
}

fn rows(values: &[f32], width: usize) -> View<'_> {
    View::new(values, [values.len() / width, width])
}

/// Values of a block of rows.
fn block(values: &[f32], block: usize, width: usize) -> &[f32] {
    let begin = block * ROWS * width;
    &values[begin..values.len().min(begin + ROWS * width)]
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Measured differences are 1e-7 to 9e-7 of the largest value, for sums of up to 300 terms.
    const TOLERANCE: f32 = 3e-6;

    fn random(draws: &mut ChaCha8Rng, shape: &[usize]) -> Var {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| draws.random_range(-2.0..2.0)).collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn compare(name: &str, found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let (off, largest) = (largest(&(found - expected).unwrap()), largest(expected));
        assert!(off <= TOLERANCE * largest, "{name}: {off:e} of {largest:e}");
    }

    #[test]
    fn a_layer_and_its_gradients_are_those_of_candles_operations() {
        let mut draws = ChaCha8Rng::seed_from_u64(17);
        let mut random = |shape: &[usize]| random(&mut draws, shape);
        // One row, fewer than a block, and several blocks with a rest.
        for (batch, tokens, inputs, outputs) in [(1, 1, 4, 3), (2, 5, 7, 13), (3, 101, 20, 33)] {
            let (x, weight, bias) = (random(&[batch, tokens, inputs]), random(&[outputs, inputs]), random(&[outputs]));
            let residual = random(&[batch, tokens, outputs]).detach();
            let weights = random(&[batch, tokens, outputs]).detach();
            for end in ["store", "GELU", "add"] {
                let product = x.flatten_to(1).unwrap().matmul(&weight.t().unwrap()).unwrap();
                let product = product.reshape((batch, tokens, outputs)).unwrap().broadcast_add(&bias).unwrap();
                let (then, expected) = match end {
                    "store" => (Then::Store, product),
                    "GELU" => (Then::Gelu, product.gelu_erf().unwrap()),
                    _ => (Then::Add(&residual), (product + &residual).unwrap()),
                };
                let gradients = (&expected * &weights).unwrap().sum_all().unwrap().backward().unwrap();

                let found = linear(&x, &weight, Some(&bias), then).unwrap();
                compare(end, &found.tokens, &expected);
                let of_product = match &found.slopes {
                    Some(slopes) => (&weights * slopes).unwrap(),
                    None => weights.clone(),
                };
                let found = linear_grad(&x, &weight, &of_product, None, true).unwrap();
                compare("x", found.x.as_ref().unwrap(), gradients.get(&x).unwrap());
                compare("weight", &found.weight, gradients.get(&weight).unwrap());
                compare("bias", &found.bias, gradients.get(&bias).unwrap());
                let unwanted = linear_grad(&x, &weight, &of_product, None, false).unwrap();
                compare("weight", &unwanted.weight, gradients.get(&weight).unwrap());
                compare("bias", &unwanted.bias, gradients.get(&bias).unwrap());
                assert!(unwanted.x.is_none());
                let slopes = random(&[batch, tokens, inputs]).detach();
                let sloping = linear_grad(&x, &weight, &of_product, Some(&slopes), true).unwrap();
                compare("sloping x", &sloping.x.unwrap(), &(gradients.get(&x).unwrap() * slopes).unwrap());
            }
            let unbiased = linear(&x, &weight, None, Then::Store).unwrap().tokens;
            let biased = linear(&x, &weight, Some(&bias), Then::Store).unwrap().tokens;
            compare("without bias", &unbiased.broadcast_add(&bias).unwrap(), &biased);
        }
    }
}
