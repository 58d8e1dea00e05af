//! The cache that all clients of the hub share: `models--OWNER--NAME` with `refs/main`, `blobs/ETAG` and `snapshots/COMMIT/FILE`.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::KnownBackbone;

/// The folder of the cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// Where the token lies, if no variable holds it.
    home: PathBuf,
}

impl Cache {
    /// The cache that the environment names, as Python's client does: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, or `~/.cache`.
    pub(super) fn from_env() -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty()).map(|value| expanded(&value));
        let home = set("HF_HOME").unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").unwrap_or_else(|| expanded("~/.cache"));
            cache.join("huggingface")
        });
        Self { folder: set("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")), home }
    }

    /// The user's token.
    pub(super) fn token(&self) -> Option<String> {
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| env::var(name).ok());
        let token = named.or_else(|| fs::read_to_string(self.home.join("token")).ok())?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// A backbone's file, if it is there.
    pub(super) fn file(&self, backbone: &KnownBackbone) -> Option<PathBuf> {
        let repo = self.repo(backbone);
        let commit = fs::read_to_string(repo.join("refs/main")).ok()?;
        Some(repo.join("snapshots").join(commit.trim()).join(&backbone.file)).filter(|file| file.is_file())
    }

    /// The place of a blob.
    pub(super) fn blob(&self, backbone: &KnownBackbone, etag: &str) -> PathBuf {
        self.repo(backbone).join("blobs").join(etag)
    }

    /// Makes a blob the file of a commit, which becomes the main one.
    ///
    /// # Errors
    /// If the cache cannot be written to.
    pub(super) fn place(&self, backbone: &KnownBackbone, etag: &str, commit: &str) -> io::Result<PathBuf> {
        let repo = self.repo(backbone);
        let file = repo.join("snapshots").join(commit).join(&backbone.file);
        let folder = file.parent().unwrap_or(&repo);
        fs::create_dir_all(folder)?;
        if fs::symlink_metadata(&file).is_ok() {
            fs::remove_file(&file)?;
        }
        let up: PathBuf = folder.strip_prefix(&repo).unwrap_or(folder).components().map(|_| "..").collect();
        let target = up.join("blobs").join(etag);
        // Some file systems have no links.
        if link(&target, &file).is_err() {
            fs::copy(self.blob(backbone, etag), &file)?;
        }
        fs::create_dir_all(repo.join("refs"))?;
        fs::write(repo.join("refs/main"), commit)?;
        Ok(file)
    }

    fn repo(&self, backbone: &KnownBackbone) -> PathBuf {
        self.folder.join(format!("models--{}", backbone.repo.replace('/', "--")))
    }
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
