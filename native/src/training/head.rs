//! The trainable part: initial values and variables of a [`Head`].

use candle_core::{Device, Tensor, Var};
use dinomaly_core::model::config::ModelConfig;
use dinomaly_core::model::dinomaly::Head;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A head with its tensors as variables, by name and in a fixed order.
pub struct TrainableHead {
    /// The model part, which shares its storage with the variables.
    pub head: Head<Tensor>,
    /// Every trainable tensor.
    pub variables: Vec<(String, Var)>,
}

impl TrainableHead {
    /// Initial values of the official scripts: linear weights from a normal distribution of standard deviation 0.01 cut
    /// at ±0.03, zero biases, layer norms one and zero.
    ///
    /// # Errors
    /// If the device has not enough memory.
    pub fn fresh(config: &ModelConfig, seed: u64, device: &Device) -> dinomaly_core::Result<Self> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        Self::build(config, &mut |name, shape| {
            let values = if name.ends_with(".bias") {
                vec![0.0; shape.iter().product()]
            } else if shape.len() == 1 {
                vec![1.0; shape[0]]
            } else {
                (0..shape.iter().product()).map(|_| 0.01 * truncated_normal(&mut generator)).collect()
            };
            Ok(Var::from_vec(values, shape, device)?)
        })
    }

    /// A head with saved weights.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape; the error names it.
    pub fn from_weights(config: &ModelConfig, weights: &Weights, device: &Device) -> dinomaly_core::Result<Self> {
        Self::build(config, &mut |name, shape| Ok(Var::from_slice(&weights.get(name, shape)?.to_f32(), shape, device)?))
    }

    fn build(
        config: &ModelConfig,
        variable: &mut dyn FnMut(&str, &[usize]) -> dinomaly_core::Result<Var>,
    ) -> dinomaly_core::Result<Self> {
        let mut variables = Vec::new();
        let head = Head::load(config, &mut |name, shape| {
            let var = variable(name, shape)?;
            let tensor = var.as_tensor().clone();
            variables.push((name.to_owned(), var));
            Ok(tensor)
        })?;
        Ok(Self { head, variables })
    }

    /// The current values.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&self) -> dinomaly_core::Result<Weights> {
        let host = |var: &Var| HostTensor::f32(var.dims(), var.flatten_all()?.to_vec1::<f32>()?);
        Ok(Weights(
            self.variables
                .iter()
                .map(|(name, var)| Ok((name.clone(), host(var)?)))
                .collect::<dinomaly_core::Result<_>>()?,
        ))
    }
}

/// Standard normal, redrawn outside ±3 (`trunc_normal_(std=0.01, a=-0.03, b=0.03)`).
pub(crate) fn truncated_normal(generator: &mut ChaCha8Rng) -> f32 {
    loop {
        let z = standard_normal(generator);
        if z.abs() <= 3.0 {
            return z;
        }
    }
}

/// Standard normal, by the Box–Muller transform.
pub(crate) fn standard_normal(generator: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - generator.random::<f64>(), generator.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
