//! A detector made in the tab: a published model's encoder and good photos → the files of another published model.

use dinomaly_core::bundle::{Arriving, FileEntry, Kind, Manifest, Model};
use dinomaly_core::fewshot::{FeatureEncoder, Features, GoodPhotos, MemoryChoice, PreparedPhoto, Recipe, make};
use dinomaly_core::ops::Ops;
use dinomaly_core::{Error, Photo};
use js_sys::{Array, Object, Reflect, Uint8Array};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

use crate::device::{self, Device, Executor, Precision};
use crate::refusal;
use crate::results::FileListed;

/// Maker of detectors without training. Takes the encoder of any published model, then good photos one by one.
///
/// Computes in f32, so that the same photos give the same model on every device, but for rounding.
#[wasm_bindgen]
pub struct FewShot {
    stage: Stage,
}

enum Stage {
    Arriving(Box<Arrival>),
    Ready(Box<Ready>),
    /// After a failed start, which drops the device.
    Failed,
}

/// A partly loaded encoder.
struct Arrival {
    model: Arriving<<Executor as Ops>::Tensor>,
    /// Device of the weights, after [`FewShot::use_device`].
    executor: Option<Executor>,
}

struct Ready {
    encoder: FeatureEncoder<Executor>,
    recipe: Recipe,
    /// The published files of the encoder's weights, which the made model shares.
    shards: Vec<FileEntry>,
    photos: Vec<GoodPhoto>,
    next: u32,
}

struct GoodPhoto {
    id: u32,
    product: String,
    features: Features,
}

/// Options of [`FewShot::start`]; those that are omitted are as in `dinomaly fewshot`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Options {
    memory: Option<String>,
    layers: Vec<usize>,
    side: Option<usize>,
    bank_size: Option<f64>,
    nearest: Option<usize>,
    reach: Option<usize>,
    variance: Option<f64>,
    turns: bool,
    false_alarm_rate: Option<f64>,
}

impl Options {
    fn recipe(&self) -> Result<Recipe, Error> {
        let usual = Recipe::default();
        let memory = match &self.memory {
            None => usual.memory,
            Some(name) => MemoryChoice::ALL.into_iter().find(|memory| memory.name() == name).ok_or_else(|| {
                let known = MemoryChoice::ALL.map(MemoryChoice::name).join(" or ");
                Error::config(format!("memory {name:?} is not known: expected {known}"))
            })?,
        };
        Ok(Recipe {
            memory,
            layers: self.layers.clone(),
            bank_size: self.bank_size.map_or(usual.bank_size, |bytes| bytes as u64),
            nearest: self.nearest.unwrap_or(usual.nearest),
            reach: self.reach.unwrap_or(usual.reach),
            variance: self.variance.unwrap_or(usual.variance),
            turns: self.turns,
            false_alarm_rate: self.false_alarm_rate,
        })
    }
}

#[wasm_bindgen]
impl FewShot {
    /// Starts with the content of a model's `manifest.json`.
    ///
    /// # Errors
    /// If it is not a manifest, or of another version.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &[u8]) -> Result<FewShot, JsValue> {
        let model = Arriving::new(Manifest::parse(manifest).map_err(refusal)?);
        Ok(Self { stage: Stage::Arriving(Box::new(Arrival { model, executor: None })) })
    }

    /// Files to [`FewShot::add`], those with weights last: `{name, bytes, sha256, weights}[]`. The model's head is not among them.
    ///
    /// # Errors
    /// After [`FewShot::start`].
    pub fn files(&mut self) -> Result<JsValue, JsValue> {
        let files = self.arrival()?.model.manifest().files.iter().filter(|entry| entry.kind != Kind::Head);
        let (weights, texts): (Vec<_>, Vec<_>) = files.partition(|entry| entry.kind.is_shard());
        let listed = texts.into_iter().chain(weights).map(FileListed::from).collect::<Vec<_>>();
        Ok(serde_wasm_bindgen::to_value(&listed)?)
    }

    /// Sets the device.
    ///
    /// # Errors
    /// After [`FewShot::start`].
    #[wasm_bindgen(js_name = useDevice)]
    pub fn use_device(&mut self, device: Device) -> Result<(), JsValue> {
        self.arrival()?.executor = Some(device::compute_in(device.into_executor(), Precision::F32));
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
        let Arrival { model, executor } = self.arrival()?;
        if !model.manifest().shards().any(|entry| entry.name == name) {
            return model.describe(name, content).map_err(refusal);
        }
        let executor = executor.as_ref().ok_or_else(no_device)?;
        model.place(executor, name, &content).map_err(refusal)
    }

    /// Begins a detector with these options: `{memory: 'subspace' | 'bank' | 'rad', side, layers, bankSize, nearest, reach, variance,
    /// turns, falseAlarmRate}`, or none. `side` of the square that whole photos are resized to in pixels, as the model's if omitted; all
    /// others as in `dinomaly fewshot`, but that the encoder's final norm is applied only if the model's files have it.
    ///
    /// # Errors
    /// If a file is missing, or an option does not fit.
    pub fn start(&mut self, options: JsValue) -> Result<(), JsValue> {
        let options =
            if options.is_undefined() { Options::default() } else { serde_wasm_bindgen::from_value(options)? };
        let recipe = options.recipe().map_err(refusal)?;
        self.arrival()?;
        let Stage::Arriving(arrival) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            return Err(started());
        };
        let Arrival { model, executor } = *arrival;
        let executor = executor.ok_or_else(no_device)?;
        let encoder = FeatureEncoder::of_arrived(executor, &model, &recipe, options.side).map_err(device::unusable)?;
        let shards = model.manifest().shards().filter(|entry| entry.kind == Kind::Encoder).cloned().collect();
        self.stage = Stage::Ready(Box::new(Ready { encoder, recipe, shards, photos: Vec::new(), next: 0 }));
        Ok(())
    }

    /// Adds a good photo of a product, given as the bytes of its file; `name` is used in error messages only. Returns a number for
    /// [`FewShot::remove_photo`].
    ///
    /// # Errors
    /// If the photo cannot be read, or the device fails.
    #[wasm_bindgen(js_name = addPhoto)]
    pub async fn add_photo(&mut self, name: String, bytes: Vec<u8>, product: String) -> Result<u32, JsValue> {
        let ready = self.ready()?;
        if product.trim().is_empty() {
            return Err(refusal(Error::config(format!("photo {name} is of a product without a name"))));
        }
        let window = ready.encoder.preprocessor().window;
        let photo = Photo::decode_in(&name, &bytes, window).map_err(refusal)?;
        let prepared = PreparedPhoto::new(ready.encoder.preprocessor(), photo, &bytes);
        drop(bytes);
        let features = ready.encoder.features(vec![prepared]).await.map_err(refusal)?.remove(0);
        let id = ready.next;
        ready.next += 1;
        ready.photos.push(GoodPhoto { id, product, features });
        Ok(id)
    }

    /// Takes a good photo out again. Says whether it was there.
    ///
    /// # Errors
    /// Before [`FewShot::start`].
    #[wasm_bindgen(js_name = removePhoto)]
    pub fn remove_photo(&mut self, id: u32) -> Result<bool, JsValue> {
        let photos = &mut self.ready()?.photos;
        let before = photos.len();
        photos.retain(|photo| photo.id != id);
        Ok(photos.len() < before)
    }

    /// Makes the detector of the present photos. Returns `{files: {name: string, content: Uint8Array}[], doubts: {product: string,
    /// doubt: string}[], memory: string}`: a published model's files, `manifest.json` last, but for the shards of the encoder, which
    /// are those of the model whose encoder this is. More photos can be added afterwards, for another one.
    ///
    /// # Errors
    /// If there are no photos, a bank has no room for them, or the device fails.
    pub async fn make(&mut self, name: String) -> Result<JsValue, JsValue> {
        let Ready { encoder, recipe, shards, photos, .. } = self.ready()?;
        let mut classes = GoodPhotos::new();
        for photo in photos.iter() {
            classes.entry(photo.product.clone()).or_default().push(&photo.features);
        }
        let made = make(encoder, &classes, recipe, || ()).await.map_err(refusal)?;
        let memory = made.to_string();
        let doubts = Array::new();
        for (product, doubt) in &made.doubts {
            doubts.push(&object([("product", product.into()), ("doubt", doubt.into())])?);
        }
        let preprocessor = encoder.preprocessor().clone();
        let model = Model {
            card: made.card(&name, &preprocessor),
            name,
            config: made.config.into(),
            preprocessor,
            calibration: made.calibration,
            weights: made.weights,
            self_test: Some(made.self_test),
        };
        let files = Array::new();
        for (name, content) in model.to_files_beside(shards).map_err(refusal)? {
            let content = Uint8Array::from(content.as_slice()).into();
            files.push(&object([("name", name.into()), ("content", content)])?);
        }
        object([("files", files.into()), ("doubts", doubts.into()), ("memory", memory.into())])
    }

    fn arrival(&mut self) -> Result<&mut Arrival, JsValue> {
        match &mut self.stage {
            Stage::Arriving(arrival) => Ok(arrival),
            Stage::Ready(_) | Stage::Failed => Err(started()),
        }
    }

    fn ready(&mut self) -> Result<&mut Ready, JsValue> {
        match &mut self.stage {
            Stage::Ready(ready) => Ok(ready),
            Stage::Arriving(_) | Stage::Failed => {
                Err(refusal(Error::config("the maker was not started: call start first")))
            }
        }
    }
}

/// A JavaScript object.
fn object<const N: usize>(fields: [(&str, JsValue); N]) -> Result<JsValue, JsValue> {
    let object = Object::new();
    for (name, value) in fields {
        Reflect::set(&object, &name.into(), &value)?;
    }
    Ok(object.into())
}

fn started() -> JsValue {
    refusal(Error::config("the maker was already started"))
}

fn no_device() -> JsValue {
    refusal(Error::config("no device was set: call useDevice first"))
}
