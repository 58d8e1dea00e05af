//! A folder as `save_pretrained` of Hugging Face writes it: weights in one file or in shards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Shapes;
use dinomaly_core::tensor::safetensors_io::Reader;
use serde::Deserialize;

use super::Checkpoint;
use super::beside::read_json;

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
    use std::fs;

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
}
