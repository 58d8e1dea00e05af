//! Our side of `tests/peers/native.py`: one photo through a model, timed whenever the other side asks.
//!
//! `stopwatch MODEL PATCHES EXECUTOR`, where PATCHES are little-endian f32 values `[grid², 3·patch²]` and EXECUTOR is `f32`, `int8` or
//! `candle`. Writes a line when ready; for each line read runs the photo once and writes the milliseconds that it took; when input
//! ends writes the distances of all patches, group after group, as one line of JSON.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use dinomaly::model_dir;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::ops::Read;
use dinomaly_core::tensor::HostTensor;
use pollster::block_on;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, patches, executor] = arguments.as_slice() else { bail!("expected MODEL PATCHES EXECUTOR") };
    match executor.as_str() {
        "f32" => time(&Processor::new(ProcessorPrecision::F32), model, patches),
        "int8" => time(&Processor::new(ProcessorPrecision::Int8), model, patches),
        "candle" => time(&Candle::infer(Device::Cpu), model, patches),
        other => bail!("no executor is called {other}"),
    }
}

fn time<O: Read>(ops: &O, model: &str, patches: &str) -> Result<()> {
    let model = model_dir::read(Path::new(model))?;
    let bytes = std::fs::read(patches).with_context(|| format!("{patches} cannot be read"))?;
    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect();
    let (grid, patch) = (model.grid(), model.config.encoder().patch_size);
    let photo = HostTensor::f32([1, grid * grid, 3 * patch * patch], values)?;
    let network = model.weights.network(ops, &model.config, grid)?;
    let run = || -> Result<Vec<Vec<f32>>> {
        let groups = network.distances(ops, &ops.upload(&photo)?)?;
        Ok(block_on(ops.read_back(&groups.iter().collect::<Vec<_>>()))?)
    };
    let mut groups = run()?;
    let mut answer = std::io::stdout();
    writeln!(answer, "ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let begun = Instant::now();
        groups = run()?;
        writeln!(answer, "{}", begun.elapsed().as_secs_f64() * 1e3)?;
    }
    let of_patches = groups.iter().map(|group| &group[model.config.kept_prefix_tokens()..]).collect::<Vec<_>>();
    serde_json::to_writer(&mut answer, &of_patches)?;
    Ok(())
}
