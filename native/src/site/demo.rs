//! The demo's model, which stands on the embedded encoder. How it was made: `assets/README.md`.

use anyhow::{Context, Result};
use dinomaly_core::bundle::{Kind, MANIFEST, Manifest};
use dinomaly_core::model::config::ModelConfig;
use dinomaly_core::tensor::safetensors_io;

use super::page::DEMO_MODEL;
use crate::embedded::ENCODER;

/// Names and contents of the demo model's files. Its encoder's shard is made of [`ENCODER`], which holds the same tensors.
///
/// # Errors
/// None that is known: a test makes it.
pub fn demo_model() -> Result<Vec<(String, Vec<u8>)>> {
    let file = |name: &str| {
        let file = DEMO_MODEL.iter().find(|(other, _)| *other == name);
        Ok(file.with_context(|| format!("the program holds no {name}"))?.1.to_vec())
    };
    let manifest = Manifest::parse(&file(MANIFEST)?)?;
    let content = |name: &str, kind| if kind == Kind::Encoder { encoder_shard(&file) } else { file(name) };
    let mut files = vec![(MANIFEST.to_owned(), file(MANIFEST)?)];
    for entry in manifest.files {
        let content = content(&entry.name, entry.kind)?;
        entry.verify(&content)?;
        files.push((entry.name, content));
    }
    Ok(files)
}

/// The blocks that the model runs, as a published model stores them.
fn encoder_shard(file: &impl Fn(&str) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let config: ModelConfig = serde_json::from_slice(&file(Kind::Config.file_name())?)?;
    let mut weights = safetensors_io::read("small-encoder.safetensors", ENCODER)?;
    weights.prune(config.taps());
    Ok(safetensors_io::write(&weights, None)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_demo_model_is_the_one_in_the_repository() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let mut files = demo_model().unwrap();
        files.sort();
        let mut expected: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            })
            .collect();
        expected.sort();
        assert!(files == expected);
    }
}
