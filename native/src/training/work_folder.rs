//! The working folder of an unfinished training, `MODEL.training` beside the model. It has the checkpoint and the feature cache, and
//! belongs to one run at a time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::system::lock::Lock;

/// The lock file of a run.
const LOCK: &str = "lock";

/// The working folder of this run.
#[derive(Debug)]
pub struct WorkFolder {
    folder: PathBuf,
    lock: Option<Lock>,
}

impl WorkFolder {
    /// Creates or takes over the working folder of the model `out`.
    ///
    /// # Errors
    /// If another run works there, or the folder cannot be created.
    pub fn begin(out: &Path) -> Result<Self> {
        let name = out.file_name().with_context(|| format!("--out {} names no folder", out.display()))?;
        let folder = out.with_file_name(format!("{}.training", name.to_string_lossy()));
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be written to", folder.display()))?;
        let lock = Lock::take(&folder.join(LOCK), &format!("trains into {}", out.display()))?;
        if lock.is_none() {
            bail!("another run is training into {}: wait for it, or name another --out", out.display());
        }
        Ok(Self { folder, lock })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the checkpoint and the folder, after the model is written.
    ///
    /// # Errors
    /// If the checkpoint cannot be removed.
    pub fn finish(self) -> Result<()> {
        let checkpoint = self.checkpoint();
        if checkpoint.exists() {
            fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
        }
        Ok(())
    }
}

impl Drop for WorkFolder {
    /// Keeps the folder only if there is a checkpoint in it.
    fn drop(&mut self) {
        self.lock = None;
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time_works_in_a_folder_and_only_a_checkpoint_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (out, work) = (folder.path().join("model"), folder.path().join("model.training"));
        let first = WorkFolder::begin(&out).unwrap();
        let error = WorkFolder::begin(&out).unwrap_err().to_string();
        assert!(error.contains("another run is training into") && error.contains("another --out"), "{error}");
        WorkFolder::begin(&folder.path().join("other")).unwrap();
        drop(first);
        assert!(!work.exists(), "nothing was trained");

        let second = WorkFolder::begin(&out).unwrap();
        fs::write(second.checkpoint(), "").unwrap();
        drop(second);
        assert_eq!(fs::read_dir(&work).unwrap().count(), 1, "the checkpoint");
        // As after a crash: the file exists, but is not locked.
        fs::write(work.join(LOCK), "").unwrap();
        WorkFolder::begin(&out).unwrap().finish().unwrap();
        assert!(!work.exists());
    }
}
