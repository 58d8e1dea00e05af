//! The split of good photos into training photos and held-out photos, which set the thresholds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use dinomaly_core::fewshot::thresholds;
use dinomaly_core::photo::preprocess::Preprocessor;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::Dataset;

/// Smallest number of held-out photos per class: fewer do not tell the spread of its scores.
pub const HELD_OUT: usize = thresholds::ENOUGH;

/// Good photos to train on, and held-out ones to set thresholds with.
#[derive(Clone, Debug)]
pub struct Split {
    /// Photos of all classes.
    pub train: Vec<PathBuf>,
    /// Class and photo.
    pub held_out: Vec<(String, PathBuf)>,
}

impl Split {
    /// Holds out a share of each class's good photos, chosen by the seed: at least [`HELD_OUT`] unless the share is 0, and at most
    /// half of them.
    pub fn new(dataset: &Dataset, share: f64, seed: u64) -> Self {
        let mut split = Self { train: Vec::new(), held_out: Vec::new() };
        for class in &dataset.classes {
            let mut photos = class.train.clone();
            photos.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            let wanted = (share * photos.len() as f64).round() as usize;
            let held_out = if share == 0.0 { 0 } else { wanted.max(HELD_OUT).min(photos.len() / 2) };
            let mut train = photos.split_off(held_out);
            train.sort();
            split.train.extend(train);
            split.held_out.extend(photos.into_iter().map(|photo| (class.name.clone(), photo)));
        }
        split
    }

    /// Hash of everything that features and thresholds depend on: the bytes of the photos, the SHA-256 `backbone` of the backbone's
    /// bytes, and the preprocessing.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn fingerprint(&self, backbone: &[u8], preprocessor: &Preprocessor) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(backbone);
        hash.update(serde_json::to_vec(preprocessor)?);
        let digest = |photo: &PathBuf| -> Result<_> {
            let bytes = fs::read(photo).with_context(|| format!("photo {} cannot be read", photo.display()))?;
            Ok(Sha256::digest(&bytes))
        };
        let photos: Vec<&PathBuf> = self.train.iter().chain(self.held_out.iter().map(|(_, photo)| photo)).collect();
        for photo in photos.into_par_iter().map(digest).collect::<Vec<_>>() {
            hash.update(photo?);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Class;

    #[test]
    fn enough_photos_are_held_out_and_enough_are_left() {
        let held_out = |photos: usize, share: f64| {
            let train = (0..photos).map(|i| PathBuf::from(format!("{i}.png"))).collect();
            let class = Class { name: "nut".into(), folder: "nut".into(), train, test: Vec::new() };
            let split = Split::new(&Dataset { classes: vec![class] }, share, 1);
            assert_eq!(split.train.len() + split.held_out.len(), photos);
            split.held_out.len()
        };
        assert_eq!([1, 2, 3, 12, 50, 240].map(|photos| held_out(photos, 0.1)), [0, 1, 1, 5, 5, 24]);
        assert_eq!([1, 12, 240].map(|photos| held_out(photos, 0.0)), [0, 0, 0]);
        assert_eq!([3, 12, 13].map(|photos| held_out(photos, 0.5)), [1, 6, 6]);
    }

    #[test]
    fn the_fingerprint_changes_with_every_photo() {
        let folder = tempfile::tempdir().unwrap();
        let [backbone, trained, held_out] = ["backbone", "a.png", "b.png"].map(|name| folder.path().join(name));
        let split = Split { train: vec![trained.clone()], held_out: vec![("nut".into(), held_out.clone())] };
        let geometry = dinomaly_core::photo::preprocess::Geometry { resize: 8, crop: 8 };
        let preprocessor = Preprocessor { geometry, tiles: None, mean: [0.5; 3], std: [0.5; 3], window: None };
        for path in [&backbone, &trained, &held_out] {
            fs::write(path, "before").unwrap();
        }
        let mut earlier = split.fingerprint(&Sha256::digest(fs::read(&backbone).unwrap()), &preprocessor).unwrap();
        for path in [&backbone, &trained, &held_out] {
            fs::write(path, "after").unwrap();
            let now = split.fingerprint(&Sha256::digest(fs::read(&backbone).unwrap()), &preprocessor).unwrap();
            assert_ne!(now, earlier, "{}", path.display());
            earlier = now;
        }
    }
}
