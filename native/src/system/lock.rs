//! A lock file that one run holds at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A held lock file, removed when dropped. The system releases the lock however the run ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Option<File>,
}

impl Lock {
    /// Creates or takes over the lock file; `None` if another run holds it. `work` says on file systems without locks (some network
    /// mounts) what no other run must do.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn take(path: &Path, work: &str) -> Result<Option<Self>> {
        let file = File::create(path).with_context(|| format!("{} cannot be written to", path.display()))?;
        match file.try_lock() {
            // A run that has just ended removed the file.
            Ok(()) if path.exists() => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                eprintln!(
                    "dinomaly: {} cannot be locked ({error}): make sure that no other run {work}",
                    path.display()
                );
            }
        }
        Ok(Some(Self { path: path.to_owned(), file: Some(file) }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // Closed now, because network file systems keep an open file, and with it the folder.
        self.file = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_once_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path, "works here").unwrap().unwrap();
        assert!(Lock::take(&path, "works here").unwrap().is_none());
        drop(held);
        assert!(!path.exists());
        // As after a crash: the file exists, but is not locked.
        fs::write(&path, "").unwrap();
        assert!(Lock::take(&path, "works here").unwrap().is_some());
        let error = Lock::take(&folder.path().join("no/lock"), "works here").unwrap_err().to_string();
        assert!(error.contains("lock cannot be written to"), "{error}");
    }
}
