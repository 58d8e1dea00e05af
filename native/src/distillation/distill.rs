//! Distillation: a small encoder learns to follow a large one's residual stream on generated pictures.
//!
//! The teacher's tokens before the first block and after each block are projected to a fixed basis with as many directions as the
//! student has channels. The student's tokens must match them at every block. First each block is trained on its own, with inputs
//! from the teacher: shallow problems, which a small network solves in few steps. Then the whole student is trained, so that its
//! blocks adapt to each other's errors.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Tensor, Var};
use dinomaly_core::Error;
use dinomaly_core::Result;
use dinomaly_core::executors::candle::{Candle, no_noise};
use dinomaly_core::model::config::EncoderConfig;
use dinomaly_core::model::encoder::Encoder;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use half::f16;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::distillation::data_parallel::Workers;
use crate::distillation::muon::Muon;
use crate::distillation::subspace::{FeatureMoments, Regression, principal, tensor};
use crate::distillation::teacher::{Teacher, patches, with_all_blocks};
use crate::encoders::backbone::Backbone;
use crate::synth;
use crate::training::head::truncated_normal;
use crate::training::optimizer::{clip_factor, gradient_norm};
use crate::training::schedule::Schedule;

/// Number of pictures to measure the basis and the variance of the teacher's streams. Training does not use them.
const MEASURED: u64 = 128;

/// Pictures that a thread takes at a time. Sums over a batch follow this order for any number of threads.
const SHARE: usize = 8;

/// Largest norm of all gradients together, for clipping.
const GRADIENT_CLIP: f64 = 1.0;

/// Everything that determines a distillation besides the teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DistillationSettings {
    /// Config of the student. Its position grid is that of the training pictures.
    pub student: EncoderConfig,
    /// Pictures per batch.
    pub batch: usize,
    /// Iterations that train each block on its own, before the whole encoder.
    pub alone: usize,
    /// Seed of initial weights and pictures.
    pub seed: u64,
    /// Learning rate over the iterations; the fields of hard mining are not used.
    pub schedule: Schedule,
}

/// A distillation in progress.
pub struct Distiller {
    settings: DistillationSettings,
    teacher: Teacher,
    student: Encoder<Tensor>,
    /// Optimiser with the moments of every trained tensor.
    pub optimizer: Muon,
    device: Device,
    workers: Workers,
}

impl Distiller {
    /// Starts a distillation with the student, new or that of `earlier`, and the basis for the teacher's tokens.
    ///
    /// # Errors
    /// If the student is wider than the teacher or their depths do not fit, the earlier student has another shape, or the
    /// device has not enough memory.
    pub fn new(
        teacher: &Backbone,
        earlier: Option<&Backbone>,
        settings: DistillationSettings,
        device: Device,
    ) -> Result<Self> {
        let grid = settings.student.position_grid;
        let config = with_all_blocks(settings.student.clone());
        let values = match earlier {
            // Its positions are interpolated to the new grid, as for other input sizes.
            Some(earlier) => {
                let mut config = config.clone();
                config.encoder.position_grid = earlier.config.position_grid;
                earlier.weights.encoder_values(config.taps(), grid)?
            }
            None => BTreeMap::new(),
        };
        let mut generator = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut variables = Vec::new();
        let student = Encoder::load(config.taps(), grid, &mut |name, shape| {
            let count = shape.iter().product();
            let values = if let Some(earlier) = values.get(name) {
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
        })?;
        let teacher = Teacher::new(teacher, &settings.student, &device)?;
        let optimizer = Muon::new(variables)?;
        let workers = if device.is_cuda() { Workers::none() } else { Workers::new() };
        let mut distiller = Self { settings, teacher, student, optimizer, device, workers };
        distiller.measure_teacher(earlier.is_some())?;
        Ok(distiller)
    }

    /// One optimiser step on new pictures. Returns the share of the teacher's variance that the student does not explain: mean over
    /// all streams.
    ///
    /// # Errors
    /// If the device fails, or the loss is not finite.
    pub fn step(&mut self, iteration: usize) -> Result<f64> {
        let first = MEASURED + (iteration * self.settings.batch) as u64;
        let alone = iteration < self.settings.alone;
        let mut shares = self.over_batch(first, |pictures| {
            let part = pictures.len() as f64 / self.settings.batch as f64;
            let loss = (self.loss(pictures, alone)? * part)?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        })?;
        let value = shares.iter().map(|(value, _)| value).sum::<f64>();
        let (_, mut gradients) = shares.remove(0);
        for (_, var, _) in &self.optimizer.state.parameters {
            for (_, other) in &shares {
                if let (Some(sum), Some(gradient)) = (gradients.get(var), other.get(var)) {
                    let sum = (sum.detach() + gradient.detach())?;
                    gradients.insert(var, sum);
                }
            }
        }
        let norm = gradient_norm(self.optimizer.state.parameters.iter().map(|(_, var, _)| var), &gradients)?;
        if !(value.is_finite() && norm.is_finite()) {
            return Err(Error::Tensor {
                name: "loss".into(),
                reason: format!("iteration {iteration} gave {value}: start over with --restart and a lower --lr"),
            });
        }
        let rate = self.settings.schedule.learning_rate(iteration);
        self.optimizer.step(&gradients, rate, clip_factor(norm, GRADIENT_CLIP), &self.workers)?;
        Ok(value)
    }

    /// The share of the teacher's variance that the whole student does not explain, on held-out pictures.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unexplained(&self) -> Result<f64> {
        let shares = self.over_batch(0, |pictures| Ok(f64::from(self.loss(pictures, false)?.to_scalar::<f32>()?)))?;
        Ok(shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// Calls `work` on the pictures of a batch, in shares.
    fn over_batch<T: Send>(&self, first: u64, work: impl Fn(&[Photo]) -> Result<T> + Sync) -> Result<Vec<T>> {
        let last = first + self.settings.batch as u64;
        let shares = (first..last).step_by(SHARE).map(|from| from..last.min(from + SHARE as u64)).collect();
        self.workers.map(shares, |share| work(&self.pictures(share))).into_iter().collect()
    }

    fn loss(&self, pictures: &[Photo], alone: bool) -> Result<Tensor> {
        let targets = self.teacher.targets(pictures, &self.device)?;
        let streams = self.streams(pictures, alone.then_some(&targets))?;
        let mut sum: Option<Tensor> = None;
        for ((stream, target), variance) in streams.iter().zip(&targets).zip(&self.teacher.variances) {
            let error = ((stream - target)?.sqr()?.mean_all()? / *variance)?;
            sum = Some(match sum {
                Some(sum) => (sum + error)?,
                None => error,
            });
        }
        Ok((sum.expect("at least one stream") / streams.len() as f64)?)
    }

    /// The student's tokens before the first block and after each, `[batch, 1 + patches, channels]`. A block's input is the given
    /// one, or the output of the previous block.
    fn streams(&self, pictures: &[Photo], inputs: Option<&Vec<Tensor>>) -> Result<Vec<Tensor>> {
        let ops = Candle::train(self.device.clone(), &no_noise);
        let preprocessor = Preprocessor::imagenet(self.student_geometry());
        let patches = patches(pictures, &preprocessor, self.settings.student.patch_size, &self.device)?;
        let mut streams = vec![self.student.embed(&ops, &patches, &mut |_, _| {})?];
        for (i, block) in self.student.blocks().iter().enumerate() {
            let input = inputs.map_or(&streams[i], |inputs| &inputs[i]);
            streams.push(block.forward(&ops, input)?);
        }
        Ok(streams)
    }

    /// The student as a backbone with values in half precision.
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
                // The class token includes its position, so its row of the table is zero.
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
    pub fn settings(&self) -> &DistillationSettings {
        &self.settings
    }

    fn student_geometry(&self) -> Geometry {
        let side = self.settings.student.position_grid * self.settings.student.patch_size;
        Geometry { resize: side, crop: side }
    }

    /// Pictures of the seed's endless sequence.
    fn pictures(&self, which: Range<u64>) -> Vec<Photo> {
        let side = self.student_geometry().resize;
        which
            .map(|index| {
                let picture = synth::scrap(self.settings.seed, index, side);
                Photo { width: side as u32, height: side as u32, rgb: picture.into_raw() }
            })
            .collect()
    }

    /// Finds the basis and the variances in it.
    ///
    /// A new student gets the directions with most of the energy of the teacher's streams and of its blocks' residuals. An earlier
    /// student keeps its directions.
    fn measure_teacher(&mut self, goes_on: bool) -> Result<()> {
        let (channels, width) = (self.teacher.config.encoder.hidden_size, self.settings.student.hidden_size);
        let count = self.teacher.blocks.len();
        let mut streams: Vec<FeatureMoments> = (0..=count).map(|_| FeatureMoments::new(channels)).collect();
        let mut updates: Vec<FeatureMoments> = (0..count).map(|_| FeatureMoments::new(channels)).collect();
        let mut regression = Regression::new(channels, width);
        let rows = |x: &Tensor| x.detach().flatten_to(1);
        let shares = (0..MEASURED).step_by(SHARE).map(|first| first..first + SHARE as u64).collect();
        let seen = self.workers.map(shares, |share| -> Result<_> {
            let pictures = self.pictures(share);
            let student = if goes_on { self.streams(&pictures, None)? } else { Vec::new() };
            Ok((self.teacher.streams(&pictures, &self.device)?, student))
        });
        for seen in seen {
            let (teacher, student) = seen?;
            for (x, moments) in teacher.iter().zip(&mut streams) {
                moments.add(&rows(x)?)?;
            }
            for (pair, moments) in teacher.windows(2).zip(&mut updates) {
                moments.add(&rows(&(&pair[1] - &pair[0])?)?)?;
            }
            for (x, y) in teacher.iter().zip(&student) {
                regression.add(&rows(x)?, &rows(y)?)?;
            }
        }
        let basis = if goes_on {
            regression.solve()?
        } else {
            let basis = principal(streams.iter().chain(&updates), width);
            // Tokens of about unit size, as the student's initial weights expect.
            let size = streams.iter().map(|stream| stream.mean_square(&basis)).sum::<f64>() / streams.len() as f64;
            basis / size.sqrt()
        };
        self.teacher.variances = streams.iter().map(|stream| stream.variance(&basis).max(f64::MIN_POSITIVE)).collect();
        self.teacher.basis = tensor(&basis, &self.device)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(width: usize, layers: usize) -> EncoderConfig {
        EncoderConfig {
            hidden_size: width,
            num_hidden_layers: layers,
            intermediate_size: 2 * width,
            patch_size: 4,
            position_grid: 4,
            ..EncoderConfig::tiny()
        }
    }

    /// An encoder of random values, some registers included.
    fn teacher(layers: usize) -> Backbone {
        let config = EncoderConfig { num_register_tokens: 3, ..shape(32, layers) };
        let mut generator = ChaCha8Rng::seed_from_u64(3);
        let mut weights = Weights::default();
        for (name, shape) in dinomaly_core::model::weights::encoder_shapes(&config, layers).unwrap() {
            let count = shape.iter().product();
            let values = (0..count).map(|_| 0.2 * truncated_normal(&mut generator)).collect();
            weights.0.insert(name, HostTensor::f32(shape, values).unwrap());
        }
        Backbone { config, weights, mean: [0.5; 3], std: [0.25; 3] }
    }

    fn settings(width: usize, alone: usize) -> DistillationSettings {
        let schedule = Schedule { warmup: 2, ..Schedule::official(60) };
        DistillationSettings { student: shape(width, 12), batch: 12, alone, seed: 1, schedule }
    }

    #[test]
    fn a_student_learns_to_follow_its_teacher_and_goes_on_in_the_basis_that_it_has() {
        let teacher = teacher(24);
        let mut fresh = Distiller::new(&teacher, None, settings(16, 30), Device::Cpu).unwrap();
        let before = fresh.unexplained().unwrap();
        let losses: Vec<f64> = (0..60).map(|i| fresh.step(i).unwrap()).collect();
        let after = fresh.unexplained().unwrap();
        assert!(losses[29] < 0.6 * losses[0] && after < 0.6 * before, "{before} to {after}, {losses:?}");

        let student = fresh.backbone().unwrap();
        let other_seed = DistillationSettings { seed: 2, ..settings(16, 0) };
        let further = Distiller::new(&teacher, Some(&student), other_seed, Device::Cpu).unwrap();
        let begun = further.unexplained().unwrap();
        assert!(begun < 1.2 * after, "{after} became {begun}");
    }

    #[test]
    fn a_student_must_fit_its_teacher() {
        let refuse = |width, layers| {
            let error = Distiller::new(&teacher(layers), None, settings(width, 0), Device::Cpu).err().unwrap();
            assert!(error.to_string().contains("cannot follow a teacher"), "{error}");
        };
        refuse(48, 12);
    }
}
