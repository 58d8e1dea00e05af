//! The split of good photos into training photos and held-out photos, which set the thresholds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::fewshot::thresholds;
use dinomaly_core::photo::preprocess::Preprocessor;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::{Dataset, counted};

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

    /// The same split with only `shots` of each class's photos to train on, chosen by the seed; the held-out photos stay.
    ///
    /// # Errors
    /// If a class has fewer.
    pub fn of_few(dataset: &Dataset, share: f64, seed: u64, shots: usize) -> Result<Self> {
        let mut few = Self { train: Vec::new(), held_out: Vec::new() };
        for class in &dataset.classes {
            let Self { mut train, held_out } = Self::new(&Dataset { classes: vec![class.clone()] }, share, seed);
            if train.len() < shots {
                bail!(
                    "--shots {shots}: class {} has {} besides {} held-out ones (--holdout)",
                    class.name,
                    counted(train.len(), "good photo", "good photos"),
                    held_out.len()
                );
            }
            // Another stream than that of the held-out photos, whose order it would repeat.
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            generator.set_stream(1);
            train.shuffle(&mut generator);
            train.truncate(shots);
            train.sort();
            few.train.extend(train);
            few.held_out.extend(held_out);
        }
        Ok(few)
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
    fn a_few_photos_of_each_class_are_chosen_by_the_seed() {
        let class = |name: &str, photos: usize| {
            let train = (0..photos).map(|i| PathBuf::from(format!("{name}/{i:02}.png"))).collect();
            Class { name: name.into(), folder: name.into(), train, test: Vec::new() }
        };
        let dataset = Dataset { classes: vec![class("nut", 30), class("screw", 40)] };
        let few = |seed| Split::of_few(&dataset, 0.1, seed, 4).unwrap();
        let all = Split::new(&dataset, 0.1, 1);
        let split = few(1);
        assert_eq!((split.train.len(), &split.held_out), (8, &all.held_out));
        assert!(split.train.iter().all(|photo| all.train.contains(photo)));
        assert_eq!(split.train.iter().filter(|photo| photo.starts_with("nut")).count(), 4);
        assert_eq!(split.train, few(1).train);
        assert_ne!(split.train, few(2).train);
        let error = Split::of_few(&dataset, 0.1, 1, 26).unwrap_err().to_string();
        assert_eq!(error, "--shots 26: class nut has 25 good photos besides 5 held-out ones (--holdout)");
    }

    #[test]
    fn the_fingerprint_changes_with_every_photo() {
        let folder = tempfile::tempdir().unwrap();
        let [backbone, trained, held_out] = ["backbone", "a.png", "b.png"].map(|name| folder.path().join(name));
        let split = Split { train: vec![trained.clone()], held_out: vec![("nut".into(), held_out.clone())] };
        let preprocessor = Preprocessor::imagenet(dinomaly_core::photo::preprocess::Geometry { resize: 8, crop: 8 });
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
