//! A published model that is loaded file by file. Weights go to the executor shard by shard, so that never more than one shard
//! is in host memory.

use std::collections::HashMap;

use super::{FileEntry, Kind, MANIFEST, Manifest, Model, SHARDS, shards};
use crate::model::config::Taps;
use crate::model::encoder::Encoder;
use crate::model::network::Network;
use crate::model::weights::Uploaded;
use crate::model::weights::model_shapes;
use crate::ops::Ops;
use crate::tensor::named::Shapes;
use crate::{Error, Result};

/// A partly loaded model for an executor with tensors `T`.
pub struct Arriving<T> {
    manifest: Manifest,
    /// Files without tensors, until they are complete.
    texts: HashMap<String, Vec<u8>>,
    described: Option<(Model, Shapes)>,
    uploaded: Uploaded<T>,
    parameters: usize,
}

impl<T: Clone> Arriving<T> {
    /// Starts with the manifest.
    pub fn new(manifest: Manifest) -> Self {
        Self { manifest, texts: HashMap::new(), described: None, uploaded: Uploaded::default(), parameters: 0 }
    }

    /// List of all files.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model without its weights, as soon as all files without tensors are there.
    pub fn model(&self) -> Option<&Model> {
        self.described.as_ref().map(|(model, _)| model)
    }

    /// Number of weight values loaded so far, not counting the scales of quantized tensors.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Checks a file's content against the manifest.
    ///
    /// # Errors
    /// [`Error::Model`] if size or hash differ, or the manifest does not list the file.
    pub fn verify(&self, name: &str, content: &[u8]) -> Result<()> {
        self.entry(name)?.verify(content)
    }

    /// Adds a [verified](Self::verify) file without tensors.
    ///
    /// # Errors
    /// If it contradicts an earlier file.
    pub fn describe(&mut self, name: &str, content: Vec<u8>) -> Result<()> {
        self.texts.insert(self.entry(name)?.name.clone(), content);
        let texts = self.manifest.files.iter().filter(|entry| !entry.kind.is_shard());
        if texts.count() > self.texts.len() {
            return Ok(());
        }
        let texts = &mut self.texts;
        let mut fetch = |entry: &FileEntry| texts.remove(&entry.name).ok_or_else(|| missing(&entry.name));
        let model = Model::describe(&self.manifest, &mut fetch)?;
        let expected = model_shapes(&model.config)?;
        self.described = Some((model, expected));
        Ok(())
    }

    /// Uploads a [verified](Self::verify) shard. All files without tensors must have been added.
    ///
    /// # Errors
    /// If a tensor does not fit the model; as [`Ops`].
    pub fn place<O: Ops<Tensor = T>>(&mut self, ops: &O, name: &str, content: &[u8]) -> Result<()> {
        let entry = self.entry(name)?;
        let (_, expected) = self.described.as_ref().ok_or_else(|| missing("config.json"))?;
        let shard = shards::read(entry, content, expected, |name| self.uploaded.contains(name))?;
        for (name, tensor) in shard.0 {
            self.parameters += tensor.len();
            self.uploaded.put(ops, name, tensor)?;
        }
        Ok(())
    }

    /// Drops the weights, so that the shards can be placed again, for an executor in another precision.
    pub fn restart(&mut self) {
        self.uploaded = Uploaded::default();
        self.parameters = 0;
    }

    /// Checks that the model is complete.
    ///
    /// # Errors
    /// [`Error::Model`] naming the missing file or tensor.
    pub fn check(&self) -> Result<&Model> {
        self.check_tensors(|_| true)
    }

    /// Checks that the tensors with these names are there.
    fn check_tensors(&self, wanted: impl Fn(&str) -> bool) -> Result<&Model> {
        let (model, expected) = self.described.as_ref().ok_or_else(|| missing("config.json"))?;
        match expected.keys().find(|name| wanted(name) && !self.uploaded.contains(name)) {
            None => Ok(model),
            Some(name) => {
                let error = Error::MissingTensor { name: name.clone(), found: self.uploaded.len() };
                Err(error.in_file(SHARDS))
            }
        }
    }

    /// The encoder alone on `ops`, the executor that its weights were uploaded to, for an input of `grid × grid` patches. Shards
    /// of the head need not be there.
    ///
    /// # Errors
    /// [`Error::Model`] naming the missing file or tensor; as [`Ops`].
    pub fn encoder<O: Ops<Tensor = T>>(&self, ops: &O, taps: Taps<'_>, grid: usize) -> Result<Encoder<T>> {
        self.check_tensors(|name| Kind::of_tensor(name) == Kind::Encoder)?;
        self.uploaded.encoder(ops, taps, grid)
    }

    /// The complete model, and the same on `ops`, the executor that its weights were uploaded to.
    ///
    /// # Errors
    /// As [`Arriving::check`]; as [`Ops`].
    pub(crate) fn network<O: Ops<Tensor = T>>(&self, ops: &O) -> Result<(&Model, Network<T>)> {
        let model = self.check()?;
        Ok((model, self.uploaded.network(ops, &model.config, model.grid())?))
    }

    /// The model without its weights.
    ///
    /// # Errors
    /// [`Error::Model`] if a file is missing.
    pub fn into_model(self) -> Result<Model> {
        self.described.map(|(model, _)| model).ok_or_else(|| missing("config.json"))
    }

    fn entry(&self, name: &str) -> Result<&FileEntry> {
        let entry = self.manifest.files.iter().find(|entry| entry.name == name);
        entry.ok_or_else(|| Error::Model { file: name.into(), reason: format!("{MANIFEST} does not list it") })
    }
}

fn missing(name: &str) -> Error {
    Error::Model { file: name.into(), reason: "was not loaded".into() }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::super::tests::model;
    use super::*;
    use crate::detector::Detector;
    use crate::executors::reference::{Reference, ReferenceTensor};
    use crate::photo::decode::Photo;

    fn begun(model: &Model) -> (Arriving<ReferenceTensor>, Vec<(String, Vec<u8>)>) {
        let mut files = model.to_files().unwrap();
        let (_, manifest) = files.pop().unwrap();
        (Arriving::new(Manifest::parse(&manifest).unwrap()), files)
    }

    /// Adds all files, those without tensors first.
    fn arrive(arriving: &mut Arriving<ReferenceTensor>, files: &[(String, Vec<u8>)]) -> Result<()> {
        for (name, content) in files {
            arriving.verify(name, content)?;
            match name.ends_with(".safetensors") {
                true => arriving.place(&Reference, name, content)?,
                false => arriving.describe(name, content.clone())?,
            }
        }
        Ok(())
    }

    #[test]
    fn what_arrives_piece_by_piece_is_the_model() {
        let model = model();
        let photo = Photo { width: 5, height: 4, rgb: (0..60).collect() };
        let whole = Detector::new(Reference, &model).unwrap();
        let expected = block_on(whole.detect(std::slice::from_ref(&photo))).unwrap();

        let (mut arriving, files) = begun(&model);
        for _ in 0..2 {
            arrive(&mut arriving, &files).unwrap();
            assert_eq!(arriving.parameters(), model.weights.parameters());
            let detector = Detector::of_arrived(Reference, &arriving).unwrap();
            assert_eq!(block_on(detector.detect(std::slice::from_ref(&photo))).unwrap(), expected);
            arriving.restart();
            assert_eq!(arriving.parameters(), 0);
        }
        let described = arriving.model().unwrap();
        assert_eq!((&described.calibration, &described.self_test), (&model.calibration, &model.self_test));
    }

    #[test]
    fn what_is_early_missing_twice_or_unknown_is_refused_by_name() {
        let (mut arriving, files) = begun(&model());
        let (shard, content) = files.last().unwrap();
        let message = |outcome: Result<()>| outcome.unwrap_err().to_string();
        let early = message(arriving.place(&Reference, shard, content));
        assert!(early.contains("config.json: was not loaded"), "{early}");

        arrive(&mut arriving, &files[..files.len() - 1]).unwrap();
        let missing = message(Detector::of_arrived(Reference, &arriving).map(|_| ()));
        assert!(missing.contains("(encoder and head shards)") && missing.contains("bottleneck.0"), "{missing}");

        arrive(&mut arriving, &files[files.len() - 1..]).unwrap();
        let twice = message(arriving.place(&Reference, shard, content));
        assert!(twice.contains("is in an earlier shard too"), "{twice}");
        let unknown = message(arriving.verify("x", content));
        assert!(unknown.contains("x: manifest.json does not list it"), "{unknown}");
        assert!(message(arriving.verify(shard, &content[1..])).contains(shard.as_str()));
    }
}
