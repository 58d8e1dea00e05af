//! Time per photo on this machine.

use std::time::Instant;

use anyhow::Result;
use dinomaly_core::bundle::{Model, SelfTest};
use dinomaly_core::detector::{Detector, SELF_TEST_SEED};
use dinomaly_core::executors::webgpu::{KernelTime, WebGpu};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use pollster::block_on;

use super::photo_detector::PhotoDetector;
use super::{AnyDetector, DetectorDevice};

/// Smallest number of photos and of seconds to measure.
const PHOTOS: usize = 5;
const SECONDS: f64 = 3.0;

/// Time per photo, from pixels to score.
#[derive(Clone, Debug)]
pub struct PhotoTime {
    /// The median, in seconds.
    pub median: f64,
    /// Number of measured photos.
    pub photos: usize,
    /// Time per kernel on a GPU through WebGPU, or the reason why it cannot be measured.
    pub kernels: Option<Result<KernelTimes, String>>,
}

/// Time per kernel of some photos.
#[derive(Clone, Debug)]
pub struct KernelTimes {
    /// One entry per kernel.
    pub kernels: Vec<KernelTime>,
    /// Number of photos that the times add up.
    pub photos: usize,
}

/// Measures the time of a photo, by running the model on it several times.
///
/// # Errors
/// If the device cannot be used.
pub fn time_photo(model: &Model, photo: &Photo, place: DetectorDevice) -> Result<PhotoTime> {
    match place.open(model)? {
        AnyDetector::Processor(detector) => measure(photo, detector.detector()),
        AnyDetector::Cuda(detector) => measure(photo, detector.detector()),
        AnyDetector::Gpu(detector) => {
            let time = measure(photo, detector.detector())?;
            Ok(PhotoTime { kernels: Some(kernels(photo, detector.detector())?), ..time })
        }
    }
}

fn measure<O: Read>(photo: &Photo, detector: &Detector<O>) -> Result<PhotoTime> {
    let photo = std::slice::from_ref(photo);
    // Warm-up: the first photo compiles kernels.
    block_on(detector.detect(photo))?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.len() < PHOTOS || begun.elapsed().as_secs_f64() < SECONDS {
        let begun = Instant::now();
        block_on(detector.detect(photo))?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(PhotoTime { median: times[times.len() / 2], photos: times.len(), kernels: None })
}

fn kernels(photo: &Photo, detector: &Detector<WebGpu>) -> Result<Result<KernelTimes, String>> {
    if let Err(reason) = detector.ops().start_profile() {
        return Ok(Err(reason.to_string()));
    }
    let photo = std::slice::from_ref(photo);
    for _ in 0..PHOTOS {
        block_on(detector.detect(photo))?;
    }
    Ok(Ok(KernelTimes { kernels: detector.ops().profile(), photos: PHOTOS }))
}

/// Speed of a model on batches of photos.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Number of measured photos.
    pub photos: usize,
    /// Their duration, in seconds.
    pub seconds: f64,
    /// Photos per batch.
    pub batch: usize,
}

/// Measures with the self-test's picture: a photo's cost does not depend on its content.
///
/// # Errors
/// If the device cannot be used.
pub fn throughput(model: &Model, place: DetectorDevice) -> Result<Throughput> {
    match place.open(model)? {
        AnyDetector::Processor(detector) => measure_batches(&detector),
        AnyDetector::Gpu(detector) => measure_batches(&detector),
        AnyDetector::Cuda(detector) => measure_batches(&detector),
    }
}

fn measure_batches<O: Read>(detector: &PhotoDetector<O>) -> Result<Throughput> {
    let picture = detector.detector().prepare(&SelfTest::picture_of(SELF_TEST_SEED));
    let batch = vec![picture; detector.batch()];
    let run = || block_on(detector.detector().maps(&batch));
    run()?;
    let (begun, mut photos) = (Instant::now(), 0);
    while begun.elapsed().as_secs_f64() < SECONDS {
        photos += run()?.len();
    }
    Ok(Throughput { photos, seconds: begun.elapsed().as_secs_f64(), batch: detector.batch() })
}
