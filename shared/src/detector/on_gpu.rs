//! A model on the GPU, in the fastest precision that its self-test accepts.

use crate::bundle::Model;
use crate::detector::Detector;
use crate::executors::webgpu::{GpuPrecision, WebGpu};
use crate::tensor::StorageType;
use crate::tensor::named::is_linear_weight;
use crate::{Error, Result};

/// A model on the GPU, and the reasons against faster precisions.
pub struct Opened {
    /// The model, which passed its self-test.
    pub detector: Detector<WebGpu>,
    /// Faster precisions that failed, each with the reason as a sentence.
    pub refused: Vec<(GpuPrecision, String)>,
}

impl WebGpu {
    /// Loads a model in the fastest of its [candidates](Self::candidates) that its self-test accepts.
    ///
    /// # Errors
    /// [`Error::Device`] if the self-test fails in f32 too, or the device fails; as [`Detector::new`].
    pub async fn open_model(self, model: &Model) -> Result<Opened> {
        let weights = model.weights.0.iter().filter(|(name, weight)| is_linear_weight(name, &weight.shape));
        let stored: Vec<StorageType> = weights.map(|(_, weight)| StorageType::of([weight])).collect();
        let candidates = self.candidates(model.self_test.is_some(), |storage| stored.contains(&storage));
        self.open_model_in(model, &candidates).await
    }

    /// Loads a model in the first of these precisions that its self-test accepts.
    ///
    /// # Errors
    /// As [`WebGpu::open_model`]; [`Error::Config`] if there are no candidates.
    pub async fn open_model_in(mut self, model: &Model, candidates: &[GpuPrecision]) -> Result<Opened> {
        let mut refused = Vec::new();
        let mut failure = Error::config("no precision was given");
        for &precision in candidates {
            let detector = Detector::new(self.with_precision(precision), model)?;
            let outcome = match &model.self_test {
                Some(self_test) => detector.verify("webgpu", self_test, precision.rounding()).await,
                None => Ok(()),
            };
            let Err(error) = outcome else { return Ok(Opened { detector, refused }) };
            self = detector.into_ops();
            // A lost device fails in every precision.
            self.check()?;
            refused.push((precision, error.to_string()));
            failure = error;
        }
        Err(failure)
    }
}
