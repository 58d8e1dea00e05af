//! Photos to try, offered on the page.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dinomaly_core::photo::decode::Photo;

/// A photo to try.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is written below it.
    pub name: String,
    /// The product on it, where that is known.
    pub class: Option<String>,
    /// Content of its file.
    pub bytes: Vec<u8>,
    /// Of its file, without the dot.
    pub extension: String,
}

/// Photos of a folder, in the order of their names; those in its folders are of the class that the folder is named after.
///
/// # Errors
/// If it cannot be read, or a file in it is no photo.
pub fn read_samples(folder: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for entry in sorted(folder)? {
        if entry.is_dir() {
            let class = file_name(&entry);
            for path in sorted(&entry)?.into_iter().filter(|path| path.is_file()) {
                samples.push(read_sample(&path, Some(class.clone()))?);
            }
        } else {
            samples.push(read_sample(&entry, None)?);
        }
    }
    Ok(samples)
}

fn read_sample(path: &Path, class: Option<String>) -> Result<Sample> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Photo::decode(&path.display().to_string(), &bytes)?;
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    Ok(Sample { name: part(path.file_stem()), class, bytes, extension: part(path.extension()).to_lowercase() })
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
    fn samples_are_found_with_their_class() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("gear")).unwrap();
        for name in ["b.PNG", "gear/broken tooth.png"] {
            image::RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let samples = read_samples(folder.path()).unwrap();
        let found: Vec<_> =
            samples.iter().map(|s| (s.name.as_str(), s.class.as_deref(), s.extension.as_str())).collect();
        assert_eq!(found, [("b", None, "png"), ("broken tooth", Some("gear"), "png")]);
        fs::write(folder.path().join("gear/empty.jpg"), "").unwrap();
        let error = read_samples(folder.path()).unwrap_err().to_string();
        assert!(error.contains("gear/empty.jpg"), "{error}");
    }
}
