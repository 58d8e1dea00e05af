//! A training step of the head on the CPU: forward, backward and optimiser on a batch of cached features.
//!
//! Counted: the forward pass's matrix products, three times. With `--device` a published size on that device instead, as
//! `tests/peers/pytorch.py` measures it (`--help` has the options).

mod device;
#[path = "../measure/mod.rs"]
mod measure;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use dinomaly::costs::parts;
use dinomaly::features::Features;
use dinomaly::system::{allocator, environment};
use dinomaly::training::head::TrainableHead;
use dinomaly::training::schedule::Schedule;
use dinomaly::training::trainer::{Trainer, TrainingSettings};
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use measure::Flops;

const BATCH: usize = 16;
const GRID: usize = 14;

fn steps(criterion: &mut Criterion<Flops>) {
    let mut group = criterion.benchmark_group("training step");
    for (name, width) in [("embedded encoder", 144), ("DeiT-Ti", 192)] {
        let config = ModelConfig::published(EncoderConfig::vit(width, 3, 16, GRID)).unwrap();
        let tokens = GRID * GRID + config.kept_prefix_tokens();
        let features = || Tensor::randn(0f32, 1.0, (BATCH, tokens, width), &Device::Cpu).unwrap();
        let features = Features { groups: config.groups.iter().map(|_| features()).collect(), fused: features() };
        let head = TrainableHead::fresh(&config, 1, &Device::Cpu).unwrap();
        let trained = parts(&config.clone().into(), GRID)
            .unwrap()
            .into_iter()
            .filter(|part| ["bottleneck", "decoder"].contains(&part.name));
        let operations = 3 * 2 * BATCH as u64 * trained.map(|part| part.linear + part.attention).sum::<u64>();
        let settings = TrainingSettings::official(BATCH, Schedule::official(10_000));
        let mut trainer = Trainer::new(config, settings, head, Device::Cpu).unwrap();
        group.throughput(Throughput::Elements(operations));
        group.bench_function(BenchmarkId::new(name, format!("{BATCH}x{tokens}x{width}")), |b| {
            b.iter(|| trainer.step(&features).unwrap());
        });
    }
}

criterion_group! { name = benches; config = measure::criterion(); targets = steps }

fn main() -> anyhow::Result<()> {
    // As the program begins.
    allocator::keep_freed_memory();
    environment::set_defaults();
    if std::env::args().any(|argument| argument.starts_with("--device")) {
        return device::run();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    Ok(())
}
