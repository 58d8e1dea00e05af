//! A folder as `save_pretrained` of Hugging Face writes it: weights in one file or in shards, and what the files beside them say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Shapes;
use dinomaly_core::tensor::safetensors_io::Reader;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Checkpoint;

/// Names of the weights in a folder, in order of preference.
const WEIGHTS: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/// End of the name of a list of shards.
const INDEX: &str = ".index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of a backbone: itself, or what lies in its folder, or the shards that it lists.
///
/// # Errors
/// If a folder has no weights, or a list of shards is damaged or names a file outside of its folder.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let path = if path.is_dir() { weights(path)? } else { path.to_owned() };
    if !path.to_string_lossy().ends_with(INDEX) {
        return Ok(vec![path]);
    }
    let index: Index = read_json(&path)?.with_context(|| format!("{} cannot be read", path.display()))?;
    let mut shards: Vec<&String> = index.weight_map.values().collect();
    shards.sort();
    shards.dedup();
    if let Some(shard) = shards.iter().find(|shard| Path::new(shard).file_name() != Some(shard.as_ref())) {
        bail!("{} names the shard {shard}, which is no file beside it", path.display());
    }
    if shards.is_empty() {
        bail!("{} names no shards", path.display());
    }
    Ok(shards.into_iter().map(|shard| path.with_file_name(shard)).collect())
}

/// The weights in a folder.
fn weights(folder: &Path) -> Result<PathBuf> {
    let found = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("the folder has none of {}: name the file itself", WEIGHTS.join(", ")))
}

/// What the files beside the weights say of an encoder.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Beside {
    /// Number of attention heads.
    pub(super) heads: Option<usize>,
    /// Epsilon of the layer norms.
    pub(super) layer_norm_eps: Option<f64>,
    /// Per-channel mean of the pixels.
    pub(super) mean: Option<[f32; 3]>,
    /// Per-channel standard deviation of the pixels.
    pub(super) std: Option<[f32; 3]>,
}

#[derive(Deserialize)]
struct Config {
    num_attention_heads: Option<usize>,
    layer_norm_eps: Option<f64>,
}

#[derive(Deserialize)]
struct Preprocessor {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Beside {
    /// Reads `config.json` and `preprocessor_config.json` beside weights with a name of Hugging Face.
    ///
    /// # Errors
    /// If one is there and is no JSON of such values.
    pub(super) fn of(file: &Path) -> Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let starts = |stem: &&str| name.strip_prefix(*stem).is_some_and(|rest| rest.starts_with(['.', '-']));
        let is_theirs = ["model", "pytorch_model"].iter().any(starts)
            && [".safetensors", ".bin"].iter().any(|ending| name.ends_with(ending));
        if !is_theirs {
            return Ok(Self::default());
        }
        let config = read_json::<Config>(&file.with_file_name("config.json"))?;
        let pixels = read_json::<Preprocessor>(&file.with_file_name("preprocessor_config.json"))?;
        let std = pixels.as_ref().and_then(|pixels| pixels.image_std);
        if let Some(std) = std.iter().flatten().find(|std| !(**std > 0.0 && std.is_finite())) {
            bail!("preprocessor_config.json has the standard deviation {std}, which must be positive");
        }
        Ok(Self {
            heads: config.as_ref().and_then(|config| config.num_attention_heads),
            layer_norm_eps: config.and_then(|config| config.layer_norm_eps),
            mean: pixels.and_then(|pixels| pixels.image_mean),
            std,
        })
    }
}

/// A JSON file; `None` if there is no such file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is not understood", path.display()))?))
}

/// The shards of a checkpoint.
pub(super) struct Shards<'a>(Vec<Reader<'a>>);

impl<'a> Shards<'a> {
    /// Opens shards, given by name and content.
    ///
    /// # Errors
    /// If one is damaged, or two hold one tensor.
    pub(super) fn new(shards: &'a [(String, Vec<u8>)]) -> Result<Self> {
        let readers = shards.iter().map(|(name, bytes)| Ok(Reader::new(name, bytes)?)).collect::<Result<Vec<_>>>()?;
        let mut seen = BTreeMap::new();
        for (reader, (shard, _)) in readers.iter().zip(shards) {
            for name in reader.shapes().into_keys() {
                if let Some(other) = seen.insert(name.clone(), shard) {
                    bail!("tensor {name} is both in {other} and in {shard}");
                }
            }
        }
        Ok(Self(readers))
    }
}

impl Checkpoint for Shards<'_> {
    fn shapes(&self) -> Shapes {
        self.0.iter().flat_map(Reader::shapes).collect()
    }

    fn tensor(&mut self, name: &str) -> Result<HostTensor> {
        let reader = self.0.iter().find(|reader| reader.shapes().contains_key(name));
        Ok(reader.with_context(|| format!("tensor {name} is missing"))?.tensor(name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_weights_and_shards_lie_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let names = |path: &Path| -> Vec<String> {
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            files(path).unwrap().iter().map(name).collect()
        };
        let refused = |path: &Path| format!("{:#}", files(path).unwrap_err());
        assert!(refused(folder.path()).contains("the folder has none of model.safetensors"));
        write(
            "model.safetensors.index.json",
            r#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#,
        );
        assert_eq!(names(folder.path()), ["1.safetensors", "2.safetensors"]);
        write("model.safetensors", "");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
        let index = folder.path().join("model.safetensors.index.json");
        for (text, why) in [
            ("{}", "is not understood"),
            (r#"{"weight_map": {}}"#, "names no shards"),
            (r#"{"weight_map": {"a": "../x"}}"#, "no file beside it"),
        ] {
            write("model.safetensors.index.json", text);
            assert!(refused(&index).contains(why), "{}", refused(&index));
        }
    }

    #[test]
    fn files_beside_say_what_tensors_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let model = folder.path().join("model.safetensors");
        assert_eq!(Beside::of(&model).unwrap(), Beside::default());
        write("config.json", r#"{"model_type": "vit", "num_attention_heads": 16, "layer_norm_eps": 1e-12}"#);
        write("preprocessor_config.json", r#"{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#);
        let said = Beside { heads: Some(16), layer_norm_eps: Some(1e-12), mean: Some([0.5; 3]), std: Some([0.5; 3]) };
        assert_eq!(Beside::of(&model).unwrap(), said);
        for other in ["encoder.safetensors", "model.pth", "modelling.bin"] {
            assert_eq!(Beside::of(&folder.path().join(other)).unwrap(), Beside::default(), "{other}");
        }
        write("preprocessor_config.json", r#"{"image_std": [0.5, 0.0, 0.5]}"#);
        assert!(Beside::of(&model).unwrap_err().to_string().contains("must be positive"));
    }
}
