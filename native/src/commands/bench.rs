//! `dinomaly bench`: how long a photo takes, and on a GPU which kernels take it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::{Detector, SELF_TEST_SEED};
use dinomaly_core::executors::webgpu::{KernelTime, WebGpu};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use pollster::block_on;

use super::options::LookOption;
use crate::costs::parts;
use crate::dataset::read_photo;
use crate::inference::Looking;
use crate::inference::evaluate::align;
use crate::model_dir;

/// Photos that are looked at, at least; and seconds, so that fast machines take more of them.
const PHOTOS: usize = 5;
const SECONDS: f64 = 3.0;

/// Arguments of `dinomaly bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
    /// A photo, else a generated picture
    photo: Option<PathBuf>,
    #[command(flatten)]
    device: LookOption,
}

/// Prints the median time of a photo and what it makes of the machine; of a GPU also the time of each kernel.
///
/// # Errors
/// An unusable model, photo or device.
pub fn run(args: &Args) -> Result<()> {
    let model = model_dir::read(&args.model)?;
    let photo =
        args.photo.as_ref().map_or_else(|| Ok(SelfTest::picture_of(SELF_TEST_SEED)), |path| read_photo(path))?;
    match args.device.place().open(&model)? {
        Looking::Processor(detector) => measure(&model, &photo, detector.detector()),
        Looking::Cuda(detector) => measure(&model, &photo, detector.detector()),
        Looking::Gpu(detector) => {
            measure(&model, &photo, detector.detector())?;
            print!("\n{}", kernels(&photo, detector.detector())?);
            Ok(())
        }
    }
}

fn measure<O: Read>(model: &Model, photo: &Photo, detector: &Detector<O>) -> Result<()> {
    let macs: u64 = parts(&model.config, model.grid())?.iter().map(|part| part.linear + part.attention).sum();
    let gflop = 2e-9 * macs as f64;
    let photo = std::slice::from_ref(photo);
    // The first one compiles kernels.
    block_on(detector.detect(photo))?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < PHOTOS || begun.elapsed().as_secs_f64() < SECONDS {
        let begun = Instant::now();
        block_on(detector.detect(photo))?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{:.1} ms a photo, from pixels to score: the median of {}; {gflop:.2} GFLOP, {:.1} GFLOP/s",
        1000.0 * median,
        times.len(),
        gflop / median
    );
    Ok(())
}

/// A table of what a photo's kernels take, or why there is none.
fn kernels(photo: &Photo, detector: &Detector<WebGpu>) -> Result<String> {
    if let Err(reason) = detector.ops().start_profile() {
        return Ok(format!("{reason}\n"));
    }
    let photo = std::slice::from_ref(photo);
    for _ in 0..PHOTOS {
        block_on(detector.detect(photo))?;
    }
    let times = detector.ops().profile();
    let total: u64 = times.iter().map(|time| time.nanoseconds).sum();
    let row = |name: &str, count: u64, nanoseconds: u64| {
        let milliseconds = nanoseconds as f64 / 1e6 / PHOTOS as f64;
        let share = 100.0 * nanoseconds as f64 / total.max(1) as f64;
        vec![name.into(), (count / PHOTOS as u64).to_string(), format!("{milliseconds:.3}"), format!("{share:.1}")]
    };
    let mut rows = vec![["kernel", "dispatches a photo", "ms", "%"].map(str::to_owned).to_vec()];
    rows.extend(times.iter().map(|KernelTime { kernel, count, nanoseconds }| row(kernel, *count, *nanoseconds)));
    rows.push(row("total", times.iter().map(|time| time.count).sum(), total));
    Ok(align(&rows))
}
