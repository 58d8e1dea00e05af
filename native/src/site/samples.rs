//! Photos to try, offered on the page.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dinomaly_core::photo::decode::Photo;
use serde::Serialize;

use crate::system::words;

/// A photo to try.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is written below it.
    pub name: String,
    /// The product on it, where that is known.
    pub class: Option<String>,
    /// What it is, where that is known.
    pub truth: Option<Truth>,
    /// Content of its file.
    pub bytes: Vec<u8>,
    /// Of its file, without the dot.
    pub extension: String,
}

/// Label of a sample, with which the page compares its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// Without a defect.
    Good,
    /// With one.
    Defective,
}

impl Truth {
    /// What a folder's name says of its photos.
    fn of(folder: &Path) -> Option<Self> {
        match folder {
            folder if words::is_good(folder) => Some(Self::Good),
            folder if words::is_bad(folder) => Some(Self::Defective),
            _ => None,
        }
    }
}

/// Photos of a folder, in the order of their names. Those in its folders are of the class that the folder is named after, if it is not
/// called `good` or `bad`; those one folder deeper are good if that is called `good`, and else have the defect of its name.
///
/// # Errors
/// If it cannot be read, or a file in it is no photo.
pub fn read_samples(folder: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for entry in sorted(folder)? {
        if entry.is_file() {
            samples.push(read_sample(&entry, None, None, None)?);
            continue;
        }
        let truth = Truth::of(&entry);
        let class = truth.is_none().then(|| file_name(&entry));
        for path in sorted(&entry)? {
            if path.is_file() {
                samples.push(read_sample(&path, None, class.clone(), truth)?);
                continue;
            }
            let truth = Truth::of(&path).unwrap_or(Truth::Defective);
            for photo in sorted(&path)?.into_iter().filter(|path| path.is_file()) {
                samples.push(read_sample(&photo, Some(file_name(&path)), class.clone(), Some(truth))?);
            }
        }
    }
    Ok(samples)
}

/// A sample of a file, which is called after its kind, too.
fn read_sample(path: &Path, kind: Option<String>, class: Option<String>, truth: Option<Truth>) -> Result<Sample> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Photo::decode(&path.display().to_string(), &bytes)?;
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let stem = part(path.file_stem());
    let name = kind.map_or_else(|| stem.clone(), |kind| format!("{kind}, {stem}"));
    Ok(Sample { name, class, truth, bytes, extension: part(path.extension()).to_lowercase() })
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("the samples' folder {} cannot be read", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(cannot)?;
    paths.retain(|path| !file_name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_with_their_class_and_label() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bad", "gear/broken tooth", "gear/good"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["b.PNG", "bad/c.png", "gear/broken tooth/1.png", "gear/good/1.png", "gear/unknown.png"] {
            image::RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let samples = read_samples(folder.path()).unwrap();
        let found: Vec<_> =
            samples.iter().map(|s| (s.name.as_str(), s.class.as_deref(), s.truth, s.extension.as_str())).collect();
        let expected = [
            ("b", None, None, "png"),
            ("c", None, Some(Truth::Defective), "png"),
            ("broken tooth, 1", Some("gear"), Some(Truth::Defective), "png"),
            ("good, 1", Some("gear"), Some(Truth::Good), "png"),
            ("unknown", Some("gear"), None, "png"),
        ];
        assert_eq!(found, expected);
        fs::write(folder.path().join("gear/empty.jpg"), "").unwrap();
        let error = read_samples(folder.path()).unwrap_err().to_string();
        assert!(error.contains("gear/empty.jpg"), "{error}");
    }
}
