//! Dinomaly in the browser: one class, [`Detector`], for a published model's files and the bytes of photos.
//!
//! All computation is in `dinomaly-core`, the same code as natively; this crate is the interface to the page. It is built for the
//! GPU, for the processor, and for the processor with relaxed SIMD (`device.rs`); the page downloads the module that it needs.
//! Errors are thrown as a JavaScript `Error` whose message is one sentence. Its `name` is `DeviceError` if another device, or the
//! same one opened again, may succeed.

mod device;
mod few_shot;
mod results;

use dinomaly_core::Error;
use dinomaly_core::bundle::{Arriving, Manifest, Model};
use dinomaly_core::detector;
use dinomaly_core::maps::defects::defects;
use dinomaly_core::maps::heatmap;
use dinomaly_core::maps::score::AnomalyMap;
use dinomaly_core::ops::Ops;
use dinomaly_core::photo::decode::{Photo, Pixels};
use dinomaly_core::photo::preprocess::Region;
use wasm_bindgen::prelude::*;
use web_sys::WorkerGlobalScope;

use device::{Device, Executor, Precision};
use results::{Described, FileListed, StartTimings, Timings};

/// Prints the message of a panic to the console.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// A published model, which is loaded file by file, then inspects photos.
#[wasm_bindgen]
pub struct Detector {
    stage: Stage,
}

enum Stage {
    Arriving(Box<Arrival>),
    Ready(Box<Ready>),
    /// After a failed start, which drops the device.
    Failed,
}

/// A partly loaded model.
struct Arrival {
    model: Arriving<<Executor as Ops>::Tensor>,
    /// Device of the weights, after [`Detector::use_device`].
    executor: Option<Executor>,
    /// Further precisions, the fastest first, if the present one fails the self-test.
    fallbacks: Vec<Precision>,
    /// Faster precisions that failed the self-test.
    refused: Vec<&'static str>,
    /// Time of uploading weights in milliseconds.
    upload: f64,
}

struct Ready {
    detector: detector::Detector<Executor>,
    /// The model, its weights removed.
    model: Model,
}

#[wasm_bindgen]
impl Detector {
    /// Starts with the content of a model's `manifest.json`.
    ///
    /// # Errors
    /// If it is not a manifest, or of another version.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8]) -> Result<Detector, JsValue> {
        let model = Arriving::new(Manifest::parse(manifest).map_err(refusal)?);
        let arrival = Arrival { model, executor: None, fallbacks: Vec::new(), refused: Vec::new(), upload: 0.0 };
        Ok(Self { stage: Stage::Arriving(Box::new(arrival)) })
    }

    /// Files to [`Detector::add`], those with weights last: `{name, bytes, sha256, weights}[]`.
    ///
    /// # Errors
    /// If the model is already running.
    pub fn files(&mut self) -> Result<JsValue, JsValue> {
        let files = &self.arrival()?.model.manifest().files;
        let (weights, texts): (Vec<_>, Vec<_>) = files.iter().partition(|entry| entry.kind.is_shard());
        let listed = texts.into_iter().chain(weights).map(FileListed::from).collect::<Vec<_>>();
        Ok(serde_wasm_bindgen::to_value(&listed)?)
    }

    /// Sets the device of the weights, in the fastest precision for the model.
    ///
    /// # Errors
    /// If the model is already running.
    #[wasm_bindgen(js_name = useDevice)]
    pub fn use_device(&mut self, device: Device) -> Result<(), JsValue> {
        let arrival = self.arrival()?;
        let executor = device.into_executor();
        let manifest = arrival.model.manifest();
        arrival.fallbacks = device::candidates(&executor, manifest);
        let executor = device::compute_in(executor, arrival.fallbacks.remove(0));
        device::prepare(&executor, manifest);
        arrival.executor = Some(executor);
        Ok(())
    }

    /// Checks a file's content against the manifest.
    ///
    /// # Errors
    /// If the manifest does not list the file, or its content differs, so that it must be downloaded again.
    pub fn verify(&mut self, name: &str, content: &[u8]) -> Result<(), JsValue> {
        self.arrival()?.model.verify(name, content).map_err(refusal)
    }

    /// Adds a verified file. Weights are uploaded at once, which needs the device and all other files.
    ///
    /// # Errors
    /// If the content contradicts other files, or the device is out of memory.
    pub fn add(&mut self, name: &str, content: Vec<u8>) -> Result<(), JsValue> {
        let Arrival { model, executor, upload, .. } = self.arrival()?;
        let is_shard = model.manifest().shards().any(|entry| entry.name == name);
        if !is_shard {
            return model.describe(name, content).map_err(refusal);
        }
        let executor =
            executor.as_ref().ok_or_else(|| refusal(Error::config("no device was set: call useDevice first")))?;
        let began = now();
        model.place(executor, name, &content).map_err(refusal)?;
        *upload += now() - began;
        Ok(())
    }

    /// Runs the self-test, and returns a description of model and device. If the self-test fails in this precision but others are left,
    /// returns `undefined`: add the files with weights again, for the next precision.
    ///
    /// # Errors
    /// If a file is missing, or the self-test fails in every precision.
    pub async fn start(&mut self) -> Result<JsValue, JsValue> {
        let mut arrival = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Arriving(arrival) => arrival,
            started => {
                self.stage = started;
                return Err(refusal(Error::config("the model was already started")));
            }
        };
        let executor =
            arrival.executor.take().ok_or_else(|| refusal(Error::config("no device was set: call useDevice first")))?;
        arrival.model.check().map_err(refusal)?;
        let began = now();
        let rounding = device::rounding(&executor);
        let detector = detector::Detector::of_arrived(executor, &arrival.model).map_err(device::unusable)?;
        let self_test = arrival.model.model().and_then(|model| model.self_test.as_ref());
        if let Some(self_test) = self_test
            && let Err(error) = detector.verify(device::NAME, self_test, rounding).await
        {
            let executor = detector.into_ops();
            // A lost device fails in every precision.
            device::check(&executor).map_err(refusal)?;
            if arrival.fallbacks.is_empty() {
                return Err(device::unusable(error));
            }
            arrival.refused.push(executor.precision().name());
            arrival.model.restart();
            arrival.executor = Some(device::compute_in(executor, arrival.fallbacks.remove(0)));
            self.stage = Stage::Arriving(arrival);
            return Ok(JsValue::UNDEFINED);
        }
        let timings = StartTimings { upload: arrival.upload, self_test: now() - began };
        let parameters = arrival.model.parameters();
        let model = arrival.model.into_model().map_err(refusal)?;
        let description = Described::new(&model, parameters, detector.ops(), arrival.refused, timings);
        let description = serde_wasm_bindgen::to_value(&description)?;
        self.stage = Stage::Ready(Box::new(Ready { detector, model }));
        Ok(description)
    }

    /// Starts timing the device's kernels.
    ///
    /// # Errors
    /// If the device does not support it.
    #[wasm_bindgen(js_name = startProfile)]
    pub fn start_profile(&self) -> Result<(), JsValue> {
        device::start_profile(self.ready()?.detector.ops()).map_err(refusal)
    }

    /// Times of kernels since the start of the profile or the last call, the longest first: `{kernel, count, milliseconds}[]`.
    ///
    /// # Errors
    /// Before [`Detector::start`].
    #[wasm_bindgen(js_name = kernelTimes)]
    pub fn kernel_times(&self) -> Result<JsValue, JsValue> {
        Ok(serde_wasm_bindgen::to_value(&device::kernel_times(self.ready()?.detector.ops()))?)
    }

    /// Inspects a photo, given as the bytes of its file; `name` is used in error messages only. Returns `{score, region: [x0, y0,
    /// x1, y1], width, height, map: Float32Array, mapWidth, mapHeight, nearest, unknown, preview: Uint8ClampedArray, previewWidth, timings:
    /// {decode, detect}}`: region in pixels of the photo, preview in RGBA, timings in milliseconds. `nearest` is the product whose
    /// good photos are nearest, whose threshold counts if no product was chosen; `null` if the model does not tell products. `unknown`
    /// says that the photo is unlike anything that the model knows: it is neither good nor defective.
    ///
    /// # Errors
    /// If the photo cannot be read, or the device fails.
    pub async fn detect(&self, name: &str, bytes: Vec<u8>) -> Result<JsValue, JsValue> {
        let began = now();
        let photo = self.ready()?.detector.decode(name, &bytes).map_err(refusal)?;
        drop(bytes);
        self.look_at(&photo, began).await
    }

    /// [`Detector::detect`] for a photo that is decoded already: red, green, blue and alpha of each pixel, row by row. Alpha is dropped.
    ///
    /// # Errors
    /// If it is empty or too large, there are more or fewer values than pixels of this size have, or the device fails.
    #[wasm_bindgen(js_name = detectPixels)]
    pub async fn detect_pixels(&self, name: &str, rgba: Vec<u8>, width: u32, height: u32) -> Result<JsValue, JsValue> {
        let began = now();
        let photo = Photo::of_pixels(name, [width, height], Pixels::Rgba(&rgba), None).map_err(refusal)?;
        drop(rgba);
        self.look_at(&photo, began).await
    }

    /// Heatmap of a map, RGBA. The middle of the colour scale is the threshold of this class, or the overall one.
    ///
    /// # Errors
    /// Before [`Detector::start`].
    pub fn colours(&self, map: Vec<f32>, product: Option<String>) -> Result<Vec<u8>, JsValue> {
        let threshold = self.ready()?.model.calibration.of_class(product.as_deref()).threshold;
        let map = AnomalyMap { width: map.len(), height: 1, values: map };
        Ok(heatmap::heat_rgba(&map, heatmap::range_around(threshold)))
    }

    /// Regions of a map of this width above the pixel threshold of this class, or the overall one, highest first: `{box: [x0, y0,
    /// x1, y1], area, peak, mean, outline: [x, y][]}[]` in pixels of the photo. `undefined` if the model has no pixel threshold.
    /// `region` is that of [`Detector::detect`].
    ///
    /// # Errors
    /// Before [`Detector::start`], or if the map has no such width.
    pub fn regions(
        &self,
        map: Vec<f32>,
        width: usize,
        region: Vec<f64>,
        product: Option<String>,
    ) -> Result<JsValue, JsValue> {
        let calibration = self.ready()?.model.calibration.of_class(product.as_deref());
        let Some(threshold) = calibration.pixel_threshold else { return Ok(JsValue::UNDEFINED) };
        let wrong = || refusal(Error::config("this is no map of a photo: give what detect returned"));
        let [x0, y0, x1, y1]: [f64; 4] = region.try_into().map_err(|_| wrong())?;
        if map.is_empty() || !map.len().is_multiple_of(width) {
            return Err(wrong());
        }
        let map = AnomalyMap { width, height: map.len() / width, values: map };
        results::regions(&defects(&map, Region { x0, y0, x1, y1 }, threshold, 0.0))
    }

    /// Inspects a photo whose decoding began at this time.
    async fn look_at(&self, photo: &Photo, began: f64) -> Result<JsValue, JsValue> {
        let ready = self.ready()?;
        let decoded = now();
        let detections = ready.detector.detect(std::slice::from_ref(photo)).await.map_err(refusal)?;
        let timings = Timings { decode: decoded - began, detect: now() - decoded };
        let product = ready.model.calibration.recognise(&detections[0].descriptor).map_err(refusal)?;
        results::detection(photo, &detections[0], product, timings)
    }

    fn arrival(&mut self) -> Result<&mut Arrival, JsValue> {
        match &mut self.stage {
            Stage::Arriving(arrival) => Ok(arrival),
            Stage::Ready(_) | Stage::Failed => Err(refusal(Error::config("the model was already started"))),
        }
    }

    fn ready(&self) -> Result<&Ready, JsValue> {
        match &self.stage {
            Stage::Ready(ready) => Ok(ready),
            Stage::Arriving(_) | Stage::Failed => {
                Err(refusal(Error::config("the model was not started: call start first")))
            }
        }
    }
}

/// Milliseconds since the worker began.
fn now() -> f64 {
    let worker: WorkerGlobalScope = js_sys::global().unchecked_into();
    worker.performance().map_or(0.0, |clock| clock.now())
}

/// JavaScript error to throw.
fn refusal(error: Error) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    if matches!(error, Error::Device { .. }) {
        thrown.set_name("DeviceError");
    }
    thrown.into()
}
