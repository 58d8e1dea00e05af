//! Downloads from the hub or a mirror, with the usual variables: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE.
//!
//! Not by the hub's client for Rust: it cannot finish a download that was killed at its last byte, appends a whole file to a part
//! of it (findings/hf-hub-complete-part.sh, findings/hf-hub-retry-appends.sh), and needs mirrors that answer ranges.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::KnownBackbone;
use super::cache::Cache;
use crate::system::progress::Progress;

/// The hub itself.
const HUB: &str = "https://huggingface.co";

/// Number of times that a broken download is resumed.
const RETRIES: u32 = 5;

/// First pause between attempts; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// Longest wait for a connection, and for the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most redirections before the hub's own answer.
const HOPS: usize = 5;

/// The hub and its local cache.
pub struct Hub {
    cache: Cache,
    endpoint: String,
    offline: bool,
}

/// What the hub says of a file.
struct Described {
    commit: String,
    etag: String,
    /// Address of the content.
    address: String,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed.
    Again(anyhow::Error),
    /// It will not.
    Final(anyhow::Error),
}

impl Hub {
    /// The hub that the environment configures.
    pub fn from_env() -> Self {
        let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        let endpoint = env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| HUB.into()).trim_end_matches('/').to_owned();
        Self { cache: Cache::from_env(), endpoint, offline: ["1", "true", "yes", "on"].contains(&offline.as_str()) }
    }

    /// The file of a downloaded backbone.
    pub fn cached(&self, backbone: &KnownBackbone) -> Option<PathBuf> {
        self.cache.file(backbone)
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
        let (name, hub) = (&backbone.name, self.name());
        let mut pause = FIRST_PAUSE;
        for retry in 0.. {
            match self.attempt(backbone) {
                Ok(path) => return Ok(path),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error)) if retry == RETRIES => {
                    return Err(anyhow!(
                        "{name} could not be fetched from {hub} ({error:#}): run the command again to resume"
                    ));
                }
                Err(Failure::Again(_)) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn attempt(&self, backbone: &KnownBackbone) -> Result<PathBuf, Failure> {
        let Described { commit, etag, address } = self.describe(backbone)?;
        let blob = self.cache.blob(backbone, &etag);
        let written = |error: io::Error| {
            Failure::Final(anyhow::Error::new(error).context(format!("{} cannot be written", blob.display())))
        };
        if !blob.is_file() {
            let part = blob.with_extension("part");
            fs::create_dir_all(part.parent().unwrap_or(Path::new("."))).map_err(written)?;
            let lock = File::options().create(true).append(true).open(&part).map_err(written)?;
            // Where files cannot be locked, two downloads at a time spoil each other's part, which the checksum finds.
            if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                return Err(Failure::Final(anyhow!(
                    "another program is downloading {} already: wait for it",
                    backbone.name
                )));
            }
            self.receive(&address, &part, backbone)?;
            fs::rename(&part, &blob).map_err(written)?;
        }
        self.cache.place(backbone, &etag, &commit).map_err(written)
    }

    /// Asks for commit, checksum and address of the content, which the hub says before it sends elsewhere.
    fn describe(&self, backbone: &KnownBackbone) -> Result<Described, Failure> {
        let mut address = format!("{}/{}/resolve/main/{}", self.endpoint, backbone.repo, backbone.file);
        let agent = agent(0);
        for _ in 0..HOPS {
            let mut request = agent.head(&address).header("Accept-Encoding", "identity");
            if let Some(token) = self.cache.token() {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let answer = request.call().map_err(|error| Failure::Again(error.into()))?;
            self.refused(&answer, backbone)?;
            let headers = answer.headers();
            let location = text(headers, "location");
            let (commit, etag) =
                (text(headers, "x-repo-commit"), text(headers, "x-linked-etag").or(text(headers, "etag")));
            if let (Some(commit), Some(etag)) = (commit, etag) {
                let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
                let is_name =
                    |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if !is_name(&etag) || !is_name(commit) {
                    return Err(Failure::Final(anyhow!("{} answers with a strange checksum or commit", self.name())));
                }
                return Ok(Described { commit: commit.to_owned(), etag, address });
            }
            let Some(next) = location.and_then(|next| joined(&address, next)) else {
                return Err(Failure::Final(anyhow!(
                    "{} is no mirror of the hub: its answer has no X-Repo-Commit or no ETag; check HF_ENDPOINT",
                    self.name()
                )));
            };
            if host(&next) != host(&self.endpoint) {
                return Err(Failure::Final(anyhow!(
                    "{} sends to another host, {}, before it says what the file is: set HF_ENDPOINT to that",
                    self.name(),
                    host(&next).unwrap_or_default()
                )));
            }
            address = next;
        }
        Err(Failure::Final(anyhow!("{} sends from address to address", self.name())))
    }

    /// Fetches what a part lacks; a server that knows no ranges sends everything.
    fn receive(&self, address: &str, part: &Path, backbone: &KnownBackbone) -> Result<(), Failure> {
        let cannot = |error: io::Error| {
            Failure::Final(anyhow::Error::new(error).context(format!("{} cannot be written", part.display())))
        };
        let mut file = File::options().append(true).open(part).map_err(cannot)?;
        let mut have = file.metadata().map_err(cannot)?.len();
        let mut request = agent(10).get(address).header("Accept-Encoding", "identity");
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        if let Some(token) = self.cache.token() {
            // Not sent on to the host that the content lies on.
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let answer = request.call().map_err(|error| Failure::Again(error.into()))?;
        if answer.status() == 416 {
            // The part is as long as the file, or longer: a process was killed between its last byte and the renaming.
            file.set_len(0).map_err(cannot)?;
            return Err(Failure::Again(anyhow!("a part of the file was too long")));
        }
        self.refused(&answer, backbone)?;
        if answer.status() != 206 {
            file.set_len(0).map_err(cannot)?;
            have = 0;
        }
        let length = text(answer.headers(), "content-length").and_then(|length| length.parse::<u64>().ok());
        let progress = Progress::new("fetching", length.map_or(0, |length| megabytes(have + length)), "MB");
        progress.advance(megabytes(have), String::new);
        let mut body = answer.into_body().into_reader();
        let (mut buffer, mut received) = (vec![0; 1 << 16], 0);
        loop {
            let count = body.read(&mut buffer).map_err(|error| Failure::Again(error.into()))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(cannot)?;
            progress.advance(megabytes(received + have + count as u64) - megabytes(received + have), String::new);
            received += count as u64;
        }
        progress.finish();
        if length.is_some_and(|length| received < length) {
            return Err(Failure::Again(anyhow!("the connection broke off")));
        }
        file.sync_all().map_err(cannot)
    }

    /// A refusal, in words that help the user.
    fn refused(&self, answer: &Response<Body>, backbone: &KnownBackbone) -> Result<(), Failure> {
        let KnownBackbone { name, repo, file, licence, .. } = backbone;
        let (hub, status) = (self.name(), answer.status().as_u16());
        let reason = match status {
            200..=399 => return Ok(()),
            401 | 403 if self.cache.token().is_some() => format!(
                "{hub} refuses {name} to this token: accept the licence ({licence}) on the page of {repo}, and check the token"
            ),
            401 | 403 => format!(
                "{hub} gives {name} only to users who accepted its licence ({licence}): accept it on the page of {repo} and set HF_TOKEN"
            ),
            404 => format!("{hub} has no file {file} in {repo}: check HF_ENDPOINT"),
            408 | 429 | 500.. => return Err(Failure::Again(anyhow!("it answers {}", answer.status()))),
            _ => format!("{hub} answers {} when asked for {name}", answer.status()),
        };
        Err(Failure::Final(anyhow!(reason)))
    }

    fn name(&self) -> &str {
        if self.endpoint == HUB { "the hub" } else { &self.endpoint }
    }
}

/// A client that follows so many redirections, and trusts the authorities that this machine trusts (SSL_CERT_FILE, too).
fn agent(redirects: u32) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .build();
    config.into()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An address that may leave out its host.
fn joined(address: &str, next: &str) -> Option<String> {
    if next.contains("://") {
        return Some(next.to_owned());
    }
    let uri: Uri = address.parse().ok()?;
    next.starts_with('/').then(|| {
        format!("{}://{}{next}", uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |a| a.as_str()))
    })
}

fn host(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    Some(uri.authority()?.as_str().to_owned())
}

fn megabytes(bytes: u64) -> usize {
    (bytes >> 20) as usize
}

/// Compares a large file with its checksum, which is its name in the hub's cache.
fn check_sum(path: &Path) -> Result<()> {
    let blob = path.canonicalize().with_context(|| format!("{} cannot be read", path.display()))?;
    let expected = blob.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    // The names of small files are git's hashes, and copies have the file's own name.
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut hash = Sha256::new();
    let mut file = File::open(&blob).with_context(|| format!("{} cannot be read", blob.display()))?;
    io::copy(&mut file, &mut HashWriter(&mut hash)).with_context(|| format!("{} cannot be read", blob.display()))?;
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != expected {
        bail!("{} has SHA-256 {found}, expected {expected}: the download is damaged", path.display());
    }
    Ok(())
}

/// A writer that hashes.
struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
