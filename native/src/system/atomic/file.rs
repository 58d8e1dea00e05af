//! Files that appear whole or not at all.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{check_beside, parent, partial, sync_folder};

/// Writes a file; what was there before stays until the new content is safe on the disk.
///
/// # Errors
/// Naming the file, if its folder cannot be written to or the disk is full; nothing is left behind then.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    copy_file(&mut &*bytes, path)
}

/// [`write_file`] with what a reader gives, which need not fit into memory.
///
/// # Errors
/// As [`write_file`].
pub fn copy_file(from: &mut impl io::Read, path: &Path) -> Result<()> {
    let parent = parent(path);
    partial::write(path, parent, |file| io::copy(from, file).map(drop))
        .with_context(|| format!("{} was not written, nothing is left of it", path.display()))?;
    sync_folder(parent);
    Ok(())
}

/// Checks that [`write_file`] can begin, before long work whose result should go there.
///
/// # Errors
/// Naming the file, if there is a folder in its place or its own folder cannot be written to.
pub fn check_file(path: &Path) -> Result<()> {
    if path.is_dir() {
        bail!("{} is a folder, not a file: name another place", path.display());
    }
    check_beside(path).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::names;
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file");
        for content in [b"one".as_slice(), b"two"] {
            write_file(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(names(&folder.path().join("new")), ["file"]);
        let error = format!("{:#}", write_file(&path.join("below"), b"x").unwrap_err());
        assert!(error.contains("file/below was not written"), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        let error = format!("{:#}", check_file(&file.join("photo.png")).unwrap_err());
        assert!(error.contains("photo.png cannot be written: ") && error.contains("name another place"), "{error}");
        check_file(&folder.path().join("new/file")).unwrap();
        assert_eq!(names(folder.path()), ["file"], "nothing is made yet");
    }
}
