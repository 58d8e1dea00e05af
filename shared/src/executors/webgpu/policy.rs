//! Which precision a model is run in: the fastest that its self-test accepts on this GPU.

use super::{Precision, WebGpu};
use crate::bundle::Model;
use crate::detector::Detector;
use crate::quant::is_linear_weight;
use crate::tensor::Data;
use crate::{Error, Result};

/// A model on the GPU, and why not in a smaller precision.
pub struct Opened {
    /// The model, which has passed its self-test.
    pub detector: Detector<WebGpu>,
    /// The faster precisions that failed, with their reasons, each a sentence.
    pub refused: Vec<(Precision, String)>,
}

impl WebGpu {
    /// Takes a model in the fastest precision that its self-test accepts. A model without one is computed in f32: nothing
    /// vouches for less. So is any on an emulated GPU, where smaller types save no time (f16 weights took as long as f32
    /// ones on SwiftShader, int8 activations a fifth longer). `uploaded` is told when weights are on the GPU, each time.
    ///
    /// # Errors
    /// [`Error::Device`] if the self-test fails in f32 too, or the device does; [`Detector::new`]'s own.
    pub async fn open_model(self, model: &Model, uploaded: &mut dyn FnMut()) -> Result<Opened> {
        let plain = model.self_test.is_none() || self.adapter().is_software;
        let candidates = if plain { vec![Precision::F32] } else { self.worthwhile(model) };
        self.open_model_in(model, &candidates, uploaded).await
    }

    /// Takes a model in the first of these precisions that its self-test accepts.
    ///
    /// # Errors
    /// As [`WebGpu::open_model`]; [`Error::Config`] if there is no candidate.
    pub async fn open_model_in(
        mut self,
        model: &Model,
        candidates: &[Precision],
        uploaded: &mut dyn FnMut(),
    ) -> Result<Opened> {
        let mut refused = Vec::new();
        let mut failure = Error::config("no precision to compute in was given");
        for &precision in candidates {
            let detector = Detector::new(self.with_precision(precision), model)?;
            uploaded();
            let outcome = match &model.self_test {
                Some(self_test) => detector.verify("webgpu", self_test, 0.0).await,
                None => Ok(()),
            };
            let Err(error) = outcome else { return Ok(Opened { detector, refused }) };
            self = detector.into_ops();
            // A device that is lost fails in every precision.
            self.gpu.check()?;
            refused.push((precision, error.to_string()));
            failure = error;
        }
        Err(failure)
    }

    /// The precisions that make a difference to this model here, the fastest first.
    fn worthwhile(&self, model: &Model) -> Vec<Precision> {
        let weights = model.weights.0.iter().filter(|(name, weight)| is_linear_weight(name, &weight.shape));
        let (mut int8, mut f32) = (false, false);
        for (_, weight) in weights {
            int8 |= matches!(weight.data, Data::Int8 { .. });
            f32 |= matches!(weight.data, Data::F32(_));
        }
        let differs = |precision: &Precision| match precision {
            Precision::F32 => true,
            Precision::F16 => f32,
            Precision::Int8 => int8 && self.adapter().integer_dot,
        };
        Precision::FASTEST_FIRST.into_iter().filter(differs).collect()
    }
}
