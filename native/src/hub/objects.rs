//! Contents of files to publish, and the way of large ones: Git LFS with its transfer "basic", one PUT each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::{Digest as _, Sha256};

use super::download::{hex, sha256};
use super::{Failure, Hub, megabytes, patiently};
use crate::system::progress::Progress;

/// Number of bytes of a file that the hub wants to see to decide how it is stored.
const SAMPLE: usize = 512;

/// Most files in one question about their storage or about large contents.
const BATCH: usize = 200;

/// Type of requests of Git LFS.
const LFS: &str = "application/vnd.git-lfs+json";

/// A file to publish.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Path in the repository.
    pub path: String,
    /// What it holds.
    pub content: Content,
}

/// Content of a file to publish.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// A file on disk, for what may be large.
    File(PathBuf),
}

/// An upload with what the hub asks of it.
pub(super) struct Measured<'a> {
    pub(super) upload: &'a Upload,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// How the hub wants files to be stored, by path.
pub(super) type Modes = BTreeMap<String, bool>;

/// What the hub says of a large content.
#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Action,
    #[serde(default)]
    verify: Option<Action>,
}

/// A request that the hub asks for.
#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

impl Upload {
    /// # Errors
    /// If the file cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::File(path) => {
                Ok(fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.len())
            }
        }
    }

    pub(super) fn measured(&self) -> Result<Measured<'_>> {
        let sha256 = match &self.content {
            Content::Bytes(bytes) => hex(&Sha256::digest(bytes)),
            Content::File(path) => sha256(path)?,
        };
        Ok(Measured { upload: self, bytes: self.bytes()?, sha256 })
    }

    fn whole(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::File(path) => fs::read(path).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    fn sample(&self) -> Result<Vec<u8>> {
        let mut sample = Vec::new();
        match &self.content {
            Content::Bytes(bytes) => sample.extend(bytes.iter().take(SAMPLE)),
            Content::File(path) => {
                let file = File::open(path).and_then(|file| file.take(SAMPLE as u64).read_to_end(&mut sample));
                file.with_context(|| format!("{} cannot be read", path.display()))?;
            }
        }
        Ok(sample)
    }
}

impl Measured<'_> {
    /// The name that git gives to the content.
    pub(super) fn git_name(&self) -> Result<String> {
        Ok(git_name(&self.upload.whole()?))
    }

    /// The line of a commit that adds the file: as a whole, or by the name of its content, which was sent before.
    pub(super) fn line(&self, is_large: bool) -> Result<Value> {
        let path = &self.upload.path;
        Ok(if is_large {
            json!({"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": self.sha256, "size": self.bytes}})
        } else {
            let content = BASE64_STANDARD.encode(self.upload.whole()?);
            json!({"key": "file", "value": {"path": path, "encoding": "base64", "content": content}})
        })
    }
}

impl Hub {
    /// Asks which files the hub wants to be stored as large ones.
    ///
    /// # Errors
    /// If it refuses, or says nothing of a file.
    pub(super) fn modes(&self, address: &str, what: &str, files: &[Measured<'_>]) -> Result<Modes> {
        let mut modes = Modes::new();
        for files in files.chunks(BATCH) {
            let described = files.iter().map(|file| {
                let sample = BASE64_STANDARD.encode(file.upload.sample()?);
                Ok(json!({"path": file.upload.path, "sample": sample, "size": file.bytes}))
            });
            let described = described.collect::<Result<Vec<_>>>()?;
            let answer = self.post(address, &json!({ "files": described }))?;
            if !answer.is_fine() {
                return Err(self.refusal(&answer, what));
            }
            for file in answer.json["files"].as_array().into_iter().flatten() {
                if let (Some(path), Some(mode)) = (file["path"].as_str(), file["uploadMode"].as_str()) {
                    modes.insert(path.to_owned(), mode == "lfs");
                }
            }
        }
        for file in files {
            let path = &file.upload.path;
            let mode = modes.get_mut(path);
            let mode = mode.with_context(|| format!("{} does not say how {path} is to be stored", self.name()))?;
            // Large stores refuse contents of no bytes.
            *mode &= file.bytes > 0;
        }
        Ok(modes)
    }

    /// Sends the contents that the hub has not yet, and gives back their size.
    ///
    /// # Errors
    /// If the hub or its store refuses, or the connection keeps breaking.
    pub(super) fn send(&self, address: &str, branch: &str, what: &str, files: &[&Measured<'_>]) -> Result<u64> {
        let mut wanted = Vec::new();
        for files in files.chunks(BATCH) {
            let objects: Vec<Value> =
                files.iter().map(|file| json!({"oid": file.sha256, "size": file.bytes})).collect();
            let question = json!({
                "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects,
                "ref": {"name": branch},
            });
            let answer =
                self.post_as(address, LFS, question.to_string().as_bytes(), |request| request.header("Accept", LFS))?;
            if !answer.is_fine() {
                return Err(self.refusal(&answer, what));
            }
            if let Some(other) = answer.json["transfer"].as_str().filter(|&transfer| transfer != "basic") {
                bail!("{} takes large files by the transfer {other} only, not by Git LFS's basic one", self.name());
            }
            let objects: Vec<Object> = Vec::deserialize(&answer.json["objects"])
                .with_context(|| format!("{} does not answer as Git LFS does", self.name()))?;
            for object in objects {
                let file = files.iter().find(|file| file.sha256 == object.oid);
                let file = file.with_context(|| format!("{} asks for a content of others", self.name()))?;
                if let Some(error) = object.error {
                    bail!("{} does not take {}: {}", self.name(), file.upload.path, error["message"]);
                }
                wanted.extend(object.actions.map(|actions| (*file, actions)));
            }
        }
        let total = wanted.iter().map(|(file, _)| file.bytes).sum();
        let progress = Progress::new("sending", megabytes(total), "MB").shown(megabytes(total) > 0);
        let mut sent = 0;
        for (file, actions) in wanted {
            self.put(file, &actions)?;
            progress.advance(megabytes(sent + file.bytes) - megabytes(sent), String::new);
            sent += file.bytes;
        }
        progress.finish();
        Ok(sent)
    }

    /// Sends one content and has it checked.
    fn put(&self, file: &Measured<'_>, actions: &Actions) -> Result<()> {
        let path = &file.upload.path;
        if actions.upload.header.contains_key("chunk_size") {
            bail!("{} takes {path} in parts only, not by Git LFS's basic transfer", self.name());
        }
        patiently(&format!("{path} could not be sent"), "run the command again; what was sent stays sent", || {
            // Without the token: the address is of the store, and holds its own permission.
            let mut request = self.agent.put(self.here(&actions.upload.href));
            for (name, value) in headers(&actions.upload) {
                request = request.header(name, value);
            }
            let answer = match &file.upload.content {
                Content::Bytes(bytes) => request.send(bytes),
                Content::File(path) => {
                    let opened = File::open(path).with_context(|| format!("{} cannot be read", path.display()));
                    request.send(opened.map_err(Failure::Final)?)
                }
            };
            let status = answer.map_err(|error| Failure::Again(error.into()))?.status();
            match status.as_u16() {
                200..=299 => Ok(()),
                408 | 429 | 500.. => Err(Failure::Again(anyhow!("the store answers {status}"))),
                // An address that was asked for too long ago, too.
                _ => Err(Failure::Final(anyhow!(
                    "the store of large files answers {status} to {path}: run the command again"
                ))),
            }
        })?;
        let Some(verify) = &actions.verify else { return Ok(()) };
        let question = json!({"oid": file.sha256, "size": file.bytes}).to_string();
        let address = self.here(&verify.href);
        let answer = self.answered(|| {
            let mut request = self.agent.post(&address).header("Accept", LFS).header("Content-Type", LFS);
            for (name, value) in headers(verify) {
                request = request.header(name, value);
            }
            let is_signed = verify.header.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
            if is_signed || !address.starts_with(&self.endpoint) { request } else { self.signed(request) }
                .send(&question)
        })?;
        if !answer.is_fine() {
            bail!(
                "{} did not get {path} as it is{}: run the command again",
                self.name(),
                answer.says(self.token.as_deref())
            );
        }
        Ok(())
    }
}

/// The name that git gives to a content.
pub(super) fn git_name(content: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hash.update(content);
    hex(&hash.finalize())
}

/// Headers of a request that are texts.
fn headers(action: &Action) -> impl Iterator<Item = (&str, &str)> {
    action.header.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}
