//! PyTorch's checkpoints: zip archives, and the files from before version 1.6. The pickle inside is read as data; no code in it is run. candle's reader is not used: it refuses tensors
//! that are not row-major (findings/candle-pth-strides.sh), and its memory is not bounded by the size of the file.

mod archive;
mod legacy;
mod pickle;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dinomaly_core::tensor::named::Shapes;
use dinomaly_core::tensor::{Data, HostTensor, float8};
use half::{bf16, f16};
use serde_json::Value as Json;

use super::Checkpoint;
use archive::Archive;
use legacy::Legacy;
use pickle::{Node, Pickle, Value};

/// Keys of the weights in training states, in order of preference: DINO's teacher is the averaged model that is published.
const NESTED: [&str; 10] = [
    "teacher",
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "weights",
    "student",
    "state_dict_ema",
    "model_ema",
    "ema",
];

/// Keys of settings beside the weights, which Lightning and anomalib save.
const SETTINGS: [&str; 3] = ["hyper_parameters", "anomalib_pre_processor_config", "anomalib_components_enabled"];

/// Most bytes of a pickle: it holds names and shapes, not values.
const MOST: u64 = 1 << 24;

/// What is said of a pickle that is not understood.
const CANNOT: &str = "its pickle cannot be read: save the state dict with torch.save";

/// First bytes of zip archives.
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// Most wrappers around the arguments of a tensor.
const DEEPEST: usize = 16;

/// Most dictionaries that are looked into for a state dict.
const MOST_DICTIONARIES: usize = 1000;

/// Most dimensions of a tensor, and most bytes of the name of its storage: a pickle may hold one long list or text many times.
const MOST_DIMENSIONS: usize = 8;
const LONGEST_NAME: usize = 256;

/// First bytes of checkpoints that PyTorch wrote before 1.6, and writes still if asked to.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9";

/// An open checkpoint.
pub(super) struct Pth {
    storages: Storages,
    tensors: BTreeMap<String, View>,
    settings: BTreeMap<String, Json>,
    /// Name and bytes of the storage that was read last: several tensors may be views of one.
    storage: (String, Vec<u8>),
}

/// Where the values of tensors lie.
enum Storages {
    Archive(Archive),
    Legacy(Legacy),
}

/// A tensor: a view of a storage. Shape and strides count values.
struct View {
    /// Class of the storage, which tells its value type.
    class: String,
    /// Name of the storage.
    storage: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Whether a file is one of PyTorch's, by its first bytes.
///
/// # Errors
/// If it cannot be read.
pub(super) fn is_checkpoint(path: &Path) -> Result<bool> {
    let start = start(path)?;
    Ok(start.starts_with(ARCHIVE) || start.starts_with(LEGACY))
}

fn start(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(LEGACY.len() as u64).read_to_end(&mut start)?;
    Ok(start)
}

impl Pth {
    /// Reads the list of tensors.
    ///
    /// # Errors
    /// If the file is not a complete checkpoint with a state dict.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (storages, bytes) = if start(path)?.starts_with(LEGACY) {
            let (legacy, bytes) = Legacy::open(path)?;
            (Storages::Legacy(legacy), bytes)
        } else {
            let (archive, bytes) = Archive::open(path)?;
            (Storages::Archive(archive), bytes)
        };
        let (pickle, _) = Pickle::parse(&bytes).context(CANNOT)?;
        let tensors = state_dict(&pickle, pickle.root, &mut BTreeSet::new())?;
        if tensors.is_empty() {
            bail!("it has no state dict: save model.state_dict(), not the model");
        }
        let settings = settings(&pickle);
        Ok(Self { storages, tensors, settings, storage: (String::new(), Vec::new()) })
    }
}

impl Checkpoint for Pth {
    fn shapes(&self) -> Shapes {
        self.tensors.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect()
    }

    fn settings(&self, key: &str) -> Option<&Json> {
        self.settings.get(key)
    }

    fn tensor(&mut self, name: &str) -> Result<HostTensor> {
        let view = self.tensors.get(name).with_context(|| format!("tensor {name} is missing"))?;
        let mut load = || -> Result<HostTensor> {
            if self.storage.0 != view.storage {
                let bytes = match &mut self.storages {
                    Storages::Archive(archive) => archive.storage(&view.storage)?,
                    Storages::Legacy(legacy) => legacy.storage(&view.storage)?,
                };
                self.storage = (view.storage.clone(), bytes);
            }
            let bytes = &self.storage.1;
            let data = match view.class.as_str() {
                "FloatStorage" => Data::F32(view.gather(bytes, f32::from_le_bytes)?),
                "HalfStorage" => Data::F16(view.gather(bytes, f16::from_le_bytes)?),
                "BFloat16Storage" => Data::F32(view.gather(bytes, |b| bf16::from_le_bytes(b).to_f32())?),
                "DoubleStorage" => Data::F32(view.gather(bytes, |b| f64::from_le_bytes(b) as f32)?),
                "float8_e4m3fn" => Data::F16(view.gather(bytes, |[b]| float8::e4m3(b))?),
                "float8_e5m2" => Data::F16(view.gather(bytes, |[b]| float8::e5m2(b))?),
                other => bail!("{other} is not supported: only floats of 8, 16, 32 and 64 bits are"),
            };
            Ok(HostTensor { shape: view.shape.clone(), data })
        };
        load().with_context(|| format!("tensor {name}"))
    }
}

impl View {
    /// The view's values, row-major, decoded from the bytes of its storage.
    fn gather<T, const N: usize>(&self, bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let (storage, _) = bytes.as_chunks::<N>();
        let len = self.shape.iter().try_fold(1, |len: usize, &n| len.checked_mul(n));
        if self.shape.contains(&0) {
            return Ok(Vec::new());
        }
        let mut indices = vec![self.offset];
        if len.is_none_or(|len| len > storage.len()) {
            bail!("shape {:?} needs more than the {} values that are stored", self.shape, storage.len());
        }
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            let row = |start: usize| (0..extent).map(move |i| start.saturating_add(i.saturating_mul(stride)));
            indices = indices.into_iter().flat_map(row).collect();
        }
        let value = |index: usize| storage.get(index).map(|b| decode(*b));
        let values: Option<_> = indices.into_iter().map(value).collect();
        values.with_context(|| format!("points outside of the {} values that are stored", storage.len()))
    }
}

/// Plain data beside the weights, by its key; `null` where there is more than settings can be.
fn settings(pickle: &Pickle) -> BTreeMap<String, Json> {
    let entries = pickle.dict(pickle.root).unwrap_or_default().iter();
    let kept = entries.filter_map(|&(key, value)| match key {
        Value::Text(key) if SETTINGS.contains(&key) && pickle.dict(value).is_some() => Some((key, value)),
        _ => None,
    });
    kept.map(|(key, value)| (key.to_owned(), pickle.json(value).unwrap_or_default())).collect()
}

/// The tensors of the innermost state dict; none if there is none.
fn state_dict(pickle: &Pickle, value: Value, seen: &mut BTreeSet<usize>) -> Result<BTreeMap<String, View>> {
    let entries = pickle.dict(value).unwrap_or_default();
    let inner = |key: &str| entries.iter().find(|(k, v)| *k == Value::Text(key) && pickle.dict(*v).is_some());
    // A dictionary may lie under several keys, or in itself.
    if seen.len() == MOST_DICTIONARIES || !matches!(value, Value::Node(number) if seen.insert(number)) {
        return Ok(BTreeMap::new());
    }
    if let Some(&(_, inner)) = NESTED.iter().find_map(|key| inner(key)) {
        return state_dict(pickle, inner, seen);
    }
    let named = entries.iter().filter_map(|&(key, value)| match key {
        Value::Text(name) => Some((name.to_owned(), view(pickle, value, 0)?)),
        _ => None,
    });
    let tensors: BTreeMap<_, _> = named.collect();
    if !tensors.is_empty() {
        return Ok(tensors);
    }
    // Under any other key, if there is one alone.
    let mut found = Vec::new();
    for &(key, value) in entries {
        if let (Value::Text(key), Some(_)) = (key, pickle.dict(value)) {
            found.push((key, state_dict(pickle, value, seen)?));
        }
    }
    found.retain(|(_, tensors)| !tensors.is_empty());
    match found.len() {
        0 => Ok(BTreeMap::new()),
        1 => Ok(found.remove(0).1),
        _ => {
            let keys: Vec<&str> = found.iter().map(|(key, _)| *key).collect();
            bail!("it has several state dicts: {}; save one of them", keys.join(", "))
        }
    }
}

/// The view that a pickled tensor or parameter describes; `None` for other objects.
fn view(pickle: &Pickle, value: Value, depth: usize) -> Option<View> {
    let &Node::Call(callable, arguments) = pickle.node(value)? else { return None };
    let arguments = pickle.sequence(arguments)?;
    match pickle.global(callable)? {
        _ if depth > DEEPEST => None,
        "_rebuild_parameter" | "_rebuild_parameter_with_state" => view(pickle, *arguments.first()?, depth + 1),
        "_rebuild_from_type_v2" => {
            let &[callable, _, arguments, ..] = arguments else { return None };
            tensor(pickle, pickle.global(callable)?, pickle.sequence(arguments)?)
        }
        name => tensor(pickle, name, arguments),
    }
}

/// The view that a tensor's function and arguments describe.
fn tensor(pickle: &Pickle, function: &str, arguments: &[Value]) -> Option<View> {
    if !["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"].contains(&function) {
        return None;
    }
    let &[storage, offset, shape, strides, ..] = arguments else { return None };
    let &Node::Persistent(storage) = pickle.node(storage)? else { return None };
    let &[_, class, Value::Text(storage), ..] = pickle.sequence(storage)? else { return None };
    let class = pickle.global(class)?;
    // The third version has the type beside a storage without type.
    let class = match arguments.get(6).and_then(|&dtype| pickle.global(dtype)) {
        Some("float32") => "FloatStorage",
        Some("float16") => "HalfStorage",
        Some("bfloat16") => "BFloat16Storage",
        Some("float64") => "DoubleStorage",
        Some(other) => other,
        None => class,
    };
    let sizes = |value| {
        pickle
            .sequence(value)?
            .iter()
            .take(MOST_DIMENSIONS + 1)
            .map(|&size| self::size(size))
            .collect::<Option<Vec<_>>>()
    };
    let (shape, strides) = (sizes(shape)?, sizes(strides)?);
    let is_small = shape.len() <= MOST_DIMENSIONS && storage.len() <= LONGEST_NAME;
    (is_small && shape.len() == strides.len()).then_some(View {
        class: class.into(),
        storage: storage.into(),
        offset: size(offset)?,
        shape,
        strides,
    })
}

fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(size) => size.try_into().ok(),
        _ => None,
    }
}
