//! Distillation: a small encoder learns a large one's patch features on generated pictures.
//!
//! The student is a plain ViT of as many blocks as the published layer choice asks for. What it must predict, through one
//! linear layer each, are the teacher's group means that Dinomaly uses, and its last block, each channel standardised.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use dinomaly_core::config::{EncoderConfig, ModelConfig};
use dinomaly_core::dinomaly::Encoder;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::ops::{Linear, Ops, Then};
use dinomaly_core::photo::Photo;
use dinomaly_core::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::weights::Weights;
use dinomaly_core::{Error, Result};
use half::f16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::features::encode;
use crate::head::truncated_normal;
use crate::muon::Muon;
use crate::optimizer::{clip_factor, gradient_norm};
use crate::schedule::Schedule;
use crate::synth;

/// Batches from which the mean and deviation of the teacher's channels are measured.
const STATISTICS_BATCHES: u64 = 16;

/// Largest norm of all gradients together.
const GRADIENT_CLIP: f64 = 1.0;

/// Everything that determines a distillation besides the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Shape of the student. Its position grid is the one it is trained on.
    pub student: EncoderConfig,
    /// Pictures in a batch.
    pub batch: usize,
    /// Seed of initial values and pictures.
    pub seed: u64,
    /// Learning rate over the iterations (the mining fields are not used).
    pub schedule: Schedule,
}

/// A frozen encoder and the features that Dinomaly takes from it.
struct Teacher {
    config: ModelConfig,
    encoder: Encoder<Tensor>,
    preprocessor: Preprocessor,
    /// Mean and inverse standard deviation of each target's channels.
    statistics: Vec<(Tensor, Tensor)>,
}

/// A distillation in progress.
pub struct Distiller {
    settings: Settings,
    teacher: Teacher,
    student: Encoder<Tensor>,
    config: ModelConfig,
    projections: Vec<Linear<Tensor>>,
    /// Moments of every trained tensor.
    pub optimizer: Muon,
    device: Device,
}

impl Distiller {
    /// Begins a distillation: the student, fresh or as `earlier` has it, and the statistics of the teacher's channels.
    ///
    /// # Errors
    /// If the teacher's depth has no published layer choice, the earlier student has another shape, or the device has no
    /// room.
    pub fn new(teacher: &Backbone, earlier: Option<&Backbone>, settings: Settings, device: Device) -> Result<Self> {
        let grid = settings.student.position_grid;
        let config = with_last_block(ModelConfig::published(settings.student.clone())?);
        let earlier = match earlier {
            // Its positions are interpolated to the new grid, as for any other input size.
            Some(earlier) => {
                let mut config = config.clone();
                config.encoder.position_grid = earlier.config.position_grid;
                earlier.weights.encoder_values(&config, grid)?
            }
            None => BTreeMap::new(),
        };
        let mut generator = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut variables = Vec::new();
        let mut variable = |name: &str, shape: &[usize]| -> Result<Tensor> {
            let count = shape.iter().product();
            let values = if let Some(earlier) = earlier.get(name) {
                earlier.to_f32().into_owned()
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else if shape.len() == 1 {
                vec![1.0; count]
            } else {
                (0..count).map(|_| 0.02 * truncated_normal(&mut generator)).collect()
            };
            let var = Var::from_vec(values, shape, &device)?;
            let tensor = var.as_tensor().clone();
            variables.push((name.to_owned(), var));
            Ok(tensor)
        };
        let student = Encoder::load(&config, grid, &mut variable)?;
        let teacher = Teacher::new(teacher, grid, &device)?;
        let (inputs, outputs) = (settings.student.hidden_size, teacher.config.encoder.hidden_size);
        let projections = (0..config.groups.len())
            .map(|i| {
                Ok(Linear {
                    weight: variable(&format!("projection.{i}.weight"), &[outputs, inputs])?,
                    bias: variable(&format!("projection.{i}.bias"), &[outputs])?,
                })
            })
            .collect::<Result<_>>()?;
        let optimizer = Muon::new(variables)?;
        let mut distiller = Self { settings, teacher, student, config, projections, optimizer, device };
        distiller.measure_teacher()?;
        Ok(distiller)
    }

    /// One optimiser step on new pictures; gives back the mean squared error in standard deviations of the teacher's channels.
    ///
    /// # Errors
    /// If the device fails, or the loss is not a number.
    pub fn step(&mut self, iteration: usize) -> Result<f64> {
        let pictures = self.pictures(STATISTICS_BATCHES + iteration as u64);
        let targets = self.teacher.targets(&pictures, &self.device)?;
        let no_noise = |x: &Tensor| Ok(x.clone());
        let ops = Candle::train(self.device.clone(), &no_noise);
        let geometry = self.student_geometry();
        let patches =
            patches(&pictures, &Preprocessor::imagenet(geometry), self.settings.student.patch_size, &self.device)?;
        let features = encode(&ops, &self.student, &self.config, &patches)?;
        let mut loss: Option<Tensor> = None;
        for ((features, target), projection) in features.groups.iter().zip(&targets).zip(&self.projections) {
            let predicted = ops.linear(&drop_prefix(features, &self.config)?, projection, Then::Store)?;
            let error = (predicted - target)?.sqr()?.mean_all()?;
            loss = Some(match loss {
                Some(loss) => (loss + error)?,
                None => error,
            });
        }
        let loss = (loss.expect("at least one target") / targets.len() as f64)?;
        let gradients = loss.backward()?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        let norm = gradient_norm(self.optimizer.state.parameters.iter().map(|(_, var, _)| var), &gradients)?;
        if !(value.is_finite() && norm.is_finite()) {
            return Err(Error::Tensor {
                name: "loss".into(),
                reason: format!("iteration {iteration} gave {value}: go on from the last checkpoint with a lower --lr"),
            });
        }
        let rate = self.settings.schedule.learning_rate(iteration);
        self.optimizer.step(&gradients, rate, clip_factor(norm, GRADIENT_CLIP))?;
        Ok(value)
    }

    /// The student as a backbone, its values in half precision.
    ///
    /// # Errors
    /// If the device fails.
    pub fn backbone(&self) -> Result<Backbone> {
        let e = &self.settings.student;
        let mut weights = Weights::default();
        let mut put = |name: &str, shape: Vec<usize>, values: Vec<f32>| {
            let mut tensor = HostTensor::f32(shape, values)?;
            tensor.data = dinomaly_core::tensor::Data::F16(tensor.to_f32().iter().map(|&v| f16::from_f32(v)).collect());
            weights.0.insert(name.to_owned(), tensor);
            Ok::<_, Error>(())
        };
        for (name, var, _) in &self.optimizer.state.parameters {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            let width = e.hidden_size;
            match name.as_str() {
                // The class token carries its position; the table's own row for it is zero.
                "encoder.prefix" => {
                    put("encoder.cls_token", vec![1, 1, width], values[..width].to_vec())?;
                    if e.num_register_tokens > 0 {
                        let shape = vec![1, e.num_register_tokens, width];
                        put("encoder.register_tokens", shape, values[width..].to_vec())?;
                    }
                }
                "encoder.positions" => {
                    let table = [vec![0.0; width], values].concat();
                    put("encoder.pos_embed", vec![1, e.position_grid * e.position_grid + 1, width], table)?;
                }
                "encoder.patch_embed.proj.weight" => {
                    put(name, vec![width, 3, e.patch_size, e.patch_size], values)?;
                }
                name if name.starts_with("encoder.") => put(name, var.dims().to_vec(), values)?,
                _ => {}
            }
        }
        let Preprocessor { mean, std, .. } = Preprocessor::imagenet(self.student_geometry());
        Ok(Backbone { config: e.clone(), weights, mean, std })
    }

    /// Settings of the run.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn student_geometry(&self) -> Geometry {
        let side = self.settings.student.position_grid * self.settings.student.patch_size;
        Geometry { resize: side, crop: side }
    }

    /// The pictures of a batch: never the same twice, the same for a seed.
    fn pictures(&self, batch: u64) -> Vec<Photo> {
        let side = self.student_geometry().resize;
        let first = batch * self.settings.batch as u64;
        (first..first + self.settings.batch as u64)
            .into_par_iter()
            .map(|index| {
                let picture = synth::scrap(self.settings.seed, index, side);
                Photo { width: side as u32, height: side as u32, rgb: picture.into_raw() }
            })
            .collect()
    }

    fn measure_teacher(&mut self) -> Result<()> {
        let mut batches: Vec<Vec<Tensor>> = Vec::new();
        for batch in 0..STATISTICS_BATCHES {
            batches.push(self.teacher.features(&self.pictures(batch), &self.device)?);
        }
        for target in 0..self.config.groups.len() {
            let rows: Vec<Tensor> =
                batches.iter().map(|batch| Ok(batch[target].flatten_to(1)?)).collect::<Result<_>>()?;
            let rows = Tensor::cat(&rows, 0)?;
            let mean = rows.mean_keepdim(0)?;
            let variance = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
            self.teacher.statistics.push((mean, (variance + 1e-12)?.sqrt()?.recip()?));
        }
        Ok(())
    }
}

impl Teacher {
    fn new(backbone: &Backbone, grid: usize, device: &Device) -> Result<Self> {
        let config = with_last_block(ModelConfig::published(backbone.config.clone())?);
        let side = grid * config.encoder.patch_size;
        let geometry = Geometry { resize: side, crop: side };
        let preprocessor = Preprocessor { geometry, mean: backbone.mean, std: backbone.std };
        let encoder = backbone.weights.encoder(&Candle::infer(device.clone()), &config, grid)?;
        Ok(Self { config, encoder, preprocessor, statistics: Vec::new() })
    }

    /// The group means and the last block, patches only.
    fn features(&self, pictures: &[Photo], device: &Device) -> Result<Vec<Tensor>> {
        let patches = patches(pictures, &self.preprocessor, self.config.encoder.patch_size, device)?;
        let features = encode(&Candle::infer(device.clone()), &self.encoder, &self.config, &patches)?;
        features.groups.iter().map(|group| drop_prefix(group, &self.config)).collect()
    }

    /// [`Teacher::features`] with every channel of mean 0 and deviation 1.
    fn targets(&self, pictures: &[Photo], device: &Device) -> Result<Vec<Tensor>> {
        let features = self.features(pictures, device)?;
        features
            .iter()
            .zip(&self.statistics)
            .map(|(x, (mean, scale))| Ok(x.broadcast_sub(mean)?.broadcast_mul(scale)?))
            .collect()
    }
}

/// The published layers and groups, and the last block as one more group.
fn with_last_block(mut config: ModelConfig) -> ModelConfig {
    config.groups.push(vec![config.target_layers.len()]);
    config.target_layers.push(config.encoder.num_hidden_layers - 1);
    config
}

fn drop_prefix(x: &Tensor, config: &ModelConfig) -> Result<Tensor> {
    let prefix = config.prefix_tokens();
    Ok(x.narrow(1, prefix, x.dim(1)? - prefix)?.contiguous()?)
}

/// `[batch, grid², 3·patch²]`.
fn patches(pictures: &[Photo], preprocessor: &Preprocessor, patch: usize, device: &Device) -> Result<Tensor> {
    let rows: Vec<Vec<f32>> = pictures.par_iter().map(|picture| preprocessor.patches(picture, patch)).collect();
    let shape = (pictures.len(), preprocessor.geometry.grid(patch).pow(2), 3 * patch * patch);
    Ok(Tensor::from_vec(rows.concat(), shape, device)?)
}
