//! PyTorch's zip checkpoints. candle parses the pickle inside as data; no code in it is run. Tensors are read from their
//! storage here, because candle refuses what is not row-major (findings/candle-pth-strides.sh).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::pickle::{Object, Stack};
use dinomaly_core::tensor::named::Shapes;
use dinomaly_core::tensor::{Data, HostTensor};
use half::{bf16, f16};
use zip::ZipArchive;

use super::Checkpoint;

/// Keys of the weights in training states, in order of preference: DINO's teacher is the averaged model that is published.
const NESTED: [&str; 4] = ["teacher", "state_dict", "model", "student"];

/// An open checkpoint.
pub(super) struct Pth {
    archive: ZipArchive<BufReader<File>>,
    /// Folder inside the archive.
    folder: String,
    tensors: BTreeMap<String, View>,
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

/// Whether a file is a zip archive.
///
/// # Errors
/// If it cannot be read.
pub(super) fn is_archive(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start == b"PK\x03\x04")
}

impl Pth {
    /// Reads the list of tensors.
    ///
    /// # Errors
    /// If the file is not a complete checkpoint with a state dict.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut archive = ZipArchive::new(BufReader::new(File::open(path)?))
            .context("it is not a complete zip archive (truncated?): download it again")?;
        let names = archive.file_names().collect::<zip::result::ZipResult<Vec<_>>>()?;
        let folder = names.iter().find_map(|name| name.strip_suffix("/data.pkl"));
        let folder = folder.context("the zip archive has no data.pkl: it is not a PyTorch checkpoint")?.to_owned();
        drop(names);
        let order = format!("{folder}/byteorder");
        if archive.index_for_name(&order).is_some() && read(&mut archive, &order)? != b"little" {
            bail!("it was saved on a big-endian machine, which is not supported");
        }
        let mut stack = Stack::empty();
        let pickle = read(&mut archive, &format!("{folder}/data.pkl"))?;
        let object = stack.read_loop(&mut pickle.as_slice()).and_then(|()| stack.finalize());
        let object =
            object.map_err(|e| anyhow!("its pickle cannot be read ({e}): save the state dict with torch.save"))?;
        let tensors =
            state_dict(object).into_iter().filter_map(|(name, value)| Some((name.unicode().ok()?, view(value)?)));
        let tensors: BTreeMap<_, _> = tensors.collect();
        if tensors.is_empty() {
            bail!("it has no state dict: save model.state_dict(), not the model");
        }
        Ok(Self { archive, folder, tensors })
    }
}

impl Checkpoint for Pth {
    fn shapes(&self) -> Shapes {
        self.tensors.iter().map(|(name, view)| (name.clone(), view.shape.clone())).collect()
    }

    fn tensor(&mut self, name: &str) -> Result<HostTensor> {
        let view = self.tensors.get(name).with_context(|| format!("tensor {name} is missing"))?;
        let mut load = || -> Result<HostTensor> {
            let bytes = read(&mut self.archive, &format!("{}/data/{}", self.folder, view.storage))?;
            let data = match view.class.as_str() {
                "FloatStorage" => Data::F32(view.gather(&bytes, f32::from_le_bytes)?),
                "HalfStorage" => Data::F16(view.gather(&bytes, f16::from_le_bytes)?),
                "BFloat16Storage" => Data::F32(view.gather(&bytes, |b| bf16::from_le_bytes(b).to_f32())?),
                "DoubleStorage" => Data::F32(view.gather(&bytes, |b| f64::from_le_bytes(b) as f32)?),
                other => bail!("{other} is not supported: only floats of 16, 32 and 64 bits are"),
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

fn read(archive: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    archive
        .by_name(name)
        .map_err(anyhow::Error::from)
        .and_then(|mut file| Ok(file.read_to_end(&mut bytes)?))
        .with_context(|| format!("its part {name} cannot be read: truncated or damaged"))?;
    Ok(bytes)
}

/// The innermost state dict; empty if there is none.
fn state_dict(object: Object) -> Vec<(Object, Object)> {
    let Ok(mut entries) = object.dict() else {
        return Vec::new();
    };
    for key in NESTED {
        let nested = |(k, v): &(Object, Object)| *k == Object::Unicode(key.into()) && matches!(v, Object::Dict(_));
        if let Some(at) = entries.iter().position(nested) {
            return state_dict(entries.swap_remove(at).1);
        }
    }
    entries
}

/// The view that a pickled tensor or parameter describes; `None` for other objects.
fn view(object: Object) -> Option<View> {
    let (callable, arguments) = object.reduce().ok()?;
    let (_, function) = callable.class().ok()?;
    let mut arguments = arguments.tuple().ok()?.into_iter();
    match function.as_str() {
        "_rebuild_parameter" => view(arguments.next()?),
        "_rebuild_from_type_v2" => {
            let (callable, arguments) = (arguments.next()?, arguments.nth(1)?);
            view(Object::Reduce { callable: callable.into(), args: arguments.into() })
        }
        "_rebuild_tensor_v2" => {
            let mut storage = arguments.next()?.persistent_load().ok()?.tuple().ok()?.into_iter();
            let (_, class) = storage.nth(1)?.class().ok()?;
            let storage = storage.next()?.unicode().ok()?;
            let offset = size(arguments.next()?)?;
            let mut sizes = || arguments.next()?.tuple().ok()?.into_iter().map(size).collect::<Option<Vec<_>>>();
            let (shape, strides) = (sizes()?, sizes()?);
            (shape.len() == strides.len()).then_some(View { class, storage, offset, shape, strides })
        }
        _ => None,
    }
}

fn size(object: Object) -> Option<usize> {
    object.int_or_long().ok()?.try_into().ok()
}
