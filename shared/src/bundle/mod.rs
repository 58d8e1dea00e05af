//! The published model: a folder of small files that native programs read from disk and the page fetches.
//!
//! ```text
//! config.json                                    architecture: ModelConfig
//! preprocessor_config.json                       resize, crop, mean, std
//! encoder-<sha256>-00001-of-0000N.safetensors …  frozen encoder
//! head-<sha256>-00001-of-0000M.safetensors …     bottleneck and decoder
//! calibration.json                               threshold and scores of good photos, by class
//! README.md                                      model card
//! manifest.json                                  size, sha256, dtype of every file; self-test
//! ```
//!
//! Shards have the beginning of their SHA-256 in their names: models with the same encoder share its files, and browsers can
//! cache them for ever. Everything here is a pure function between names and bytes.

mod arriving;
mod calibration;
mod descriptors;
mod manifest;
mod self_test;
mod shards;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use arriving::Arriving;
pub use calibration::{Calibration, ClassCalibration, Quantile, ScoreStatistics, percent};
pub use descriptors::{DescriptorStatistics, Recognised};
pub use manifest::{FORMAT_VERSION, FileEntry, Kind, MANIFEST, Manifest};
pub use self_test::SelfTest;
pub use shards::SHARD_LIMIT;

use crate::model::config::Architecture;
use crate::model::weights::model_shapes;
use crate::photo::preprocess::Preprocessor;
use crate::tensor::named::Weights;
use crate::{Error, Result};

/// File name in errors about tensors that are in no shard.
const SHARDS: &str = "(encoder and head shards)";

/// A published model in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Name of the model, for people.
    pub name: String,
    /// Architecture.
    pub config: Architecture,
    /// Preprocessing of photos.
    pub preprocessor: Preprocessor,
    /// Thresholds. Its classes are the model's.
    pub calibration: Calibration,
    /// The tensors of [`model_shapes`], no more and no less.
    pub weights: Weights,
    /// Expected result on a generated picture, to detect devices that compute wrongly. `None` before publication.
    pub self_test: Option<SelfTest>,
    /// Model card in Markdown.
    pub card: String,
}

impl Model {
    /// Reads a model folder: `read` gives the content of a file of this name in it.
    ///
    /// `Model::read(|name| std::fs::read(folder.join(name)))` reads one from disk.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file that cannot be read, and as [`Model::parse`].
    pub fn read(mut read: impl FnMut(&str) -> io::Result<Vec<u8>>) -> Result<Self> {
        Self::parse(&mut |name| {
            read(name).map_err(|error| {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound if name == MANIFEST => "is missing: this is no model folder".into(),
                    io::ErrorKind::NotFound => "is missing: publish or copy the model again".into(),
                    _ => format!("cannot be read: {error}"),
                };
                Error::Model { file: name.into(), reason }
            })
        })
    }

    /// Reads a model. `read` returns the content of a file by its name in the model folder; it is called once for each file, first
    /// for the manifest.
    ///
    /// # Errors
    /// Those of `read`; [`Error::Model`] naming the file, and the tensor if there is one, for content that is altered, truncated,
    /// missing, unexpected, of another shape, not finite, or of an unknown version or type.
    pub fn parse(read: &mut dyn FnMut(&str) -> Result<Vec<u8>>) -> Result<Self> {
        let manifest = Manifest::parse(&read(MANIFEST)?)?;
        let mut fetch = |entry: &FileEntry| -> Result<Vec<u8>> {
            let bytes = read(&entry.name)?;
            entry.verify(&bytes)?;
            Ok(bytes)
        };
        let mut model = Self::describe(&manifest, &mut fetch)?;
        let expected = model_shapes(&model.config)?;
        for entry in manifest.shards() {
            let shard = shards::read(entry, &fetch(entry)?, &expected, |name| model.weights.0.contains_key(name))?;
            model.weights.0.extend(shard.0);
        }
        model.weights.check(&expected).map_err(|e| e.in_file(SHARDS))?;
        Ok(model)
    }

    /// Reads a model without its weights, which stay empty; `fetch` returns the verified content of a file.
    fn describe(manifest: &Manifest, fetch: &mut dyn FnMut(&FileEntry) -> Result<Vec<u8>>) -> Result<Self> {
        let config = Architecture::from_json(&fetch(manifest.only(Kind::Config)?)?);
        let config = config.map_err(|e| damaged(Kind::Config.file_name(), &e))?;
        let preprocessor = from_json(Kind::Preprocessor.file_name(), &fetch(manifest.only(Kind::Preprocessor)?)?)?;
        let calibration = from_json(Kind::Calibration.file_name(), &fetch(manifest.only(Kind::Calibration)?)?)?;
        let card = String::from_utf8(fetch(manifest.only(Kind::Card)?)?).map_err(|e| Error::Model {
            file: Kind::Card.file_name().into(),
            reason: format!("is not UTF-8 text: {e}"),
        })?;
        let model = Self {
            name: manifest.name.clone(),
            config,
            preprocessor,
            calibration,
            weights: Weights::default(),
            self_test: manifest.self_test.clone(),
            card,
        };
        model.validate_description()?;
        let classes: Vec<&String> = model.calibration.classes.keys().collect();
        if classes != manifest.classes.iter().collect::<Vec<_>>() {
            let reason = format!("lists the classes {:?}, but {MANIFEST} lists {:?}", classes, manifest.classes);
            return Err(Error::Model { file: Kind::Calibration.file_name().into(), reason });
        }
        Ok(model)
    }

    /// Content of the model folder's files, the manifest last. Equal models give equal bytes.
    ///
    /// # Errors
    /// As [`Model::validate`].
    pub fn to_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        self.validate()?;
        self.files(shards::write(Kind::Encoder, &self.weights)?.into_iter().map(|(entry, bytes)| (entry, Some(bytes))))
    }

    /// [`Model::to_files`] of a model whose encoder another one brought already: without the shards `encoder`, the entries of that
    /// one's manifest. Tensors of the encoder are not needed.
    ///
    /// # Errors
    /// As [`Model::to_files`].
    pub fn to_files_beside(&self, encoder: &[FileEntry]) -> Result<Vec<(String, Vec<u8>)>> {
        self.validate_description()?;
        let mut expected = model_shapes(&self.config)?;
        expected.retain(|name, _| Kind::of_tensor(name) == Kind::Head);
        self.weights.check(&expected)?;
        self.weights.check_finite()?;
        self.files(encoder.iter().map(|entry| (entry.clone(), None)))
    }

    /// All files, the encoder's shards with their content if it is to be among them.
    fn files(&self, encoder: impl Iterator<Item = (FileEntry, Option<Vec<u8>>)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut entries = Vec::new();
        let mut files = Vec::new();
        for (kind, bytes) in [
            (Kind::Config, to_json(&self.config)?),
            (Kind::Preprocessor, to_json(&self.preprocessor)?),
            (Kind::Calibration, to_json(&self.calibration)?),
            (Kind::Card, self.card.clone().into_bytes()),
        ] {
            entries.push(FileEntry::of(kind.file_name().into(), kind, None, &bytes));
            files.push((kind.file_name().to_owned(), bytes));
        }
        let head = shards::write(Kind::Head, &self.weights)?.into_iter().map(|(entry, bytes)| (entry, Some(bytes)));
        for (entry, bytes) in encoder.chain(head) {
            files.extend(bytes.map(|bytes| (entry.name.clone(), bytes)));
            entries.push(entry);
        }
        let manifest = Manifest {
            format_version: manifest::version_of(&self.config),
            name: self.name.clone(),
            classes: self.calibration.classes.keys().cloned().collect(),
            files: entries,
            self_test: self.self_test.clone(),
        };
        manifest.validate()?;
        files.push((MANIFEST.into(), to_json(&manifest)?));
        Ok(files)
    }

    /// Checks that the parts fit together and that all numbers are finite.
    ///
    /// # Errors
    /// [`Error`] naming the file or tensor that does not fit.
    pub fn validate(&self) -> Result<()> {
        self.validate_description()?;
        self.weights.check(&model_shapes(&self.config)?)?;
        self.weights.check_finite()
    }

    /// [`Model::validate`], weights excluded.
    fn validate_description(&self) -> Result<()> {
        self.config.validate().map_err(|e| e.in_file(Kind::Config.file_name()))?;
        self.preprocessor
            .validate(self.config.encoder().patch_size)
            .map_err(|e| e.in_file(Kind::Preprocessor.file_name()))?;
        self.config.check_view(&self.preprocessor).map_err(|e| e.in_file(Kind::Config.file_name()))?;
        let calibration = self.calibration.validate();
        let calibration =
            calibration.and_then(|()| self.calibration.check_descriptors(self.config.encoder().hidden_size));
        calibration.map_err(|e| e.in_file(Kind::Calibration.file_name()))?;
        if let Some(self_test) = &self.self_test {
            self_test.validate().map_err(|e| e.in_file(MANIFEST))?;
        }
        Ok(())
    }

    /// Side of the encoder's input in patches.
    pub fn grid(&self) -> usize {
        self.preprocessor.geometry.grid(self.config.encoder().patch_size)
    }
}

/// Parses a JSON file of the model folder.
fn from_json<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| damaged(file, &e))
}

fn damaged(file: &str, e: &serde_json::Error) -> Error {
    Error::Model { file: file.into(), reason: format!("is not valid ({e}): publish or copy the model again") }
}

/// Writes a JSON file of the model folder, indented for people.
fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::config(format!("cannot be written: {e}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
