//! Dinomaly in the browser: one class, [`Detector`], that takes a published model's files and photos' bytes.
//!
//! Everything is computed by `dinomaly-core`, the same code as natively; here is only what the page gets to see. It is built
//! for the GPU, for the processor, and for the processor with relaxed SIMD (`device.rs`), and the page fetches the one that it
//! needs. Whatever is refused is thrown as a JavaScript `Error` whose message is one sentence and whose `name` is `DeviceError`
//! where another device, or the same one opened again, may do better.

mod device;
mod results;

use dinomaly_core::Error;
use dinomaly_core::bundle::{Arriving, Manifest, Model};
use dinomaly_core::detector;
use dinomaly_core::maps::heatmap;
use dinomaly_core::maps::score::AnomalyMap;
use dinomaly_core::ops::Ops;
use dinomaly_core::photo::decode::Photo;
use wasm_bindgen::prelude::*;

use device::{Device, Executor, Precision};
use results::{Described, FileListed, StartTimings, Timings};

#[wasm_bindgen]
extern "C" {
    /// Milliseconds since the worker began.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now() -> f64;
}

/// Makes a panic's message appear in the console.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// A published model, first arriving file by file, then looking at photos.
#[wasm_bindgen]
pub struct Detector {
    stage: Stage,
}

enum Stage {
    Arriving(Box<Arrival>),
    Ready(Box<Ready>),
    /// A start failed, and the device with it.
    Failed,
}

/// A model on its way to a device.
struct Arrival {
    model: Arriving<<Executor as Ops>::Tensor>,
    /// What the weights go to, from [`Detector::use_device`] on.
    executor: Option<Executor>,
    /// What else it may compute in where the self-test refuses the present one, the fastest first.
    fallbacks: Vec<Precision>,
    /// The faster precisions that the self-test refused.
    refused: Vec<&'static str>,
    /// Milliseconds that the weights' way to the device took.
    upload: f64,
}

struct Ready {
    detector: detector::Detector<Executor>,
    /// Without its weights.
    model: Model,
}

#[wasm_bindgen]
impl Detector {
    /// Begins with the content of a model's `manifest.json`.
    ///
    /// # Errors
    /// If it is no manifest, or of another version.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8]) -> Result<Detector, JsValue> {
        let model = Arriving::new(Manifest::parse(manifest).map_err(refusal)?);
        let arrival = Arrival { model, executor: None, fallbacks: Vec::new(), refused: Vec::new(), upload: 0.0 };
        Ok(Self { stage: Stage::Arriving(Box::new(arrival)) })
    }

    /// The files to [`Detector::add`], those without weights first: `{name, bytes, sha256, weights}[]`.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn files(&mut self) -> Result<JsValue, JsValue> {
        let files = &self.arrival()?.model.manifest().files;
        let (weights, texts): (Vec<_>, Vec<_>) = files.iter().partition(|entry| entry.kind.is_shard());
        let listed = texts.into_iter().chain(weights).map(FileListed::from).collect::<Vec<_>>();
        Ok(serde_wasm_bindgen::to_value(&listed)?)
    }

    /// Takes what the weights go to, in the fastest precision that the model may be computed in.
    ///
    /// # Errors
    /// If the model runs already.
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

    /// Checks that this is the content of one of the files.
    ///
    /// # Errors
    /// If the manifest lists no such file, or its content is not the one that was published: fetch it again.
    pub fn verify(&mut self, name: &str, content: &[u8]) -> Result<(), JsValue> {
        self.arrival()?.model.verify(name, content).map_err(refusal)
    }

    /// Takes the content of one of the files, which was verified. Weights go to the device at once: that has to be there, and so do all
    /// files without weights.
    ///
    /// # Errors
    /// If it contradicts the other files; if the device has no room for it.
    pub fn add(&mut self, name: &str, content: Vec<u8>) -> Result<(), JsValue> {
        let Arrival { model, executor, upload, .. } = self.arrival()?;
        let is_shard = model.manifest().shards().any(|entry| entry.name == name);
        if !is_shard {
            return model.describe(name, content).map_err(refusal);
        }
        let executor = executor.as_ref().ok_or_else(|| refusal(Error::config("no device was given yet")))?;
        let began = now();
        model.place(executor, name, &content).map_err(refusal)?;
        *upload += now() - began;
        Ok(())
    }

    /// Checks with the model's self-test that the device computes rightly, and returns a description of both; or nothing, where it does not
    /// compute rightly enough in this precision: then add the files with weights again, for the next one.
    ///
    /// # Errors
    /// If a file is missing; if the device computes wrongly in every precision.
    pub async fn start(&mut self) -> Result<JsValue, JsValue> {
        let mut arrival = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Arriving(arrival) => arrival,
            started => {
                self.stage = started;
                return Err(refusal(Error::config("the model was started already")));
            }
        };
        let executor = arrival.executor.take().ok_or_else(|| refusal(Error::config("no device was given yet")))?;
        arrival.model.check().map_err(refusal)?;
        let began = now();
        let rounding = device::rounding(&executor);
        let detector = arrival.model.detector(executor).map_err(device::unusable)?;
        let self_test = arrival.model.model().and_then(|model| model.self_test.as_ref());
        if let Some(self_test) = self_test
            && let Err(error) = detector.verify(device::NAME, self_test, rounding).await
        {
            let executor = detector.into_ops();
            // A device that is lost fails in every precision.
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

    /// Times the device's kernels from now on, where it can.
    ///
    /// # Errors
    /// If it cannot.
    #[wasm_bindgen(js_name = startProfile)]
    pub fn start_profile(&self) -> Result<(), JsValue> {
        device::start_profile(self.ready()?.detector.ops()).map_err(refusal)
    }

    /// What kernels took since the profile was started or last asked for, the longest first: `{kernel, count, milliseconds}[]`.
    ///
    /// # Errors
    /// Before [`Detector::start`].
    #[wasm_bindgen(js_name = kernelTimes)]
    pub fn kernel_times(&self) -> Result<JsValue, JsValue> {
        Ok(serde_wasm_bindgen::to_value(&device::kernel_times(self.ready()?.detector.ops()))?)
    }

    /// Looks at a photo, given as the bytes of its file; `name` is for messages only. Returns `{score, region: [x0, y0,
    /// x1, y1], width, height, map: Float32Array, side, preview: Uint8ClampedArray, previewWidth, timings: {decode,
    /// detect}}`: region in pixels of the photo, preview in RGBA, timings in milliseconds.
    ///
    /// # Errors
    /// If the bytes are no photo that can be read, or the device fails.
    pub async fn detect(&self, name: &str, bytes: Vec<u8>) -> Result<JsValue, JsValue> {
        let ready = self.ready()?;
        let began = now();
        let photo = Photo::decode(name, &bytes).map_err(refusal)?;
        drop(bytes);
        let decoded = now();
        let detections = ready.detector.detect(std::slice::from_ref(&photo)).await.map_err(refusal)?;
        let timings = Timings { decode: decoded - began, detect: now() - decoded };
        results::detection(&photo, &detections[0], timings)
    }

    /// A map in colours, RGBA. The middle of the scale is the threshold of this class, or of all classes together.
    ///
    /// # Errors
    /// Before [`Detector::start`].
    pub fn colours(&self, map: Vec<f32>, product: Option<String>) -> Result<Vec<u8>, JsValue> {
        let threshold = self.ready()?.model.calibration.of_class(product.as_deref()).threshold;
        let map = AnomalyMap { side: map.len().isqrt(), values: map };
        Ok(heatmap::heat_rgba(&map, heatmap::range_around(threshold)))
    }

    fn arrival(&mut self) -> Result<&mut Arrival, JsValue> {
        match &mut self.stage {
            Stage::Arriving(arrival) => Ok(arrival),
            Stage::Ready(_) | Stage::Failed => Err(refusal(Error::config("the model was started already"))),
        }
    }

    fn ready(&self) -> Result<&Ready, JsValue> {
        match &self.stage {
            Stage::Ready(ready) => Ok(ready),
            Stage::Arriving(_) | Stage::Failed => Err(refusal(Error::config("the model was not started yet"))),
        }
    }
}

/// An error as JavaScript throws it.
fn refusal(error: Error) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    if matches!(error, Error::Device { .. }) {
        thrown.set_name("DeviceError");
    }
    thrown.into()
}
