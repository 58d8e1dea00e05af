//! The optimiser's step on the processor: two passes over a tensor and its state, in place and on all cores.

use candle_core::{Result, Tensor, Var};
use dinomaly_core::executors::candle::fused::{edit, read, sum};
use rayon::prelude::*;

use super::{AdamMoments, OptimizerSettings};

/// Values of a task. Sums are added within blocks first, so that they do not depend on the number of cores.
const BLOCK: usize = 8192;

/// See [`super::update`].
pub fn update(
    s: &OptimizerSettings,
    var: &Var,
    state: &mut AdamMoments,
    gradient: &Tensor,
    gradient_factor: f64,
    learning_rate: f64,
) -> Result<()> {
    state.steps += 1;
    let (beta1, beta2) = s.betas;
    let corrections = [beta1, beta2].map(|beta| 1.0 - beta.powi(state.steps as i32));
    let below = Denominator { factor: (1.0 / corrections[1].sqrt()) as f32, eps: s.eps as f32 };
    let moments = Moments { betas: [beta1, beta2], amsgrad: s.amsgrad, factor: gradient_factor as f32, below };

    let squares = edit(&state.mean, |mean| {
        edit(&state.square, |square| {
            edit(&state.largest, |largest| {
                read([gradient], |[gradient]| {
                    let states = mean.par_chunks_mut(BLOCK).zip(square.par_chunks_mut(BLOCK));
                    let blocks = states.zip(largest.par_chunks_mut(BLOCK)).zip(gradient.par_chunks(BLOCK));
                    let of_block =
                        |(((mean, square), largest), gradient)| moments.follow(mean, square, largest, gradient);
                    Ok(blocks.map(of_block).collect::<Vec<f64>>())
                })
            })
        })
    })?;
    let rms = (squares.iter().sum::<f64>() / var.elem_count() as f64).sqrt();
    let step = (learning_rate / corrections[0] / (rms / s.clip_threshold).max(1.0)) as f32;
    let kept = (1.0 - learning_rate * s.weight_decay) as f32;
    edit(var.as_tensor(), |parameter| {
        read([&state.mean, &state.largest], |[mean, largest]| {
            let blocks = parameter.par_chunks_mut(BLOCK).zip(mean.par_chunks(BLOCK)).zip(largest.par_chunks(BLOCK));
            blocks.for_each(|((parameter, mean), largest)| {
                for ((parameter, mean), &largest) in parameter.iter_mut().zip(mean).zip(largest) {
                    *parameter = *parameter * kept - mean / below.of(largest) * step;
                }
            });
            Ok(())
        })
    })
}

/// How the moments follow a gradient.
struct Moments {
    betas: [f64; 2],
    amsgrad: bool,
    /// Of the gradient.
    factor: f32,
    below: Denominator,
}

impl Moments {
    /// Changes the moments, and returns the sum of `(gradient / denominator)²`.
    fn follow(&self, mean: &mut [f32], square: &mut [f32], largest: &mut [f32], gradient: &[f32]) -> f64 {
        let [[keep1, add1], [keep2, add2]] = self.betas.map(|beta| [beta as f32, (1.0 - beta) as f32]);
        for ((mean, square), gradient) in mean.iter_mut().zip(&mut *square).zip(gradient) {
            let gradient = gradient * self.factor;
            *mean = *mean * keep1 + gradient * add1;
            *square = *square * keep2 + gradient * gradient * add2;
        }
        if self.amsgrad {
            largest.iter_mut().zip(square).for_each(|(largest, square)| *largest = largest.max(*square));
        } else {
            largest.copy_from_slice(square);
        }
        f64::from(sum([gradient, largest], |[gradient, square]| {
            let ratio = gradient * self.factor / self.below.of(square);
            ratio * ratio
        }))
    }
}

/// Square root of the second moment, corrected for its start at zero.
#[derive(Clone, Copy)]
struct Denominator {
    factor: f32,
    eps: f32,
}

impl Denominator {
    fn of(self, square: f32) -> f32 {
        square.sqrt() * self.factor + self.eps
    }
}

/// Sum of the squares of a tensor's values.
pub fn squares(x: &Tensor) -> Result<f64> {
    read([x], |[values]| {
        let of_block = |block: &[f32]| f64::from(sum([block], |[value]| value * value));
        Ok(values.par_chunks(BLOCK).map(of_block).collect::<Vec<f64>>().iter().sum())
    })
}
