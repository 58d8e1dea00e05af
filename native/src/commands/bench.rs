//! `dinomaly bench`: time per photo, and on a GPU time per kernel.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly_core::bundle::SelfTest;
use dinomaly_core::detector::SELF_TEST_SEED;
use dinomaly_core::executors::webgpu::KernelTime;

use super::options::LookOption;
use crate::costs::parts;
use crate::dataset::read_photo;
use crate::inference::speed::{KernelTimes, time_photo};
use crate::model_dir;
use crate::system::table::align;

/// Arguments of `dinomaly bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Photo to look at [default: a generated picture]
    photo: Option<PathBuf>,
    #[command(flatten)]
    device: LookOption,
}

/// Prints the median time per photo and the speed that it means; on a GPU also the time of each kernel.
///
/// # Errors
/// If the model, photo or device is unusable.
pub fn run(args: &Args) -> Result<()> {
    let model = model_dir::read(&args.model)?;
    let photo = args
        .photo
        .as_ref()
        .map_or_else(|| Ok(SelfTest::picture_of(SELF_TEST_SEED)), |path| read_photo(path, model.preprocessor.window))?;
    let macs: u64 = parts(&model.config, model.grid())?.iter().map(|part| part.linear + part.attention).sum();
    let patch = model.config.encoder().patch_size;
    let tiles = model.preprocessor.tile_plan((photo.width, photo.height), patch).map_or(1, |plan| plan.count());
    let gflop = 2e-9 * macs as f64 * tiles as f64;
    let time = time_photo(&model, &photo, args.device.place())?;
    println!(
        "{:.1} ms per photo, from pixels to score (median of {}); {gflop:.2} GFLOP, {:.1} GFLOP/s",
        1000.0 * time.median,
        time.photos,
        gflop / time.median
    );
    match time.kernels {
        None => {}
        Some(Ok(times)) => print!("\n{}", table(&times)),
        Some(Err(reason)) => println!("\n{reason}"),
    }
    Ok(())
}

/// A table of the time per kernel.
fn table(KernelTimes { kernels: times, photos }: &KernelTimes) -> String {
    let total: u64 = times.iter().map(|time| time.nanoseconds).sum();
    let row = |name: &str, count: u64, nanoseconds: u64| {
        let milliseconds = nanoseconds as f64 / 1e6 / *photos as f64;
        let share = 100.0 * nanoseconds as f64 / total.max(1) as f64;
        vec![name.into(), (count / *photos as u64).to_string(), format!("{milliseconds:.3}"), format!("{share:.1}")]
    };
    let mut rows = vec![["kernel", "dispatches per photo", "ms", "%"].map(str::to_owned).to_vec()];
    rows.extend(times.iter().map(|KernelTime { kernel, count, nanoseconds }| row(kernel, *count, *nanoseconds)));
    rows.push(row("total", times.iter().map(|time| time.count).sum(), total));
    align(&rows)
}
