//! StableAdamW with or without AMSGrad, and gradient clipping, as in the official code.
//!
//! Adam with update clipping (Wortsman et al. 2023, "Stable and low-precision training"): the step of a tensor is divided
//! by `max(1, rms(grad / denominator) / threshold)`.

#[cfg(feature = "cuda")]
mod cuda;
mod processor;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of [`StableAdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Epsilon in the denominator: 1e-10 in the official multi-class scripts, 1e-8 in the one-class ones.
    pub eps: f64,
    /// Whether the denominator uses the largest second moment so far.
    pub amsgrad: bool,
    /// Largest root mean square of an update before it is scaled down.
    pub clip_threshold: f64,
}

/// Optimiser of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// StableAdamW whose denominator uses the largest second moment so far: Dinomaly.
    #[default]
    StableAdamwAmsgrad,
    /// StableAdamW whose denominator uses the second moment: Dinomaly2.
    StableAdamw,
}

impl Optimizer {
    /// Every optimiser.
    pub const ALL: [Self; 2] = [Self::StableAdamwAmsgrad, Self::StableAdamw];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::StableAdamwAmsgrad => "stable-adamw-amsgrad",
            Self::StableAdamw => "stable-adamw",
        }
    }

    /// Whether it is the one of runs from before this option.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for OptimizerSettings {
    /// The official multi-class settings.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), weight_decay: 1e-4, eps: 1e-10, amsgrad: true, clip_threshold: 1.0 }
    }
}

/// State of one tensor. A parameter without a gradient is skipped completely, without weight decay.
#[derive(Clone, Debug)]
pub struct AdamMoments {
    /// First moment.
    pub mean: Tensor,
    /// Second moment.
    pub square: Tensor,
    /// Largest second moment so far (equal to `square` without AMSGrad).
    pub largest: Tensor,
    /// Number of updates.
    pub steps: usize,
}

/// The optimiser. Parameters have names, so that its state can be saved.
pub struct StableAdamW {
    settings: OptimizerSettings,
    /// Name, parameter and state, in a fixed order. On CUDA, [`StableAdamW::count`] sets `steps`.
    pub parameters: Vec<(String, Var, AdamMoments)>,
    #[cfg(feature = "cuda")]
    queue: Option<cuda::Queue>,
}

impl StableAdamW {
    /// An optimiser of `parameters` with zero moments.
    ///
    /// # Errors
    /// If the device has not enough memory.
    pub fn new(parameters: Vec<(String, Var)>, settings: OptimizerSettings) -> Result<Self> {
        let parameters = parameters
            .into_iter()
            .map(|(name, var)| {
                // Three separate tensors, because kernels change them in place.
                let (mean, square, largest) = (var.zeros_like()?, var.zeros_like()?, var.zeros_like()?);
                Ok((name, var, AdamMoments { mean, square, largest, steps: 0 }))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            settings,
            parameters,
            #[cfg(feature = "cuda")]
            queue: None,
        })
    }

    /// One update with gradients clipped to a total norm of `limit`, skipped if loss or norm are not finite; `rate` gives a
    /// parameter's learning rate from its name. Returns loss and norm, `[2]` in f32, on the device. On CUDA nothing waits for them: after reading them, call
    /// [`StableAdamW::count`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn clipped_step(
        &mut self,
        loss: &Tensor,
        gradients: &GradStore,
        rate: &dyn Fn(&str) -> f64,
        limit: f64,
    ) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if loss.device().is_cuda() {
            return cuda::clipped_step(self, loss, gradients, rate, limit);
        }
        let value = loss.to_scalar::<f32>()?;
        let norm = gradient_norm(self.parameters.iter().map(|(_, var, _)| var), gradients)?;
        if value.is_finite() && norm.is_finite() {
            self.step(gradients, rate, clip_factor(norm, limit))?;
        }
        Tensor::new(&[value, norm as f32], loss.device())
    }

    /// Adds the number of steps that were not skipped, on devices that take them without waiting.
    pub fn count(&mut self, steps: usize) {
        #[cfg(feature = "cuda")]
        if let Some(queue) = &self.queue {
            queue.count(&mut self.parameters, steps);
        }
        #[cfg(not(feature = "cuda"))]
        let _ = steps;
    }

    /// One update with gradients multiplied by `gradient_factor` (see [`clip_factor`]) and learning rates by name.
    ///
    /// # Errors
    /// If the device fails.
    pub fn step(&mut self, gradients: &GradStore, rate: &dyn Fn(&str) -> f64, gradient_factor: f64) -> Result<()> {
        for (name, var, moments) in &mut self.parameters {
            if let Some(gradient) = gradients.get(var) {
                update(&self.settings, var, moments, gradient, gradient_factor, rate(name))?;
            }
        }
        Ok(())
    }
}

/// One update of one tensor, with its gradient multiplied by `gradient_factor`.
///
/// # Errors
/// If the device fails.
pub fn update(
    s: &OptimizerSettings,
    var: &Var,
    state: &mut AdamMoments,
    gradient: &Tensor,
    gradient_factor: f64,
    learning_rate: f64,
) -> Result<()> {
    // Detached, because a gradient may hold its graph.
    let gradient = gradient.detach();
    if var.device().is_cpu() {
        return processor::update(s, var, state, &gradient, gradient_factor, learning_rate);
    }
    composed(s, var, state, &(gradient * gradient_factor)?, learning_rate)
}

/// [`update`] in candle's operations, on any device.
fn composed(
    s: &OptimizerSettings,
    var: &Var,
    state: &mut AdamMoments,
    gradient: &Tensor,
    learning_rate: f64,
) -> Result<()> {
    let (beta1, beta2) = s.betas;
    state.steps += 1;
    state.mean = ((&state.mean * beta1)? + (gradient * (1.0 - beta1))?)?;
    state.square = ((&state.square * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    state.largest = if s.amsgrad { state.largest.maximum(&state.square)? } else { state.square.clone() };
    let correction1 = 1.0 - beta1.powi(state.steps as i32);
    let correction2 = 1.0 - beta2.powi(state.steps as i32);
    let denominator = state.largest.sqrt()?.affine(1.0 / correction2.sqrt(), s.eps)?;
    let rms = f64::from((gradient / &denominator)?.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt();
    let step = learning_rate / correction1 / (rms / s.clip_threshold).max(1.0);
    let decayed = (var.as_tensor().detach() * (1.0 - learning_rate * s.weight_decay))?;
    var.set(&(decayed - ((&state.mean / denominator)? * step)?)?)
}

/// Norm of all gradients together.
///
/// # Errors
/// If the device fails.
pub fn gradient_norm<'a>(parameters: impl Iterator<Item = &'a Var>, gradients: &GradStore) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in parameters.filter_map(|var| gradients.get(var)) {
        sum += match gradient.device().is_cpu() {
            true => processor::squares(gradient)?,
            false => f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?),
        };
    }
    Ok(sum.sqrt())
}

/// The factor that clips gradients with this total norm to `limit` (`torch.nn.utils.clip_grad_norm_`).
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn steps_on_the_processor_are_those_of_candles_operations() {
        for (amsgrad, eps) in [(true, 1e-10), (false, 1e-8)] {
            let settings = OptimizerSettings { amsgrad, eps, weight_decay: 0.1, ..OptimizerSettings::default() };
            // More than one block of values, and a rest.
            let start = Var::randn(0f32, 1.0, (3, 4111), &Device::Cpu).unwrap();
            let state = || {
                let [mean, square, largest] =
                    [0, 1, 2].map(|_| Tensor::zeros((3, 4111), DType::F32, &Device::Cpu).unwrap());
                (Var::from_tensor(&start.copy().unwrap()).unwrap(), AdamMoments { mean, square, largest, steps: 0 })
            };
            let ((found, mut state_found), (expected, mut state_expected)) = (state(), state());
            // Gradients of falling size, so that the largest second moment is an old one.
            for size in [1.0, 30.0, 0.1, 1e-3] {
                let gradient = Tensor::randn(0f32, size, (3, 4111), &Device::Cpu).unwrap();
                update(&settings, &found, &mut state_found, &gradient, 0.25, 0.01).unwrap();
                let scaled = (gradient * 0.25).unwrap();
                composed(&settings, &expected, &mut state_expected, &scaled, 0.01).unwrap();
            }
            assert_eq!(state_found.steps, 4);
            let pairs = [
                (found.as_tensor(), expected.as_tensor()),
                (&state_found.mean, &state_expected.mean),
                (&state_found.square, &state_expected.square),
                (&state_found.largest, &state_expected.largest),
            ];
            for (i, (found, expected)) in pairs.into_iter().enumerate() {
                let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                let number = |t: Tensor| t.to_scalar::<f32>().unwrap();
                let off = number(largest(&(found - expected).unwrap()));
                // The rounding of the step's size, which is a sum in another order.
                assert!(off <= 3e-7 * number(largest(expected)), "tensor {i}, amsgrad {amsgrad}: {off:e}");
            }
            let norm = gradient_norm_of(&state_found.mean);
            let expected = state_found.mean.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            assert!((norm / f64::from(expected) - 1.0).abs() < 1e-6);
        }
    }

    fn gradient_norm_of(x: &Tensor) -> f64 {
        processor::squares(x).unwrap().sqrt()
    }
}
