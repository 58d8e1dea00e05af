//! `few-shot.json`: what a model was made of, so that photos can be added later. It lies in the model's folder and is not published.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::fewshot::Recipe;
use dinomaly_core::photo::preprocess::Preprocessor;
use serde::{Deserialize, Serialize};

use crate::encoders::backbone::Origin;
use crate::model_dir::FEW_SHOT;

/// Encoder, options and photos of a model without training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// File or name of the encoder; `None` for the embedded one.
    pub(super) backbone: Option<PathBuf>,
    /// SHA-256 of its files.
    pub(super) backbone_sha256: String,
    /// Number of the encoder's attention heads, if it was given.
    pub(super) heads: Option<usize>,
    /// The library whose way to fit the encoder's position table is taken, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<Origin>,
    /// Memory and thresholds.
    pub(super) recipe: Recipe,
    /// Geometry and normalisation of photos.
    pub(super) preprocessor: Preprocessor,
    /// Good photos by class.
    pub(super) photos: BTreeMap<String, Vec<RecordedPhoto>>,
}

/// A photo that a model was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedPhoto {
    pub(super) path: PathBuf,
    /// SHA-256 of the file.
    pub(super) sha256: String,
}

impl Record {
    /// Reads the record of a model.
    ///
    /// # Errors
    /// If the model has none, or it cannot be read.
    pub(super) fn read(model: &Path) -> Result<Self> {
        let file = model.join(FEW_SHOT);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{} holds no {FEW_SHOT}: photos can be added to a folder that dinomaly fewshot wrote, not to a copy of its model",
                model.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", file.display())),
        };
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: make the model again", file.display()))
    }

    /// The file of a model's folder.
    ///
    /// # Errors
    /// None: records can be written as JSON.
    pub(super) fn file(&self) -> Result<(&'static str, Vec<u8>)> {
        Ok((FEW_SHOT, serde_json::to_vec_pretty(self)?))
    }
}
