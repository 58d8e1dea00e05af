//! Training: batches of cached features → bottleneck and decoder → loss → one optimiser step.

use candle_core::{Device, Tensor};
use dinomaly_core::Result;
use dinomaly_core::config::ModelConfig;
use dinomaly_core::dinomaly::decoded;
use dinomaly_core::executors::candle::{Candle, Noise};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::features::Features;
use crate::head::TrainableHead;
use crate::loss::hard_mining_loss;
use crate::noise::BottleneckNoise;
use crate::optimizer::{self, StableAdamW, clip_factor, gradient_norm};
use crate::schedule::Schedule;

/// Everything that determines a run besides the photos, the encoder and the model's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Photos in a batch.
    pub batch: usize,
    /// Seed of initial values, order of photos and dropout.
    pub seed: u64,
    /// Rates over the iterations.
    pub schedule: Schedule,
    /// Largest norm of all gradients together (0.1 in the official code).
    pub gradient_clip: f64,
    /// Added to the optimiser's denominator.
    #[serde(default = "official_eps")]
    pub optimizer_eps: f64,
}

/// Of a checkpoint that was written before it could be chosen.
fn official_eps() -> f64 {
    optimizer::Settings::default().eps
}

/// A run in progress.
pub struct Trainer {
    /// Shape of the model.
    pub config: ModelConfig,
    /// Rates, batch and seed.
    pub settings: Settings,
    /// What is trained.
    pub head: TrainableHead,
    /// Moments of every trained tensor.
    pub optimizer: StableAdamW,
    /// Iterations done.
    pub iteration: usize,
    device: Device,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Mean of the groups' losses, before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
}

impl Trainer {
    /// A run from its beginning, of a head with initial or given values.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn new(config: ModelConfig, settings: Settings, head: TrainableHead, device: Device) -> Result<Self> {
        let optimizer = optimizer::Settings { eps: settings.optimizer_eps, ..optimizer::Settings::default() };
        let optimizer = StableAdamW::new(head.variables.clone(), optimizer)?;
        Ok(Self { config, settings, head, optimizer, iteration: 0, device })
    }

    /// One optimiser step on a batch.
    ///
    /// # Errors
    /// If the device fails, or the loss is not a number.
    pub fn step(&mut self, features: &Features) -> Result<Step> {
        let schedule = &self.settings.schedule;
        let learning_rate = schedule.learning_rate(self.iteration);
        let loss = self.loss(features)?;
        let gradients = loss.backward()?;
        let loss = f64::from(loss.to_scalar::<f32>()?);
        let norm = gradient_norm(self.head.variables.iter().map(|(_, var)| var), &gradients)?;
        if !(loss.is_finite() && norm.is_finite()) {
            return Err(dinomaly_core::Error::Tensor {
                name: "loss".into(),
                reason: format!(
                    "iteration {} gave loss {loss} and gradient norm {norm}: begin anew with --restart and a lower --lr",
                    self.iteration
                ),
            });
        }
        self.optimizer.step(&gradients, learning_rate, clip_factor(norm, self.settings.gradient_clip))?;
        self.iteration += 1;
        Ok(Step { loss, learning_rate, gradient_norm: norm })
    }

    /// The loss of this iteration on a batch, with its graph.
    ///
    /// # Errors
    /// If the device fails.
    pub fn loss(&self, features: &Features) -> Result<Tensor> {
        let noise = BottleneckNoise::new(&self.config, self.settings.seed, self.iteration);
        let [encoded, decoded] = self.groups(features, &|x, at| noise.apply(x, at))?;
        Ok(hard_mining_loss(&encoded, &decoded, self.settings.schedule.mining(self.iteration))?)
    }

    /// What the loss compares, with its graph: each group's patches as the encoder has them and as they are decoded with
    /// `noise` in the bottleneck, each `[batch, patches, channels]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn groups(&self, features: &Features, noise: &Noise<'_>) -> Result<[Vec<Tensor>; 2]> {
        let ops = Candle::train(self.device.clone(), noise);
        let outputs = self.head.head.forward(&ops, &features.fused, &mut |_, _| {})?;
        let decoded = decoded(&ops, outputs, &self.config)?;
        Ok([self.patches(&features.groups)?, self.patches(&decoded)?])
    }

    /// Drops class and register tokens: the loss sees patches only.
    fn patches(&self, groups: &[Tensor]) -> Result<Vec<Tensor>> {
        let prefix = self.config.kept_prefix_tokens();
        groups.iter().map(|group| Ok(group.narrow(1, prefix, group.dim(1)? - prefix)?)).collect()
    }
}

/// Which photos each iteration trains on: every epoch a new order, the incomplete last batch dropped, as the official
/// loader does. A function of the seed and the iteration alone, so that a resumed run goes on as if never broken off.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    photos: usize,
    batch: usize,
    seed: u64,
}

impl Batches {
    /// Batches of `batch` out of `photos` photos; fewer photos than that make smaller batches.
    pub fn new(photos: usize, batch: usize, seed: u64) -> Self {
        Self { photos, batch: batch.min(photos), seed }
    }

    /// Indices of the photos of an iteration.
    pub fn indices(&self, iteration: usize) -> Vec<usize> {
        let per_epoch = self.photos / self.batch;
        let (epoch, position) = (iteration / per_epoch, iteration % per_epoch);
        let mut order: Vec<usize> = (0..self.photos).collect();
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        // The highest streams: dropout counts its own from 1 up.
        generator.set_stream(u64::MAX - epoch as u64);
        order.shuffle(&mut generator);
        order[position * self.batch..(position + 1) * self.batch].to_vec()
    }
}

#[cfg(test)]
mod tests {
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
}
