//! Training: batches of cached features → bottleneck and decoder → loss → one optimiser step.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use dinomaly_core::Result;
use dinomaly_core::executors::candle::{Candle, Noise, Taped};
use dinomaly_core::model::config::ModelConfig;
use dinomaly_core::model::dinomaly::{decoded, first_layer};
use dinomaly_core::ops::Ops;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::features::Features;
use crate::features::augmentation::Augmentation;
use crate::system::precision::TrainingPrecision;
use crate::training::head::TrainableHead;
use crate::training::loss::{Loss, loss_of_part};
use crate::training::noise::BottleneckNoise;
use crate::training::optimizer::{self, Optimizer, StableAdamW};
use crate::training::replicas::{Collective, Team, summed};
use crate::training::schedule::Schedule;

/// Everything that determines a run besides photos, encoder and config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSettings {
    /// Photos per batch.
    pub batch: usize,
    /// Seed of initial weights, photo order and dropout.
    pub seed: u64,
    /// Learning rate and hard mining over the iterations.
    pub schedule: Schedule,
    /// Largest norm of all gradients together, for clipping (0.1 in the official code).
    pub gradient_clip: f64,
    /// The optimiser.
    #[serde(default, skip_serializing_if = "Optimizer::is_default")]
    pub optimizer: Optimizer,
    /// Epsilon in the optimiser's denominator.
    #[serde(default = "official_eps")]
    pub optimizer_eps: f64,
    /// Augmentation of the photos.
    #[serde(default, skip_serializing_if = "Augmentation::is_none")]
    pub augmentation: Augmentation,
    /// Precision of matrix products.
    #[serde(default)]
    pub precision: TrainingPrecision,
}

impl TrainingSettings {
    /// As the official code trains, in f32.
    pub fn official(batch: usize, schedule: Schedule) -> Self {
        Self {
            batch,
            seed: 1,
            schedule,
            gradient_clip: 0.1,
            optimizer: Optimizer::StableAdamwAmsgrad,
            optimizer_eps: official_eps(),
            augmentation: Augmentation::None,
            precision: TrainingPrecision::F32,
        }
    }
}

/// Epsilon of checkpoints from before this option.
fn official_eps() -> f64 {
    optimizer::OptimizerSettings::default().eps
}

/// A run in progress.
pub struct Trainer {
    /// Config of the model.
    pub config: ModelConfig,
    /// Settings of the run.
    pub settings: TrainingSettings,
    /// The trained part.
    pub head: TrainableHead,
    /// Optimiser with the moments of every trained tensor.
    pub optimizer: StableAdamW,
    /// Number of finished iterations.
    pub iteration: usize,
    /// The replicas of this run, each with a part of every batch; `None` if one device trains.
    pub team: Option<Team>,
    device: Device,
    /// Learning rate of each unread step, with its loss and gradient norm on the device.
    unread: Vec<(f64, Tensor)>,
    /// Number of consecutive skipped steps, up to the last one read.
    left_out: usize,
}

/// Number of consecutive steps without finite values that stops a run. A single one may be chance.
pub const PATIENCE: usize = 5;

/// Results of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Mean of the groups' losses, before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
}

impl Step {
    /// Whether the step counts: it is skipped if loss or gradients are not finite.
    pub fn counts(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

impl Trainer {
    /// A new run, of a head with initial or given values.
    ///
    /// # Errors
    /// If the device has not enough memory.
    pub fn new(config: ModelConfig, settings: TrainingSettings, head: TrainableHead, device: Device) -> Result<Self> {
        let optimizer = optimizer::OptimizerSettings {
            eps: settings.optimizer_eps,
            amsgrad: settings.optimizer == Optimizer::StableAdamwAmsgrad,
            ..optimizer::OptimizerSettings::default()
        };
        let optimizer = StableAdamW::new(head.variables.clone(), optimizer)?;
        let unread = Vec::new();
        Ok(Self { config, settings, head, optimizer, iteration: 0, team: None, device, unread, left_out: 0 })
    }

    /// One optimiser step on a batch, or on this replica's part of it. [`Trainer::read`] gives its results.
    ///
    /// # Errors
    /// If the device fails.
    pub fn advance(&mut self, features: &Features) -> Result<()> {
        let schedule = &self.settings.schedule;
        let [rate, of_first] = [schedule.learning_rate(self.iteration), schedule.first_layer_rate(self.iteration)];
        let first = first_layer(&self.config);
        let is_first = |name: &str| name.strip_prefix(first).is_some_and(|part| part.starts_with('.'));
        let (mut loss, mut gradients) = self.loss(features)?;
        if let Some(team) = self.team() {
            (loss, gradients) = summed(team, &self.head.variables, &loss, gradients)?;
        }
        let rates = |name: &str| if is_first(name) { of_first } else { rate };
        let taken = self.optimizer.clipped_step(&loss, &gradients, &rates, self.settings.gradient_clip)?;
        self.unread.push((rate, taken));
        self.iteration += 1;
        Ok(())
    }

    /// Results of the steps since the last call; waits for the device.
    ///
    /// # Errors
    /// If the device fails, or the last [`PATIENCE`] steps were all skipped.
    pub fn read(&mut self) -> Result<Vec<Step>> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Ok(Vec::new());
        }
        let taken: Vec<&Tensor> = unread.iter().map(|(_, taken)| taken).collect();
        let values = Tensor::stack(&taken, 0)?.to_vec2::<f32>()?;
        let mut steps = Vec::with_capacity(unread.len());
        for ((learning_rate, _), values) in unread.iter().zip(values) {
            let [loss, gradient_norm] = [values[0], values[1]].map(f64::from);
            let step = Step { loss, learning_rate: *learning_rate, gradient_norm };
            self.left_out = if step.counts() { 0 } else { self.left_out + 1 };
            if self.left_out == PATIENCE {
                return Err(dinomaly_core::Error::Tensor {
                    name: "loss".into(),
                    reason: format!(
                        "{PATIENCE} iterations in a row were not finite, the last with loss {loss} and gradient norm {gradient_norm}: start over with --restart and a lower --lr"
                    ),
                });
            }
            steps.push(step);
        }
        self.optimizer.count(steps.iter().filter(|step| step.counts()).count());
        Ok(steps)
    }

    /// One optimiser step on a batch, and its results.
    ///
    /// # Errors
    /// As [`Trainer::advance`] and [`Trainer::read`].
    ///
    /// # Panics
    /// If earlier steps are unread.
    pub fn step(&mut self, features: &Features) -> Result<Step> {
        assert!(self.unread.is_empty(), "earlier steps are read first");
        self.advance(features)?;
        Ok(self.read()?.remove(0))
    }

    /// Loss and gradients of this iteration on a batch. Each of several replicas has its share in them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn loss(&self, features: &Features) -> Result<(Tensor, GradStore)> {
        let rank = self.team().map_or(0, Collective::rank);
        let noise = BottleneckNoise::new(&self.config, self.settings.seed, self.iteration).of_part(rank);
        self.loss_with(features, &|x, at| noise.apply(x, at))
    }

    /// [`Trainer::loss`] with `noise` in the bottleneck, which must be a kind that [`Taped`] allows.
    ///
    /// # Errors
    /// If the device fails.
    pub fn loss_with(&self, features: &Features, noise: &Noise<'_>) -> Result<(Tensor, GradStore)> {
        let ops = Taped::new(self.ops(noise));
        let decoded = self.decoded(&ops, features)?;
        // The loss sees patches only.
        let (prefix, mining) = (self.config.kept_prefix_tokens(), self.settings.schedule.mining(self.iteration));
        let Loss { value, gradients } = loss_of_part(&features.groups, &decoded, prefix, mining, self.team())?;
        Ok((value, ops.backward(decoded.into_iter().zip(gradients))?))
    }

    fn team(&self) -> Option<&dyn Collective> {
        self.team.as_deref().map(|team| team as &dyn Collective)
    }

    /// The features that the loss compares: each group's patches from the encoder, and from the decoder with `noise` in the
    /// bottleneck, each `[batch, patches, channels]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn groups(&self, features: &Features, noise: &Noise<'_>) -> Result<[Vec<Tensor>; 2]> {
        Ok([self.patches(&features.groups)?, self.patches(&self.decoded(&self.ops(noise), features)?)?])
    }

    fn ops<'a>(&self, noise: &'a Noise<'a>) -> Candle<'a> {
        Candle::train(self.device.clone(), noise).storing(self.settings.precision.element())
    }

    /// The decoder's features of each group, `[batch, tokens, channels]`.
    fn decoded(&self, ops: &impl Ops<Tensor = Tensor>, features: &Features) -> Result<Vec<Tensor>> {
        decoded(ops, self.head.head.forward(ops, &features.fused, &mut |_, _| {})?, &self.config)
    }

    /// Drops class and register tokens.
    fn patches(&self, groups: &[Tensor]) -> Result<Vec<Tensor>> {
        let prefix = self.config.kept_prefix_tokens();
        groups.iter().map(|group| Ok(group.narrow(1, prefix, group.dim(1)? - prefix)?)).collect()
    }
}

/// Photos of each iteration: a new order in every epoch, without the incomplete last batch, as in the official loader. They depend
/// only on seed and iteration, so that a resumed run has the same batches.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    photos: usize,
    batch: usize,
    seed: u64,
    /// Whether a batch draws each photo from all of them.
    replaced: bool,
}

impl Batches {
    /// Batches of `batch` photos out of `photos`. A smaller number of photos makes smaller batches.
    pub fn new(photos: usize, batch: usize, seed: u64) -> Self {
        Self { photos, batch: batch.min(photos), seed, replaced: false }
    }

    /// The batches of a run. Augmented photos differ wherever they are drawn, so fewer photos than a batch make whole batches, drawn
    /// with replacement. (Of fewer than 16 photos the official few-shot script makes no batch at all.)
    pub fn of(settings: &TrainingSettings, photos: usize) -> Self {
        let replaced = settings.augmentation != Augmentation::None && photos < settings.batch;
        let batches = Self::new(photos, settings.batch, settings.seed);
        if replaced { Self { batch: settings.batch, replaced, ..batches } } else { batches }
    }

    /// Whether a batch may have a photo several times.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Photos per batch.
    pub fn size(&self) -> usize {
        self.batch
    }

    /// Indices of the photos of an iteration.
    pub fn indices(&self, iteration: usize) -> Vec<usize> {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        if self.replaced {
            generator.set_stream(u64::MAX - iteration as u64);
            return (0..self.batch).map(|_| generator.random_range(0..self.photos)).collect();
        }
        let per_epoch = self.photos / self.batch;
        let (epoch, position) = (iteration / per_epoch, iteration % per_epoch);
        let mut order: Vec<usize> = (0..self.photos).collect();
        // Streams from the highest down, because those of dropout count up from 1.
        generator.set_stream(u64::MAX - epoch as u64);
        order.shuffle(&mut generator);
        order[position * self.batch..(position + 1) * self.batch].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use dinomaly_core::model::config::EncoderConfig;

    use super::*;

    #[test]
    fn every_epoch_shows_each_photo_at_most_once_in_a_new_order() {
        let batches = Batches::new(10, 3, 7);
        let epoch = |first: usize| (first..first + 3).flat_map(|i| batches.indices(i)).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(3));
        let mut seen = first.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9);
        assert_ne!(first, second);
        assert_eq!(first, epoch(0));
        assert_eq!(Batches::new(2, 16, 7).indices(5).len(), 2);
    }

    #[test]
    fn few_augmented_photos_make_whole_batches_with_replacement() {
        let mut settings = TrainingSettings::official(16, Schedule::official(10));
        let plain = Batches::of(&settings, 3);
        assert!(plain.size() == 3 && !plain.is_replaced());
        settings.augmentation = Augmentation::FewShot;
        let few = Batches::of(&settings, 3);
        assert!(few.size() == 16 && few.is_replaced());
        let drawn: Vec<usize> = (0..300).flat_map(|iteration| few.indices(iteration)).collect();
        // 4,800 draws: each photo's share has a standard deviation of 0.0068.
        for photo in 0..3 {
            let share = drawn.iter().filter(|&&drawn| drawn == photo).count() as f64 / drawn.len() as f64;
            assert!((share - 1.0 / 3.0).abs() < 0.035, "{share}");
        }
        assert_ne!(few.indices(0), few.indices(1));
        assert_eq!(few.indices(1), few.indices(1));
        // Enough photos are drawn as ever.
        let enough = Batches::of(&settings, 20);
        assert_eq!(enough.indices(3), Batches::new(20, 16, settings.seed).indices(3));
    }

    #[test]
    fn steps_end_in_the_same_bits_on_any_number_of_cores() {
        const BATCH: usize = 4;
        let config = ModelConfig::published(EncoderConfig::vit(128, 2, 16, 7)).unwrap();
        let shape = (BATCH, 49 + config.kept_prefix_tokens(), 128);
        let count = shape.0 * shape.1 * shape.2;
        let waves = |speed: f32| Tensor::from_iter((0..count).map(|i| (i as f32 * speed).sin()), &Device::Cpu).unwrap();
        let [first, second, fused] = [0.37, 0.73, 1.1].map(|speed| waves(speed).reshape(shape).unwrap());
        let features = Features { groups: vec![first, second], fused };
        let weights_on = |cores| {
            let steps = || {
                let settings = TrainingSettings::official(BATCH, Schedule::official(100));
                let head = TrainableHead::fresh(&config, 1, &Device::Cpu).unwrap();
                let mut trainer = Trainer::new(config.clone(), settings, head, Device::Cpu).unwrap();
                (0..3).for_each(|_| assert!(trainer.step(&features).unwrap().counts()));
                trainer.head.weights().unwrap()
            };
            rayon::ThreadPoolBuilder::new().num_threads(cores).build().unwrap().install(steps)
        };
        let on_one = weights_on(1);
        assert_eq!(on_one, weights_on(2));
        assert_eq!(on_one, weights_on(5));
    }

    #[test]
    fn a_step_without_a_number_is_left_out_and_several_in_a_row_stop_the_run() {
        let config = ModelConfig::published(EncoderConfig::tiny()).unwrap();
        let schedule = Schedule { warmup: 0, ..Schedule::official(100) };
        let settings = TrainingSettings::official(2, schedule);
        let head = TrainableHead::fresh(&config, 1, &Device::Cpu).unwrap();
        let mut trainer = Trainer::new(config, settings, head, Device::Cpu).unwrap();
        let features = |offset: f32| {
            let values = |seed: usize| (0..2 * 5 * 4).map(move |i| offset + ((i * 37 + seed) % 97) as f32 / 50.0 - 1.0);
            let tensor = |seed| Tensor::from_iter(values(seed), &Device::Cpu).unwrap().reshape((2, 5, 4)).unwrap();
            Features { groups: vec![tensor(1), tensor(2)], fused: tensor(3) }
        };
        let (good, bad) = (features(0.0), features(f32::NAN));

        let first = trainer.head.weights().unwrap();
        assert!(trainer.step(&good).unwrap().counts());
        let moved = trainer.head.weights().unwrap();
        assert_ne!(first, moved);
        for _ in 1..PATIENCE {
            assert!(!trainer.step(&bad).unwrap().counts());
        }
        assert_eq!(trainer.head.weights().unwrap(), moved);
        assert!(trainer.optimizer.parameters.iter().all(|(_, _, moments)| moments.steps == 1));
        assert!(trainer.step(&good).unwrap().counts(), "a step that counts resets the number of skipped steps");
        // As on a GPU: results are unknown until they are read.
        for _ in 0..PATIENCE {
            trainer.advance(&bad).unwrap();
        }
        let error = trainer.read().unwrap_err().to_string();
        assert!(error.contains("5 iterations in a row were not finite") && error.contains("a lower --lr"), "{error}");
        assert_eq!(trainer.iteration, 2 * PATIENCE + 1);
    }
}
