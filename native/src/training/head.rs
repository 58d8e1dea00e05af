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
    /// at ±0.03, zero biases, layer norms one and zero. The scripts leave convolutions, which only the decoders of Table A7 have, as
    /// PyTorch's `Conv2d` makes them: uniform within ±1/√n, n the number of weights of an output.
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
            } else if let [channels, inputs, height, width] = *shape {
                let weights = inputs * height * width;
                let bound = 1.0 / (weights as f32).sqrt();
                (0..channels * weights).map(|_| generator.random_range(-bound..bound)).collect()
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

#[cfg(test)]
mod tests {
    use dinomaly_core::model::config::{EncoderConfig, Mixer};

    use super::*;

    #[test]
    fn kernels_begin_as_conv2d_and_matrices_as_in_the_scripts() {
        let mut config = ModelConfig::published(EncoderConfig::vit(64, 1, 16, 4)).unwrap();
        (config.decoder.mixer, config.remove_class_token) = (Mixer::Convolution { kernel: 5 }, true);
        let head = TrainableHead::fresh(&config, 3, &Device::Cpu).unwrap();
        let values = |end: &str| -> Vec<f32> {
            let own = head.variables.iter().filter(|(name, _)| name.ends_with(end));
            own.flat_map(|(_, var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
        };
        let spread =
            |values: &[f32]| (values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64).sqrt();
        let kernels = values("dwconv.weight");
        assert_eq!(kernels.len(), 8 * 128 * 25);
        // Within ±1/5, and with the deviation of a uniform distribution: 0.2 / √3.
        assert!(kernels.iter().all(|value| value.abs() <= 0.2) && kernels.iter().any(|value| value.abs() > 0.199));
        assert!((spread(&kernels) / (0.2 / 3f64.sqrt()) - 1.0).abs() < 0.02, "{}", spread(&kernels));
        let matrices = values("pwconv1.weight");
        assert!(matrices.iter().all(|value| value.abs() <= 0.03) && (spread(&matrices) / 0.01 - 1.0).abs() < 0.03);
    }
}
