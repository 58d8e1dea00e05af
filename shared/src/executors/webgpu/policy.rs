//! Choice of precision: the fastest that the model's self-test accepts on this GPU.

use super::kernel::Kernel;
use super::linear::Operands;
use super::{GpuPrecision, WebGpu};
use crate::bundle::{Manifest, Model, Storage};
use crate::detector::Detector;
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
        let stored: Vec<Storage> = weights.map(|(_, weight)| Storage::of([weight])).collect();
        let candidates = self.worthwhile(model.self_test.is_some(), |storage| stored.contains(&storage));
        self.open_model_in(model, &candidates).await
    }

    /// Precisions that differ for a model on this GPU, the fastest first. The model's self-test decides among them; if it has none,
    /// f32 is the only one. So it is on an emulated GPU, where smaller types save no time (on SwiftShader f16 weights took as long as f32
    /// ones, int8 activations a fifth longer).
    pub fn candidates(&self, manifest: &Manifest) -> Vec<GpuPrecision> {
        self.worthwhile(manifest.self_test.is_some(), |storage| manifest.stores(storage))
    }

    /// Compiles the kernels that nearly every model needs, in the present precision. A browser does so in the background while weights
    /// are loaded. Other kernels are compiled on first use.
    pub fn compile(&self, manifest: &Manifest) {
        let stored = [Storage::Float32, Storage::Float16, Storage::Int8, Storage::Int4];
        // A shard of a smaller type has a few tensors in f32 too.
        let linear = stored.into_iter().filter(|&storage| storage == Storage::Float32 || manifest.stores(storage));
        let linear = linear.map(|storage| Operands::of(storage, self.precision, self.adapter().integer_dot));
        for operands in linear {
            self.kernels.pipeline(Kernel::Linear(operands, self.tile));
            if operands == Operands::Int8Both {
                self.kernels.pipeline(Kernel::QuantizeRows);
            }
        }
        Kernel::USUAL.into_iter().for_each(|kernel| drop(self.kernels.pipeline(kernel)));
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
            self.gpu.check()?;
            refused.push((precision, error.to_string()));
            failure = error;
        }
        Err(failure)
    }

    fn worthwhile(&self, is_tested: bool, stores: impl Fn(Storage) -> bool) -> Vec<GpuPrecision> {
        if !is_tested || self.adapter().is_software {
            return vec![GpuPrecision::F32];
        }
        let differs = |precision: &GpuPrecision| match precision {
            GpuPrecision::F32 => true,
            GpuPrecision::F16 => stores(Storage::Float32),
            GpuPrecision::Int8 => stores(Storage::Int8) && self.adapter().integer_dot,
        };
        GpuPrecision::FASTEST_FIRST.into_iter().filter(differs).collect()
    }
}
