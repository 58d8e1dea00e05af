//! What the page gets to see, as plain JavaScript objects.

use dinomaly_core::bundle::{FileEntry, Model};
use dinomaly_core::detector::Detection;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::resize::resize;
use js_sys::{Float32Array, Reflect, Uint8ClampedArray};
use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::device::{self, Executor};

/// The longest side of the picture that the page shows, in pixels.
const PREVIEW_SIDE: u32 = 1024;

/// A file to load.
#[derive(Serialize)]
pub struct FileListed<'a> {
    name: &'a str,
    bytes: f64,
    sha256: &'a str,
    /// Whether it holds weights, which go to the device.
    weights: bool,
}

impl<'a> From<&'a FileEntry> for FileListed<'a> {
    fn from(entry: &'a FileEntry) -> Self {
        Self { name: &entry.name, bytes: entry.bytes as f64, sha256: &entry.sha256, weights: entry.kind.is_shard() }
    }
}

/// A model that runs, and what it runs on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described<'a> {
    name: &'a str,
    encoder: &'a str,
    parameters: f64,
    input_side: usize,
    classes: Vec<Class<'a>>,
    /// For photos whose class is not chosen.
    threshold: f32,
    self_tested: bool,
    device: DeviceDescribed,
    /// The faster precisions that the self-test refused.
    refused: Vec<&'static str>,
    timings: StartTimings,
}

#[derive(Serialize)]
struct Class<'a> {
    name: &'a str,
    threshold: f32,
}

/// What computes.
#[derive(Serialize)]
pub struct DeviceDescribed {
    /// `webgpu` or `wasm`.
    pub kind: &'static str,
    /// Maker and model of the GPU, as far as the browser tells.
    pub name: Option<String>,
    /// What linear layers are computed in, the fastest that the model's self-test accepts: `f32`, `f16` or `int8`.
    pub precision: &'static str,
    /// Whether the GPU is only emulated.
    pub software: bool,
    /// What was found out about it, for the next visit.
    pub tuning: Option<String>,
}

/// What a kernel took in all.
#[derive(Serialize)]
pub struct KernelTimed {
    kernel: String,
    count: f64,
    milliseconds: f64,
}

impl KernelTimed {
    /// So many dispatches of a kernel.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "processors have no kernels"))]
    pub fn new(kernel: String, count: u64, nanoseconds: u64) -> Self {
        Self { kernel, count: count as f64, milliseconds: nanoseconds as f64 / 1e6 }
    }
}

/// How long the start took, in milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartTimings {
    /// From the shards' bytes to weights on the device, while others are still being fetched.
    pub upload: f64,
    /// The first picture, with all that is compiled for it.
    pub self_test: f64,
}

impl<'a> Described<'a> {
    /// Describes a model of so many parameters, which are on the executor.
    pub fn new(
        model: &'a Model,
        parameters: usize,
        executor: &Executor,
        refused: Vec<&'static str>,
        timings: StartTimings,
    ) -> Self {
        let classes = model.calibration.classes.iter();
        Self {
            name: &model.name,
            encoder: &model.config.encoder.name,
            parameters: parameters as f64,
            input_side: model.preprocessor.geometry.crop,
            classes: classes.map(|(name, class)| Class { name, threshold: class.threshold }).collect(),
            threshold: model.calibration.overall.threshold,
            self_tested: model.self_test.is_some(),
            device: device::describe(executor),
            refused,
            timings,
        }
    }
}

/// How long a photo took, in milliseconds.
#[derive(Serialize)]
pub struct Timings {
    /// From the bytes of the file to pixels.
    pub decode: f64,
    /// From pixels to map and score.
    pub detect: f64,
}

#[derive(Serialize)]
struct Detected {
    score: f32,
    region: [f64; 4],
    width: u32,
    height: u32,
    side: usize,
    timings: Timings,
}

/// A detection with the photo's preview.
pub fn detection(photo: &Photo, detection: &Detection, timings: Timings) -> Result<JsValue, JsValue> {
    let Detection { score, map, region } = detection;
    let detected = serde_wasm_bindgen::to_value(&Detected {
        score: *score,
        region: [region.x0, region.y0, region.x1, region.y1],
        width: photo.width,
        height: photo.height,
        side: map.side,
        timings,
    })?;
    let (width, rgba) = preview(photo);
    Reflect::set(&detected, &"map".into(), &Float32Array::from(map.values.as_slice()))?;
    Reflect::set(&detected, &"previewWidth".into(), &width.into())?;
    Reflect::set(&detected, &"preview".into(), &Uint8ClampedArray::from(rgba.as_slice()))?;
    Ok(detected)
}

/// The photo as the detector saw it, upright, small enough to be shown: width in pixels, RGBA.
fn preview(photo: &Photo) -> (u32, Vec<u8>) {
    let (width, height) = (photo.width, photo.height);
    let shrink = f64::from(PREVIEW_SIDE) / f64::from(width.max(height));
    let small = |side: u32| ((f64::from(side) * shrink).round() as usize).max(1);
    let to = if shrink < 1.0 { (small(width), small(height)) } else { (width as usize, height as usize) };
    let rgb = resize::<3>(&photo.rgb, (width as usize, height as usize), to);
    (to.0 as u32, rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect())
}
