//! Downloads from the hub, with its own client and its usual variables: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN,
//! HF_HUB_OFFLINE.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::KnownBackbone;

/// Number of times that a broken download is resumed.
const RETRIES: u32 = 5;

/// First pause between attempts; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// The hub and its local cache.
pub struct Hub {
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// The hub that the environment configures.
    pub fn from_env() -> Self {
        let cache = env::var("HF_HUB_CACHE").map_or_else(|_| Cache::from_env(), |folder| Cache::new(folder.into()));
        let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        Self { cache, offline: ["1", "true", "yes", "on"].contains(&offline.as_str()) }
    }

    /// The file of a downloaded backbone.
    pub fn cached(&self, backbone: &KnownBackbone) -> Option<PathBuf> {
        self.cache.repo(repo(backbone)).get(&backbone.file)
    }

    /// Downloads a backbone, unless it is in the cache, and verifies its checksum and the encoder in it. A broken download is
    /// resumed; a wrong file is removed.
    ///
    /// # Errors
    /// If the hub refuses, or the file is wrong.
    pub fn fetch(&self, backbone: &KnownBackbone) -> Result<PathBuf> {
        backbone.refuse_page()?;
        let path = match self.cached(backbone) {
            Some(path) => path,
            None if self.offline => bail!(
                "{} is not in the cache, and HF_HUB_OFFLINE forbids downloads: unset it, or copy the cache from a machine with a network",
                backbone.name
            ),
            None => self.download(backbone)?,
        };
        if let Err(error) = check_sum(&path).and_then(|()| backbone.open(&path).map(|_| ())) {
            // Removed, so that the next attempt does not find it.
            if let Ok(blob) = path.canonicalize() {
                let _ = fs::remove_file(blob);
            }
            let _ = fs::remove_file(&path);
            return Err(error.context(format!("the hub's file for {} was removed", backbone.name)));
        }
        Ok(path)
    }

    fn download(&self, backbone: &KnownBackbone) -> Result<PathBuf> {
        let mut builder = ApiBuilder::from_cache(self.cache.clone());
        let endpoint = env::var("HF_ENDPOINT").ok();
        if let Some(endpoint) = &endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').into());
        }
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| env::var(name).ok());
        let token = token.filter(|token| !token.is_empty()).or_else(|| self.cache.token());
        let has_token = token.is_some();
        let api = builder.with_token(token).build().context("the hub's client cannot be made")?;
        let hub = endpoint.as_deref().unwrap_or("the hub");
        let explained = |error| explain(error, backbone, hub, has_token);
        // Retries happen here, because those of the client forget the part before them and append the file's beginning to it:
        // findings/hf-hub-retry-appends.sh.
        for retry in 0..RETRIES {
            match api.repo(repo(backbone)).get(&backbone.file) {
                Ok(path) => return Ok(path),
                Err(error) if is_past_the_end(&error) => self.discard_part(backbone).map_err(explained)?,
                Err(error) if status(&error).is_some_and(|status| status < 500) => return Err(explained(error)),
                Err(_) => std::thread::sleep(FIRST_PAUSE * 2u32.pow(retry)),
            }
        }
        api.repo(repo(backbone)).get(&backbone.file).map_err(explained)
    }

    /// Removes the rests of broken downloads.
    fn discard_part(&self, backbone: &KnownBackbone) -> Result<(), ApiError> {
        let blobs = self.cache.path().join(repo(backbone).folder_name()).join("blobs");
        for entry in fs::read_dir(blobs)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn repo(backbone: &KnownBackbone) -> Repo {
    Repo::new(backbone.repo.clone(), RepoType::Model)
}

/// Whether a broken download is as long as the file or longer, because a process was killed between its last byte and its renaming.
/// It cannot be resumed: the client would ask for bytes after the end for ever (findings/hf-hub-complete-part.sh).
fn is_past_the_end(error: &ApiError) -> bool {
    matches!(error, ApiError::InvalidResume) || status(error) == Some(416)
}

/// HTTP status of a refused request.
fn status(error: &ApiError) -> Option<u16> {
    let ApiError::RequestError(request) = error else { return None };
    match request.as_ref() {
        ureq::Error::StatusCode(status) => Some(*status),
        _ => None,
    }
}

/// An error of the client, in words that help the user.
fn explain(error: ApiError, backbone: &KnownBackbone, hub: &str, has_token: bool) -> anyhow::Error {
    let KnownBackbone { name, repo, file, .. } = backbone;
    match status(&error) {
        Some(401 | 403) if has_token => anyhow!(
            "{hub} refuses {name} to this token: accept the licence ({}) on the page of {repo}, and check the token",
            backbone.licence
        ),
        Some(401 | 403) => anyhow!(
            "{hub} gives {name} only to users who accepted its licence ({}): accept it on the page of {repo} and set HF_TOKEN",
            backbone.licence
        ),
        Some(404) => anyhow!("{hub} has no file {file} in {repo}: check HF_ENDPOINT"),
        _ => anyhow!("{name} could not be fetched from {hub} ({error}): run the command again to resume"),
    }
}

/// Compares a large file with its checksum, which is its name in the hub's cache.
fn check_sum(path: &Path) -> Result<()> {
    let blob = path.canonicalize().with_context(|| format!("{} cannot be read", path.display()))?;
    let expected = blob.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    // The names of small files are git's hashes.
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut hash = Sha256::new();
    let mut file = File::open(&blob).with_context(|| format!("{} cannot be read", blob.display()))?;
    std::io::copy(&mut file, &mut HashWriter(&mut hash))
        .with_context(|| format!("{} cannot be read", blob.display()))?;
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        bail!("{} has SHA-256 {found}, expected {expected}: the download is damaged", path.display());
    }
    Ok(())
}

/// A writer that hashes.
struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
