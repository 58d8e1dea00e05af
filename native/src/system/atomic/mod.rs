//! Files and folders that appear whole or not at all: written beside their place, flushed to the disk, then renamed.

#[cfg(feature = "trainer")]
mod file;
mod folder;
pub(crate) mod partial;

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};

#[cfg(feature = "trainer")]
pub use file::{check_file, copy_file, write_file};
pub use folder::{check_folder, replace_folder, write_new};

/// Checks that something can be written beside `path`, and makes no folder for it yet: the work may be refused for other reasons.
fn check_beside(path: &Path) -> Result<()> {
    let there = parent(path).ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("{} cannot be written to: it is a file, not a folder, name another place", there.display());
    }
    check_in(there)
}

/// Checks that something can be written into a folder.
fn check_in(folder: &Path) -> Result<()> {
    tempfile::tempfile_in(folder).with_context(|| format!("{} cannot be written to", folder.display()))?;
    Ok(())
}

/// Checks that what is made of `source` would not be written over it, whatever the two are called.
///
/// # Errors
/// Naming the place, if both are one.
#[cfg(feature = "trainer")]
pub fn check_other(source: &Path, path: &Path) -> Result<()> {
    let one = source.canonicalize().is_ok_and(|source| path.canonicalize().is_ok_and(|path| path == source));
    if one {
        bail!("{} would be written over {}, which it is made of: name another place", path.display(), source.display());
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Lets renames inside a folder survive a power cut, where the platform can open folders.
fn sync_folder(path: &Path) {
    File::open(path).and_then(|folder| folder.sync_all()).ok();
}

#[cfg(test)]
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_made_of_something_does_not_take_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let [model, other] = ["model", "other"].map(|name| folder.path().join(name));
        fs::create_dir_all(&model).unwrap();
        check_other(&model, &other).unwrap();
        let mut names = vec![model.clone(), other.join("../model")];
        fs::create_dir_all(&other).unwrap();
        check_other(&model, &other).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&model, folder.path().join("link")).unwrap();
            names.push(folder.path().join("link"));
        }
        for name in names {
            let error = check_other(&model, &name).unwrap_err().to_string();
            assert!(error.contains("would be written over") && error.contains("name another place"), "{error}");
        }
    }
}
