//! Training steps of a published size on a device: photos a second, share of the device's own bf16 products, memory still held.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use dinomaly::costs::parts;
use dinomaly::features::{FeatureCache, Limits, encode};
use dinomaly::system::device::{DeviceChoice, free_memory, open_any, open_cuda};
use dinomaly::system::precision::TrainingPrecision;
use dinomaly::training::head::TrainableHead;
use dinomaly::training::schedule::Schedule;
use dinomaly::training::trainer::{Batches, Trainer, TrainingSettings};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_tests::random;

/// Steps between two looks at the device: a measurement is the median over these rounds.
const ROUND: usize = 10;

#[derive(Parser)]
struct Options {
    /// cpu, cuda, cuda:NUMBER or auto
    #[arg(long)]
    device: DeviceChoice,
    /// bf16 on a GPU and f32 on the processor without
    #[arg(long)]
    precision: Option<TrainingPrecision>,
    #[arg(long, value_enum, default_value = "base")]
    shape: Shape,
    /// Photos to train on
    #[arg(long, default_value_t = 64)]
    count: usize,
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Patches along a side: 28 is 392 pixels
    #[arg(long, default_value_t = 28)]
    grid: usize,
    #[arg(long, default_value_t = 50)]
    steps: usize,
    /// Steps that are not counted
    #[arg(long, default_value_t = 10)]
    warmup: usize,
    /// A step for each line that is read, and its milliseconds, as `tests/peers/training_step.py` wants it
    #[arg(long)]
    turns: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shape {
    Tiny,
    Small,
    Base,
    Large,
}

impl Shape {
    fn config(self, grid: usize) -> Result<ModelConfig> {
        let (width, blocks) = match self {
            Self::Tiny => (192, 12),
            Self::Small => (384, 12),
            Self::Base => (768, 12),
            Self::Large => (1024, 24),
        };
        let encoder = EncoderConfig {
            num_hidden_layers: blocks,
            num_register_tokens: 4,
            ..EncoderConfig::vit(width, width / 64, 14, grid)
        };
        Ok(ModelConfig::published(encoder)?)
    }
}

/// Measures, and prints what `tests/peers/pytorch.py` prints, save the peak of device memory.
pub fn run() -> Result<()> {
    let o = Options::parse();
    let device = match o.device {
        DeviceChoice::Cuda(number) => open_cuda(number)?,
        DeviceChoice::Auto => open_any(),
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Gpu => anyhow::bail!("device gpu does not train: use cuda or cpu"),
    };
    let precision = o.precision.unwrap_or(TrainingPrecision::usual(&device));
    precision.begin(&device)?;
    let before = free_memory(&device)?;
    let config = o.shape.config(o.grid)?;
    let trained = parts(&config.clone().into(), o.grid)?
        .into_iter()
        .filter(|part| ["bottleneck", "decoder"].contains(&part.name));
    let flop = 6.0 * trained.map(|part| part.linear + part.attention).sum::<u64>() as f64;

    let (cache, encoding) = cached(&o, &config, precision, &device)?;
    let settings = TrainingSettings { precision, ..TrainingSettings::official(o.batch, Schedule::official(10_000)) };
    let head = TrainableHead::fresh(&config, 1, &device)?;
    let mut trainer = Trainer::new(config, settings, head, device.clone())?;
    let batches = Batches::new(cache.len(), o.batch, 1);
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    let mut round = |steps: usize| -> Result<f64> {
        let begun = Instant::now();
        for _ in 0..steps {
            trainer.advance(&cache.batch(&batches.indices(trainer.iteration), &device)?)?;
        }
        losses.extend(trainer.read()?.into_iter().map(|step| step.loss));
        Ok(begun.elapsed().as_secs_f64() / steps as f64)
    };
    round(o.warmup.max(1))?;
    if o.turns {
        println!("ready");
        for line in std::io::stdin().lines() {
            line?;
            println!("{}", 1e3 * round(1)?);
        }
        return Ok(());
    }
    for _ in 0..o.steps.div_ceil(ROUND) {
        seconds.push(round(ROUND.min(o.steps))?);
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let batch = o.batch.min(o.count) as f64;
    let (speed, peak) = (batch * flop / median * 1e-12, products(&device)?);
    // Not the peak: whenever the device is waited for, CUDA gives the memory of freed tensors back.
    let held = match before.zip(free_memory(&device)?) {
        Some((before, after)) => format!("{:.2} GiB", before.saturating_sub(after) as f64 / f64::from(1 << 30)),
        None => "not measured".into(),
    };
    println!(
        "ours, {precision:?}, cached, ViT {:?}, {} pixels, batch {batch} on {}: {:.1} photos/s, {:.1} ms a step, device memory still held after the steps, which is not their peak, {held}, loss {:.4} to {:.4}",
        o.shape,
        14 * o.grid,
        o.device,
        batch / median,
        1e3 * median,
        losses[0],
        losses[losses.len() - 1]
    );
    println!(
        "{speed:.2} TFLOP/s, {:.1} % of this device's bf16 products ({peak:.2}); the encoder once a photo: {encoding:.1} photos/s",
        100.0 * speed / peak
    );
    Ok(())
}

/// Random photos through an encoder of random weights, and photos a second.
fn cached(
    o: &Options,
    config: &ModelConfig,
    precision: TrainingPrecision,
    device: &Device,
) -> Result<(FeatureCache, f64)> {
    const AT_ONCE: usize = 8;
    let ops = Candle::infer(device.clone()).storing(precision.element());
    let encoder = random::weights(config, 7, 7)?.encoder(&ops, config.taps(), o.grid)?;
    let limits = Limits { device: free_memory(device)?.unwrap_or(0) / 2, memory: u64::MAX };
    let tokens = o.grid * o.grid + config.kept_prefix_tokens();
    let mut cache = FeatureCache::new(config, tokens, precision.element(), limits, &std::env::temp_dir())?;
    let begun = Instant::now();
    for first in (0..o.count).step_by(AT_ONCE) {
        let shape = (AT_ONCE.min(o.count - first), o.grid * o.grid, 3 * config.encoder.patch_size.pow(2));
        cache.push(&encode(&ops, &encoder, config, &Tensor::randn(0f32, 1.0, shape, device)?)?)?;
    }
    device.synchronize()?;
    Ok((cache, o.count as f64 / begun.elapsed().as_secs_f64()))
}

/// TFLOP/s of large products in bf16: the median of a few.
fn products(device: &Device) -> Result<f64> {
    let side = if device.is_cpu() { 1024 } else { 8192 };
    let x = Tensor::randn(0f32, 1.0, (side, side), device)?.to_dtype(DType::BF16)?;
    let mut seconds = Vec::new();
    for _ in 0..12 {
        let begun = Instant::now();
        x.matmul(&x)?;
        device.synchronize()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(2.0 * (side as f64).powi(3) / seconds[seconds.len() / 2] * 1e-12)
}
