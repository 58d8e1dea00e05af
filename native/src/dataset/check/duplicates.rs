//! Checks for the same file in several places.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Files, Finding, Purpose, Severity};
use crate::dataset::Class;

/// SHA-256 of photos. Unless everything is read anyway, only files of one length can be the same.
fn hashes<'a>(classes: &'a [Class], files: &Files, purpose: Purpose) -> BTreeMap<&'a PathBuf, [u8; 32]> {
    let photos = classes.iter().flat_map(|class| class.train.iter().chain(class.test.iter().map(|photo| &photo.path)));
    if purpose == Purpose::Everything {
        return photos.filter_map(|path| Some((path, files.get(path)?.hash?))).collect();
    }
    let mut by_length: BTreeMap<u64, Vec<&PathBuf>> = BTreeMap::new();
    for path in photos {
        if let Ok(file) = fs::metadata(path) {
            by_length.entry(file.len()).or_default().push(path);
        }
    }
    let alike: Vec<&PathBuf> = by_length.into_values().filter(|paths| paths.len() > 1).flatten().collect();
    alike.into_par_iter().filter_map(|path| Some((path, Sha256::digest(fs::read(path).ok()?).into()))).collect()
}

/// Names of one file: `a = b`, of many the first.
fn several(paths: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = paths[..paths.len().min(SHOWN)].join(" = ");
    if paths.len() > SHOWN { format!("{shown} = {} more", paths.len() - SHOWN) } else { shown }
}

/// Duplicate files, across classes. The worst are test photos that are also training photos.
pub(super) fn findings(classes: &[Class], files: &Files, purpose: Purpose) -> Vec<Finding> {
    /// Where a photo is used.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Use {
        Train,
        Good,
        Defective,
    }
    let hashes = hashes(classes, files, purpose);
    let mut by_hash: BTreeMap<[u8; 32], Vec<(Use, usize, &PathBuf)>> = BTreeMap::new();
    for (i, class) in classes.iter().enumerate() {
        let train = class.train.iter().map(|path| (Use::Train, i, path));
        let test = class
            .test
            .iter()
            .map(|photo| (if photo.defect.is_some() { Use::Defective } else { Use::Good }, i, &photo.path));
        for (used, i, path) in train.chain(test) {
            if let Some(&hash) = hashes.get(path) {
                by_hash.entry(hash).or_default().push((used, i, path));
            }
        }
    }
    let mut found: BTreeMap<(Severity, usize, &str), Vec<PathBuf>> = BTreeMap::new();
    for mut same in by_hash.into_values().filter(|same| same.len() > 1) {
        same.sort();
        let has = |used| same.iter().any(|(other, ..)| *other == used);
        let (severity, problem) = match (has(Use::Train), has(Use::Good), has(Use::Defective)) {
            (true, _, true) => (Severity::Error, "same file for training as good and for testing as defective"),
            (true, true, false) => (Severity::Error, "same file for training and for testing"),
            (false, true, true) => (Severity::Error, "same file for testing as good and as defective"),
            (true, false, false) => (Severity::Warning, "same file for training more than once"),
            _ => (Severity::Warning, "same file for testing more than once"),
        };
        let paths: Vec<String> = same.iter().map(|(.., path)| path.display().to_string()).collect();
        found.entry((severity, same[0].1, problem)).or_default().push(several(&paths).into());
    }
    let finding = |((severity, class, problem), files): ((_, usize, &str), _)| {
        Finding::of(&classes[class], severity, problem.into(), files)
    };
    found.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Purpose;
    use super::super::testing::Root;

    #[test]
    fn the_same_photo_in_train_and_test_is_the_worst() {
        let root = Root::new();
        let copy = |from: &str, to: &str| fs::copy(root.path(from), root.path(to)).map(drop).unwrap();
        copy("nut/train/good/3.png", "nut/test/good/1.png");
        copy("nut/train/good/4.png", "nut/test/cut/1.png");
        copy("nut/train/good/5.png", "nut/train/good/6.png");
        let expected = [
            "error    nut: same file for training and for testing: nut/train/good/3.png = nut/test/good/1.png",
            "error    nut: same file for training as good and for testing as defective: nut/train/good/4.png = nut/test/cut/1.png",
            "warning  nut: same file for training more than once: nut/train/good/5.png = nut/train/good/6.png",
        ];
        assert_eq!(root.findings(), expected);
        assert_eq!(root.check_for(Purpose::Training), expected);
        copy("nut/test/good/0.png", "nut/test/cut/0.png");
        let expected =
            "error    nut: same file for testing as good and as defective: nut/test/good/0.png = nut/test/cut/0.png";
        assert!(root.findings().contains(&expected.into()), "{:?}", root.findings());
    }
}
