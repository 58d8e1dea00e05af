//! The cache that all clients of the hub share: `models--OWNER--NAME` with `refs/REVISION`, `blobs/ETAG` and `snapshots/COMMIT/FILE`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::address::is_commit;

/// The folder of the cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// Where the token lies, if no variable holds it.
    token: PathBuf,
}

impl Cache {
    /// The cache that the environment names, as Python's client does: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, or `~/.cache`; the token's file
    /// by HF_TOKEN_PATH.
    pub(super) fn from_env() -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty()).map(|value| expanded(&value));
        let home = set("HF_HOME").unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").unwrap_or_else(|| expanded("~/.cache"));
            cache.join("huggingface")
        });
        Self {
            folder: set("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: set("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")),
        }
    }

    /// The user's token.
    pub(super) fn token(&self) -> Option<String> {
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| env::var(name).ok());
        let token = named.or_else(|| fs::read_to_string(&self.token).ok())?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// The commit that a branch, tag or commit of a repository was when it was last fetched.
    pub(super) fn commit_of(&self, repo: &str, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.repo(repo).join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| !commit.is_empty())
    }

    /// Folder with the files of a commit.
    pub(super) fn snapshot(&self, repo: &str, commit: &str) -> PathBuf {
        self.repo(repo).join("snapshots").join(commit)
    }

    /// The place of a blob.
    pub(super) fn blob(&self, repo: &str, etag: &str) -> PathBuf {
        self.repo(repo).join("blobs").join(etag)
    }

    /// Makes a blob the file of a commit.
    ///
    /// # Errors
    /// If the cache cannot be written to.
    pub(super) fn place(&self, repo: &str, etag: &str, commit: &str, file: &str) -> io::Result<PathBuf> {
        let root = self.repo(repo);
        let path = self.snapshot(repo, commit).join(file);
        let folder = path.parent().unwrap_or(&root);
        fs::create_dir_all(folder)?;
        let up: PathBuf = folder.strip_prefix(&root).unwrap_or(folder).components().map(|_| "..").collect();
        let target = up.join("blobs").join(etag);
        if fs::read_link(&path).is_ok_and(|present| present == target) {
            return Ok(path);
        }
        // Made beside it and renamed: another program that reads or places the same file meets it whole.
        let beside = tempfile::Builder::new().prefix(".").tempdir_in(folder)?;
        let new = beside.path().join("file");
        // Some file systems have no links.
        if link(&target, &new).is_err() {
            fs::copy(self.blob(repo, etag), &new)?;
        }
        fs::rename(&new, &path)?;
        Ok(path)
    }

    /// Notes which commit a branch or tag is, once everything that is wanted of it is there.
    ///
    /// # Errors
    /// As [`place`](Self::place).
    pub(super) fn point(&self, repo: &str, revision: &str, commit: &str) -> io::Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.repo(repo).join("refs").join(revision);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, commit)
    }

    fn repo(&self, repo: &str) -> PathBuf {
        self.folder.join(format!("models--{}", repo.replace('/', "--")))
    }
}

/// Whether a folder is one of the cache that the environment names.
pub fn is_cached(folder: &Path) -> bool {
    folder.starts_with(Cache::from_env().folder)
}

/// Removes a file of a snapshot with the blob behind it, so that it is fetched again. The blob of a copy stays: it is compared
/// before it is placed again.
pub fn forget(file: &Path) {
    if let Ok(blob) = file.canonicalize() {
        let _ = fs::remove_file(blob);
    }
    let _ = fs::remove_file(file);
}

#[cfg(unix)]
fn link(target: &Path, file: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, file)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A path whose `~` is the home folder.
fn expanded(path: &str) -> PathBuf {
    let home = || env::home_dir().unwrap_or_else(|| ".".into());
    match path.strip_prefix('~') {
        Some("") => home(),
        Some(rest) if rest.starts_with('/') => home().join(rest.trim_start_matches('/')),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_place_a_file_at_the_same_time_all_find_it_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { folder: folder.path().into(), token: folder.path().join("token") };
        let blob = cache.blob("acme/nut", "etag");
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "weights").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let cache = &cache;
                scope.spawn(move || {
                    for turn in 0..200 {
                        let commit = format!("{}", turn / 50);
                        let path = cache.place("acme/nut", "etag", &commit, "all/model.safetensors").unwrap();
                        assert_eq!(fs::read_to_string(path).unwrap(), "weights", "thread {thread}, turn {turn}");
                    }
                });
            }
        });
        // Nothing else is left in the folder of the commit.
        assert_eq!(fs::read_dir(cache.snapshot("acme/nut", "0").join("all")).unwrap().count(), 1);
    }
}
