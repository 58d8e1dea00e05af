//! What is not in place yet: it is removed where it is dropped, at a signal, and by a later run if this one was killed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Beginning of the names.
pub(crate) const PREFIX: &str = ".dinomaly-partial-";

/// Least age of what a later run on this machine removes: a living process has locked it by then.
const AGE: Duration = Duration::from_secs(1);

/// Least age of what was left by another machine, whose locks this one may not see on a network's file system.
const AGE_ELSEWHERE: Duration = Duration::from_secs(24 * 3600);

/// What this process is writing.
static WRITING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A folder that is not in place yet.
pub(super) struct PartialFolder {
    folder: TempDir,
    /// Held until the folder is in place. The system releases it however the process ends.
    lock: Option<File>,
}

impl PartialFolder {
    /// An empty folder in `parent`.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        sweep(parent);
        let mut builder = tempfile::Builder::new();
        // As for any other new folder: the default of a temporary one keeps web servers out.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let folder = builder.prefix(&prefix()).tempdir_in(parent)?;
        writing().insert(folder.path().to_owned());
        let lock = locked(folder.path());
        Ok(Self { folder, lock })
    }

    /// Name of the folder.
    pub(super) fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the folder up, after it was renamed: there is nothing to remove. Returns its lock.
    pub(super) fn keep(mut self) -> Option<File> {
        self.folder.disable_cleanup(true);
        self.lock.take()
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        writing().remove(self.folder.path());
    }
}

/// The lock of a file or folder; `None` if another process has it, or files cannot be locked here.
pub(super) fn locked(path: &Path) -> Option<File> {
    File::open(path).ok().filter(|lock| lock.try_lock().is_ok())
}

/// Writes a file through `fill`, and puts it in the place of `path` when it is safe on the disk.
#[cfg(feature = "trainer")]
pub(super) fn write(path: &Path, parent: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    sweep(parent);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(&prefix()).tempfile_in(parent)?;
    let here = file.path().to_owned();
    writing().insert(here.clone());
    let _ = file.as_file().try_lock();
    // The file itself, as the temporary one's errors name a path that nobody knows.
    let written = fill(file.as_file_mut()).and_then(|()| file.as_file().sync_all());
    let placed = written.and_then(|()| file.persist(path).map_err(|error| error.error));
    writing().remove(&here);
    placed.map(drop)
}

/// Removes what this process has not finished, before a signal ends it.
pub(crate) fn remove_all() {
    for path in writing().iter() {
        remove(path);
    }
}

/// Beginning of the names of this machine.
pub(super) fn prefix() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let digest = Sha256::digest(host.trim().as_bytes());
    format!("{PREFIX}{:02x}{:02x}{:02x}-", digest[0], digest[1], digest[2])
}

/// Removes what killed processes left in a folder, once for each folder. What a living one writes is locked; where files cannot be
/// locked, all stays.
fn sweep(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
        sweep_now(folder);
    }
}

fn sweep_now(folder: &Path) {
    let here = prefix();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let age = if entry.file_name().to_string_lossy().starts_with(&here) { AGE } else { AGE_ELSEWHERE };
        let is_old = |changed: SystemTime| changed.elapsed().is_ok_and(|elapsed| elapsed > age);
        let old = entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(is_old);
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if old && !is_link && locked(&entry.path()).is_some() {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

fn writing() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(path: &Path) {
        File::open(path).unwrap().set_modified(SystemTime::now() - 2 * AGE).unwrap();
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_a_living_one_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(format!("{}left", prefix()));
        fs::create_dir_all(left.join("below")).unwrap();
        let file = folder.path().join(format!("{}file", prefix()));
        fs::write(&file, "half").unwrap();
        let elsewhere = folder.path().join(format!("{PREFIX}000000-x"));
        fs::create_dir(&elsewhere).unwrap();
        let living = PartialFolder::new(folder.path()).unwrap();
        [&left, &file, &elsewhere, living.path()].into_iter().for_each(age);
        let young = folder.path().join(format!("{}young", prefix()));
        fs::create_dir(&young).unwrap();
        fs::create_dir(folder.path().join(".partial-others")).unwrap();
        sweep_now(folder.path());
        assert!(!left.exists() && !file.exists());
        assert!([living.path(), &young, &elsewhere].iter().all(|path| path.exists()));
        assert!(folder.path().join(".partial-others").exists());
    }

    #[test]
    fn what_is_in_place_is_not_removed_at_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        let partial = PartialFolder::new(folder.path()).unwrap();
        let (place, before) = (folder.path().join("model"), partial.path().to_owned());
        fs::rename(partial.path(), &place).unwrap();
        drop(partial.keep());
        assert!(!writing().contains(&before) && place.exists());
    }
}
