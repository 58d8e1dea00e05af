//! One file of a repository → the cache.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result, anyhow, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use ureq::http::Uri;

use super::objects::git_name;
use super::{Failure, Hub, header, megabytes, patiently, without_password};
use crate::system::progress::Progress;

/// Most redirections before the hub's own answer.
const HOPS: usize = 5;

/// What stays as it is in one step of an address.
const STEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A file to fetch.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// `OWNER/NAME` of the model repository.
    pub repo: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// Path in the repository.
    pub file: &'a str,
    /// What it is to the user: a backbone's name, or a model's place.
    pub name: &'a str,
    /// Licence that may have to be accepted first, if it is known.
    pub licence: Option<&'a str>,
}

/// A file in the cache.
pub(super) struct Fetched {
    pub(super) path: PathBuf,
    pub(super) commit: String,
}

/// What the hub says of a file.
struct Described {
    commit: String,
    etag: String,
    /// Address of the content.
    address: String,
}

impl Hub {
    /// The file of an earlier download.
    pub fn cached(&self, repo: &str, revision: &str, file: &str) -> Option<PathBuf> {
        let commit = self.cache.commit_of(repo, revision)?;
        Some(self.cache.snapshot(repo, &commit).join(file)).filter(|file| file.is_file())
    }

    /// Downloads a file, unless it is in the cache. A broken download is resumed, a damaged file is removed.
    ///
    /// # Errors
    /// If the hub refuses, or the file is damaged.
    pub fn fetch(&self, wanted: &Wanted) -> Result<PathBuf> {
        if let Some(path) = self.cached(wanted.repo, wanted.revision, wanted.file) {
            check_sum(&path).inspect_err(|_| super::forget(&path))?;
            return Ok(path);
        }
        self.refuse_offline(wanted.name)?;
        let Fetched { path, commit } = self.download(wanted)?;
        let point = self.cache.point(wanted.repo, wanted.revision, &commit);
        point.with_context(|| format!("the cache of {} cannot be written", wanted.repo))?;
        Ok(path)
    }

    /// # Errors
    /// If the environment forbids downloads.
    pub(super) fn refuse_offline(&self, name: &str) -> Result<()> {
        if self.offline {
            bail!(
                "{name} is not in the cache, and HF_HUB_OFFLINE forbids downloads: unset it, or copy the cache from a machine with \
                 a network"
            );
        }
        Ok(())
    }

    pub(super) fn download(&self, wanted: &Wanted) -> Result<Fetched> {
        let what = format!("{} could not be fetched from {}", wanted.name, self.name());
        patiently(&what, "run the command again to resume", || self.attempt(wanted))
    }

    pub(super) fn attempt(&self, wanted: &Wanted) -> Result<Fetched, Failure> {
        let Described { commit, etag, address } = self.describe(wanted)?;
        let blob = self.cache.blob(wanted.repo, &etag);
        let written = |error: io::Error| {
            Failure::Final(anyhow::Error::new(error).context(format!("{} cannot be written", blob.display())))
        };
        if !is_whole(&blob, &etag) {
            let part = blob.with_extension("part");
            fs::create_dir_all(part.parent().unwrap_or(Path::new("."))).map_err(written)?;
            let lock = File::options().create(true).append(true).open(&part).map_err(written)?;
            // Where files cannot be locked, two downloads at a time spoil each other's part, which the checksum finds.
            if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
                static SAID: Once = Once::new();
                SAID.call_once(|| {
                    eprintln!("dinomaly: another program is downloading {}: waiting for it", wanted.name);
                });
                lock.lock().map_err(written)?;
            }
            // The other program may have finished it.
            if !is_whole(&blob, &etag) {
                self.receive(&address, &part, wanted)?;
                if let Err(error) = compare(&part, &etag) {
                    lock.set_len(0).map_err(written)?;
                    let place = format!("{} of {}", wanted.file, wanted.repo);
                    return Err(Failure::Final(error.context(format!("{place} is not kept"))));
                }
                fs::rename(&part, &blob).map_err(written)?;
            }
        }
        let path = self.cache.place(wanted.repo, &etag, &commit, wanted.file).map_err(written)?;
        Ok(Fetched { path, commit })
    }

    /// Asks for commit, checksum and address of the content, which the hub says before it sends elsewhere.
    fn describe(&self, wanted: &Wanted) -> Result<Described, Failure> {
        let mut address =
            format!("{}/{}/resolve/{}/{}", self.endpoint, wanted.repo, step(wanted.revision), steps(wanted.file));
        for _ in 0..HOPS {
            let request = self.signed(self.stepping.head(&address)).header("Accept-Encoding", "identity");
            let answer = request.call().map_err(|error| self.broken(error))?;
            self.refused(answer.status(), answer.headers(), wanted)?;
            let headers = answer.headers();
            let location = header(headers, "location");
            let etag = header(headers, "x-linked-etag").or(header(headers, "etag"));
            if let (Some(commit), Some(etag)) = (header(headers, "x-repo-commit"), etag) {
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
    fn receive(&self, address: &str, part: &Path, wanted: &Wanted) -> Result<(), Failure> {
        let cannot = |error: io::Error| {
            Failure::Final(anyhow::Error::new(error).context(format!("{} cannot be written", part.display())))
        };
        let mut file = File::options().append(true).open(part).map_err(cannot)?;
        let mut have = file.metadata().map_err(cannot)?.len();
        let mut request = self.signed(self.agent.get(address)).header("Accept-Encoding", "identity");
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let answer = request.call().map_err(|error| self.broken(error))?;
        if answer.status() == 416 {
            // The part is as long as the file, or longer: a process was killed between its last byte and the renaming.
            file.set_len(0).map_err(cannot)?;
            return Err(Failure::Again(anyhow!("a part of the file was too long")));
        }
        self.refused(answer.status(), answer.headers(), wanted)?;
        if answer.status() != 206 {
            file.set_len(0).map_err(cannot)?;
            have = 0;
        }
        let length = header(answer.headers(), "content-length").and_then(|length| length.parse::<u64>().ok());
        let total = length.map_or(0, |length| megabytes(have + length));
        let progress = Progress::new("fetching", total, "MB").shown(length.is_none() || total > 0);
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
}

/// One step of an address, whose slashes are part of it.
pub(super) fn step(text: &str) -> String {
    utf8_percent_encode(text, STEP).to_string()
}

/// A path as several steps.
pub(super) fn steps(path: &str) -> String {
    path.split('/').map(step).collect::<Vec<_>>().join("/")
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
    Some(without_password(uri.authority()?.as_str()))
}

/// Whether a blob is there and has the content that it is called after. Small files have git's name of their content, large ones its
/// SHA-256; a mirror may call them otherwise, which says nothing.
fn is_whole(blob: &Path, etag: &str) -> bool {
    if etag.len() == 40 && is_hash(etag) {
        // A mirror's name may be another hash of 40 digits: the file, which is small, is fetched again then.
        return fs::read(blob).is_ok_and(|bytes| git_name(&bytes) == etag.to_lowercase());
    }
    blob.is_file() && compare(blob, etag).is_ok()
}

/// Compares a large file of the cache with its checksum, which is the name of its blob.
fn check_sum(path: &Path) -> Result<()> {
    let blob = path.canonicalize().with_context(|| format!("{} cannot be read", path.display()))?;
    let compared = compare(&blob, &blob.file_name().unwrap_or_default().to_string_lossy());
    compared.with_context(|| format!("{} is not kept", path.display()))
}

/// Compares a file with its SHA-256. The names of small files are git's hashes, and copies have the file's own name: these are not
/// compared.
fn compare(file: &Path, name: &str) -> Result<()> {
    let expected = name.to_lowercase();
    if expected.len() != 64 || !is_hash(&expected) {
        return Ok(());
    }
    let found = sha256(file)?;
    if found != expected {
        bail!(
            "SHA-256 is {found}, expected {expected}: the download is damaged, and was removed; run the command again"
        );
    }
    Ok(())
}

fn is_hash(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    io::copy(&mut file, &mut HashWriter(&mut hash)).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(hex(&hash.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
