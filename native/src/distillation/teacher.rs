//! The frozen teacher, and its residual stream in the basis for the student.

use candle_core::{Device, Tensor};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::{DecoderConfig, EncoderConfig, ModelConfig};
use dinomaly_core::model::encoder::{Encoder, Stage};
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};
use dinomaly_core::{Error, Result};

use crate::encoders::backbone::Backbone;

/// The frozen teacher, and its projection for the student.
pub(super) struct Teacher {
    pub(super) config: ModelConfig,
    encoder: Encoder<Tensor>,
    preprocessor: Preprocessor,
    /// The teacher's block that each block of the student imitates.
    pub(super) blocks: Vec<usize>,
    /// `[teacher's channels, student's channels]`.
    pub(super) basis: Tensor,
    /// Variance of each stream in the basis: mean over channels.
    pub(super) variances: Vec<f64>,
}

impl Teacher {
    pub(super) fn new(backbone: &Backbone, student: &EncoderConfig, device: &Device) -> Result<Self> {
        let config = with_all_blocks(backbone.config.clone());
        let e = &config.encoder;
        if student.hidden_size > e.hidden_size || !e.num_hidden_layers.is_multiple_of(student.num_hidden_layers) {
            return Err(Error::Config(format!(
                "a student of width {} and {} blocks cannot follow a teacher of width {} and {}: it must not be wider, and \
                 the teacher's blocks must be a multiple of its own",
                student.hidden_size, student.num_hidden_layers, e.hidden_size, e.num_hidden_layers
            )));
        }
        let each = e.num_hidden_layers / student.num_hidden_layers;
        let blocks = (1..=student.num_hidden_layers).map(|i| i * each - 1).collect();
        let grid = student.position_grid;
        let side = grid * e.patch_size;
        let geometry = Geometry { resize: side, crop: side };
        let preprocessor = Preprocessor {
            geometry,
            tiles: None,
            mean: backbone.mean,
            std: backbone.std,
            window: None,
            resized: Resized::Bytes,
        };
        let encoder = backbone.weights.encoder(&Candle::infer(device.clone()), config.taps(), grid)?;
        let basis = Tensor::zeros((e.hidden_size, student.hidden_size), candle_core::DType::F32, device)?;
        Ok(Self { config, encoder, preprocessor, blocks, basis, variances: Vec::new() })
    }

    /// The tokens before the first block and after the imitated blocks, without registers:
    /// `[batch, 1 + patches, channels]`.
    pub(super) fn streams(&self, pictures: &[Photo], device: &Device) -> Result<Vec<Tensor>> {
        let patches = patches(pictures, &self.preprocessor, self.config.encoder.patch_size, device)?;
        let mut streams = Vec::new();
        self.encoder.forward(&Candle::infer(device.clone()), &patches, &mut |stage, x| {
            if stage == Stage::Tokens || self.blocks.iter().any(|&block| stage == Stage::EncoderBlock(block)) {
                streams.push(x.clone());
            }
        })?;
        let prefix = self.config.encoder.prefix_tokens();
        let without_registers =
            |x: &Tensor| Tensor::cat(&[x.narrow(1, 0, 1)?, x.narrow(1, prefix, x.dim(1)? - prefix)?], 1);
        streams.iter().map(|x| Ok(without_registers(x)?)).collect()
    }

    /// [`Teacher::streams`] in the basis.
    pub(super) fn targets(&self, pictures: &[Photo], device: &Device) -> Result<Vec<Tensor>> {
        let streams = self.streams(pictures, device)?;
        streams
            .iter()
            .map(|x| {
                let (batch, tokens, _) = x.dims3()?;
                Ok(x.flatten_to(1)?.matmul(&self.basis)?.reshape((batch, tokens, ()))?)
            })
            .collect()
    }
}

/// A model config that runs all encoder blocks.
pub(super) fn with_all_blocks(encoder: EncoderConfig) -> ModelConfig {
    let (decoder, layers) = (DecoderConfig::published(&encoder, 0), encoder.num_hidden_layers);
    ModelConfig { target_layers: (0..layers).collect(), ..ModelConfig::with_decoder(encoder, decoder) }
}

/// `[batch, grid², 3·patch²]`.
pub(super) fn patches(
    pictures: &[Photo],
    preprocessor: &Preprocessor,
    patch: usize,
    device: &Device,
) -> Result<Tensor> {
    let rows: Vec<Vec<f32>> = pictures.iter().map(|picture| preprocessor.patches(picture, patch)).collect();
    let shape = (pictures.len(), preprocessor.geometry.grid(patch).pow(2), 3 * patch * patch);
    Ok(Tensor::from_vec(rows.concat(), shape, device)?)
}
