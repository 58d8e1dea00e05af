//! Dinomaly in the browser: one class, [`Detector`], that takes a published model's files and photos' bytes.
//!
//! Everything is computed by `dinomaly-core`, the same code as natively; here is only what the page gets to see. It is built
//! twice, once for the GPU and once for the processor (`device.rs`), and the page fetches the one that it needs. Whatever is refused is thrown as a JavaScript `Error` whose message is one sentence and whose `name`
//! is `DeviceError` where another device, or the same one opened again, may do better.

mod device;
mod results;

use std::collections::HashMap;

use dinomaly_core::Error;
use dinomaly_core::bundle::{MANIFEST, Manifest, Model};
use dinomaly_core::detector;
use dinomaly_core::heatmap;
use dinomaly_core::photo::Photo;
use dinomaly_core::score::AnomalyMap;
use wasm_bindgen::prelude::*;

use device::{Device, Executor};
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

/// A published model, first being loaded file by file, then looking at photos.
#[wasm_bindgen]
pub struct Detector {
    manifest: Manifest,
    stage: Stage,
}

enum Stage {
    /// Contents by name, the manifest's among them.
    Loading(HashMap<String, Vec<u8>>),
    Ready(Box<Ready>),
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
    pub fn new(manifest: Vec<u8>) -> Result<Detector, JsValue> {
        let parsed = Manifest::parse(&manifest).map_err(refusal)?;
        Ok(Self { manifest: parsed, stage: Stage::Loading(HashMap::from([(MANIFEST.to_owned(), manifest)])) })
    }

    /// The files to [`Detector::add`]: `{name, bytes, sha256}[]`.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn files(&self) -> Result<JsValue, JsValue> {
        let listed = self.manifest.files.iter().map(FileListed::from).collect::<Vec<_>>();
        Ok(serde_wasm_bindgen::to_value(&listed)?)
    }

    /// Takes the content of one of the files.
    ///
    /// # Errors
    /// If the manifest lists no such file, or its content is not the one that was published: fetch it again.
    pub fn add(&mut self, name: &str, content: Vec<u8>) -> Result<(), JsValue> {
        let refuse = |reason: &str| refusal(Error::Model { file: name.into(), reason: reason.into() });
        let entry = self.manifest.files.iter().find(|entry| entry.name == name);
        entry.ok_or_else(|| refuse("the manifest does not list it"))?.verify(&content).map_err(refusal)?;
        match &mut self.stage {
            Stage::Loading(files) => files.insert(name.into(), content),
            Stage::Ready(_) => return Err(refuse("the model runs already")),
        };
        Ok(())
    }

    /// Takes the model to a device and checks with its self-test that this computes rightly. Returns a description of both.
    ///
    /// # Errors
    /// If a file is missing or contradicts the others; if the device has no room for the model or computes wrongly.
    pub async fn start(&mut self, device: Device) -> Result<JsValue, JsValue> {
        let Stage::Loading(files) = &mut self.stage else {
            return Err(refusal(Error::config("the model runs already")));
        };
        let began = now();
        let mut model = Model::parse(&mut |name| {
            files.remove(name).ok_or_else(|| Error::Model { file: name.into(), reason: "was not loaded".into() })
        })
        .map_err(refusal)?;
        let mut uploaded = began;
        let detector =
            device::load(device.into_executor(), &model, &mut || uploaded = now()).await.map_err(device::unusable)?;
        let timings = StartTimings { upload: uploaded - began, self_test: now() - uploaded };
        let description = serde_wasm_bindgen::to_value(&Described::new(&model, detector.ops(), timings))?;
        model.weights.0.clear();
        self.stage = Stage::Ready(Box::new(Ready { detector, model }));
        Ok(description)
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

    fn ready(&self) -> Result<&Ready, JsValue> {
        match &self.stage {
            Stage::Ready(ready) => Ok(ready),
            Stage::Loading(_) => Err(refusal(Error::config("the model was not started yet"))),
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
