//! Results for the page, as plain JavaScript objects.

use dinomaly_core::bundle::{Calibration, ClassCalibration, FileEntry, Model, Quantile, Recognised, ScoreStatistics};
use dinomaly_core::detector::Detection;
use dinomaly_core::maps::defects::Defect;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Region;
use dinomaly_core::photo::resize::resize;
use js_sys::{Float32Array, Reflect, Uint8ClampedArray};
use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::device::{self, Executor};

/// Longest side of the preview in pixels.
const PREVIEW_SIDE: u32 = 1024;

/// Entry of a file to load.
#[derive(Serialize)]
pub struct FileListed<'a> {
    name: &'a str,
    bytes: f64,
    sha256: &'a str,
    /// Whether the file holds weights, which are uploaded to the device.
    weights: bool,
}

impl<'a> From<&'a FileEntry> for FileListed<'a> {
    fn from(entry: &'a FileEntry) -> Self {
        Self { name: &entry.name, bytes: entry.bytes as f64, sha256: &entry.sha256, weights: entry.kind.is_shard() }
    }
}

/// Description of a running model and its device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described<'a> {
    name: &'a str,
    encoder: &'a str,
    parameters: f64,
    input_side: usize,
    classes: Vec<Class<'a>>,
    /// Threshold for photos of no class.
    threshold: f32,
    /// Pixel threshold for photos of no class.
    pixel_threshold: Option<f32>,
    /// Scores of the good photos of all classes.
    good: GoodScores<'a>,
    /// Whether the photos of `good` were held out from training.
    held_out: bool,
    self_tested: bool,
    device: DeviceDescribed,
    /// Faster precisions that failed the self-test.
    refused: Vec<&'static str>,
    timings: StartTimings,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Class<'a> {
    name: &'a str,
    threshold: f32,
    pixel_threshold: Option<f32>,
    good: GoodScores<'a>,
}

/// Scores of a class's good photos.
#[derive(Serialize)]
struct GoodScores<'a> {
    count: f64,
    quantiles: &'a [Quantile],
}

impl<'a> From<&'a ScoreStatistics> for GoodScores<'a> {
    fn from(scores: &'a ScoreStatistics) -> Self {
        Self { count: scores.count as f64, quantiles: &scores.quantiles }
    }
}

/// Description of a device.
#[derive(Serialize)]
pub struct DeviceDescribed {
    /// `webgpu` or `wasm`.
    pub kind: &'static str,
    /// Maker and model of the GPU, if the browser tells.
    pub name: Option<String>,
    /// Precision of linear layers, the fastest that passed the self-test: `f32`, `f16` or `int8`.
    pub precision: &'static str,
    /// Whether the GPU is emulated.
    pub software: bool,
    /// Tuning of the GPU, for the next visit.
    pub tuning: Option<String>,
}

/// Total time of a kernel.
#[derive(Serialize)]
pub struct KernelTimed {
    kernel: String,
    count: f64,
    milliseconds: f64,
}

impl KernelTimed {
    /// Time of `count` dispatches of a kernel.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "processors have no kernels"))]
    pub fn new(kernel: String, count: u64, nanoseconds: u64) -> Self {
        Self { kernel, count: count as f64, milliseconds: nanoseconds as f64 / 1e6 }
    }
}

/// Times of the start in milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartTimings {
    /// Upload of weights, while others are still being downloaded.
    pub upload: f64,
    /// Self-test, including compilation.
    pub self_test: f64,
}

impl<'a> Described<'a> {
    /// Description of a model with `parameters` parameters on an executor.
    pub fn new(
        model: &'a Model,
        parameters: usize,
        executor: &Executor,
        refused: Vec<&'static str>,
        timings: StartTimings,
    ) -> Self {
        let Calibration { classes, overall, held_out, .. } = &model.calibration;
        let class = |(name, class): (&'a String, &'a ClassCalibration)| Class {
            name,
            threshold: class.threshold,
            pixel_threshold: class.pixel_threshold,
            good: (&class.good_scores).into(),
        };
        Self {
            name: &model.name,
            encoder: &model.config.encoder().name,
            parameters: parameters as f64,
            input_side: model.preprocessor.geometry.crop,
            classes: classes.iter().map(class).collect(),
            threshold: overall.threshold,
            pixel_threshold: overall.pixel_threshold,
            good: (&overall.good_scores).into(),
            held_out: *held_out,
            self_tested: model.self_test.is_some(),
            device: device::describe(executor),
            refused,
            timings,
        }
    }
}

/// Times of a photo in milliseconds.
#[derive(Serialize)]
pub struct Timings {
    /// Decoding of the file.
    pub decode: f64,
    /// Detection, from pixels to map and score.
    pub detect: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detected {
    score: f32,
    region: [f64; 4],
    width: u32,
    height: u32,
    map_width: usize,
    map_height: usize,
    unknown: bool,
    timings: Timings,
}

/// Detection with a preview of the photo. `product` is what it shows, if the model tells products.
pub fn detection(
    photo: &Photo,
    detection: &Detection,
    product: Option<Recognised<'_>>,
    timings: Timings,
) -> Result<JsValue, JsValue> {
    let Detection { score, map, region, .. } = detection;
    let detected = serde_wasm_bindgen::to_value(&Detected {
        score: *score,
        region: [region.x0, region.y0, region.x1, region.y1],
        width: photo.width,
        height: photo.height,
        map_width: map.width,
        map_height: map.height,
        unknown: product.is_some_and(|product| product.unknown),
        timings,
    })?;
    let (width, rgba) = preview(photo);
    let nearest = product.map_or(JsValue::NULL, |product| product.nearest.into());
    Reflect::set(&detected, &"nearest".into(), &nearest)?;
    Reflect::set(&detected, &"map".into(), &Float32Array::from(map.values.as_slice()))?;
    Reflect::set(&detected, &"previewWidth".into(), &width.into())?;
    Reflect::set(&detected, &"preview".into(), &Uint8ClampedArray::from(rgba.as_slice()))?;
    Ok(detected)
}

#[derive(Serialize)]
struct RegionFound {
    #[serde(rename = "box")]
    bounds: [f64; 4],
    area: f64,
    peak: f32,
    mean: f32,
    outline: Vec<[f64; 2]>,
}

/// Regions of a photo.
pub fn regions(found: &[Defect]) -> Result<JsValue, JsValue> {
    let region = |Defect { bounds: Region { x0, y0, x1, y1 }, area, peak, mean, outline }: &'_ Defect| RegionFound {
        bounds: [*x0, *y0, *x1, *y1],
        area: *area,
        peak: *peak,
        mean: *mean,
        outline: outline.clone(),
    };
    Ok(serde_wasm_bindgen::to_value(&found.iter().map(region).collect::<Vec<_>>())?)
}

/// Small upright copy of the photo: width in pixels, RGBA.
fn preview(photo: &Photo) -> (u32, Vec<u8>) {
    let (width, height) = (photo.width, photo.height);
    let shrink = f64::from(PREVIEW_SIDE) / f64::from(width.max(height));
    let small = |side: u32| ((f64::from(side) * shrink).round() as usize).max(1);
    let to = if shrink < 1.0 { (small(width), small(height)) } else { (width as usize, height as usize) };
    let rgb = resize::<3>(&photo.rgb, (width as usize, height as usize), to);
    (to.0 as u32, rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect())
}
