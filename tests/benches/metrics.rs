//! The seven metrics of a class as large as Real-IAD's, timed; and the same arrays for `tests/peers/metrics.py`, which times
//! scikit-learn and a plain per-region-overlap loop on them.
//!
//! `cargo bench -p dinomaly-tests --bench metrics -- [--maps 4000] [--seed 1] [--out DIR]`. With `--out` the arrays and the figures
//! are left there; delete them yourself.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use dinomaly_core::maps::metrics::{Metrics, Sample};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Side of a map, as the official evaluation has it.
const SIDE: usize = 256;

/// Cells along a side of the noise that a map is drawn from, as a patch grid at 392² has.
const GRID: usize = 28;

fn main() -> Result<()> {
    let option = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let count: usize = option("--maps").map_or(Ok(4000), |text| text.parse()).context("--maps takes a number")?;
    let seed: u64 = option("--seed").map_or(Ok(1), |text| text.parse()).context("--seed takes a number")?;
    let photos: Vec<Photo> = (0..count as u64).map(|i| Photo::draw(seed, i)).collect();
    let samples: Vec<Sample<'_>> = photos.iter().map(Photo::sample).collect();

    let (begun, on_processor) = (Instant::now(), processor_seconds());
    let metrics = Metrics::of(&samples)?;
    let seconds = begun.elapsed().as_secs_f64();
    // What other work on the machine cannot change much.
    let processor = processor_seconds().zip(on_processor).map_or(seconds, |(end, begin)| end - begin);
    let peak = peak_memory();

    for (name, value) in Metrics::NAMES.iter().zip(metrics.values()) {
        println!("{name:<9}{:.10}", value.with_context(|| metrics.undefined.join("; "))?);
    }
    let memory = peak.map_or("unknown".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
    println!(
        "{count} maps of {SIDE}²: {seconds:.2} s, of them {processor:.2} on the processor; peak memory {memory} (the maps themselves included)"
    );
    if let Some(folder) = option("--out").map(PathBuf::from) {
        fs::create_dir_all(&folder)?;
        let create = |name: &str| File::create(folder.join(name)).map(BufWriter::new);
        let (mut maps, mut masks) = (create("maps.f32")?, create("masks.u8")?);
        let (mut scores, mut labels) = (create("scores.f32")?, create("labels.u8")?);
        for (photo, sample) in photos.iter().zip(&samples) {
            maps.write_all(&photo.map.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
            let pixel = |at| u8::from(photo.mask.as_ref().is_some_and(|mask| mask[at]));
            masks.write_all(&(0..SIDE * SIDE).map(pixel).collect::<Vec<_>>())?;
            scores.write_all(&sample.score.to_le_bytes())?;
            labels.write_all(&[u8::from(sample.anomalous)])?;
        }
        let ours = json!({"maps": count, "side": SIDE, "seconds": processor, "peak_bytes": peak, "metrics": metrics});
        fs::write(folder.join("ours.json"), serde_json::to_vec_pretty(&ours)?)?;
        println!("arrays and figures are in {}", folder.display());
    }
    Ok(())
}

/// What a detector might say of a photo: smooth noise, raised where there is a defect. Half of the photos have one to three.
struct Photo {
    map: Vec<f32>,
    mask: Option<Vec<bool>>,
}

impl Photo {
    fn draw(seed: u64, index: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(index);
        let noise: Vec<f32> = (0..(GRID + 1) * (GRID + 1)).map(|_| random.random_range(0.1..0.5)).collect();
        let mut mask = vec![false; SIDE * SIDE];
        if index.is_multiple_of(2) {
            for _ in 0..random.random_range(1..=3) {
                let [x, y] = [0; 2].map(|_| random.random_range(20.0..SIDE as f32 - 20.0));
                let [a, b] = [0; 2].map(|_| random.random_range(3.0..18.0_f32));
                for (at, pixel) in mask.iter_mut().enumerate() {
                    let (dx, dy) = (((at % SIDE) as f32 - x) / a, ((at / SIDE) as f32 - y) / b);
                    *pixel |= dx * dx + dy * dy < 1.0;
                }
            }
        }
        let raise = random.random_range(0.0..0.4);
        let value = |at: usize| {
            let [x, y] = [at % SIDE, at / SIDE].map(|place| place as f32 * GRID as f32 / SIDE as f32);
            let (i, j) = (x as usize, y as usize);
            let cell = |i: usize, j: usize| noise[j * (GRID + 1) + i];
            let row = |j: usize| cell(i, j) * (1.0 - x.fract()) + cell(i + 1, j) * x.fract();
            row(j) * (1.0 - y.fract()) + row(j + 1) * y.fract() + if mask[at] { raise } else { 0.0 }
        };
        let map = (0..SIDE * SIDE).map(value).collect();
        Self { map, mask: index.is_multiple_of(2).then_some(mask) }
    }

    fn sample(&self) -> Sample<'_> {
        let score = self.map.iter().copied().fold(0.0, f32::max);
        Sample { map: &self.map, width: SIDE, mask: self.mask.as_deref(), anomalous: self.mask.is_some(), score }
    }
}

/// Seconds that this thread has computed; Linux alone tells.
fn processor_seconds() -> Option<f64> {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(statistics.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// The most memory that this process has had, in bytes; Linux alone tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
