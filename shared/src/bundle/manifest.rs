//! `manifest.json`: size and hash of every file of a model folder, so that altered or incomplete files are never used.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BTreeSet, SelfTest, from_json};
use crate::model::config::Architecture;
use crate::tensor::StorageType;
use crate::{Error, Result};

/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";

/// Newest version of the published-model format. Version 2 added models without training.
pub const FORMAT_VERSION: u32 = 2;

/// Version that a model is written in: the oldest one that can hold it, so that older programs read it, too.
pub(super) fn version_of(architecture: &Architecture) -> u32 {
    match architecture {
        Architecture::Dinomaly(_) => 1,
        Architecture::Memory(_) => 2,
    }
}

/// Number of hexadecimal digits of the SHA-256 in a shard's name.
const NAME_DIGITS: usize = 16;

/// Content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format, up to [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name of the model, for people.
    pub name: String,
    /// Product classes, in alphabetical order.
    pub classes: Vec<String>,
    /// All files of the folder except this one.
    pub files: Vec<FileEntry>,
    /// See [`SelfTest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
}

/// Entry for a file of a model folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Name inside the folder, not a path.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Kind of content.
    pub kind: Kind,
    /// Most compact storage type among a shard's tensors; `None` for files without tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<StorageType>,
}

/// Kind of content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `config.json`.
    Config,
    /// `preprocessor_config.json`.
    Preprocessor,
    /// `calibration.json`.
    Calibration,
    /// `README.md`.
    Card,
    /// Tensors of the frozen encoder.
    Encoder,
    /// Tensors of the bottleneck and decoder.
    Head,
}

impl Kind {
    /// Name of the file; for shards, the beginning of their names.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Config => "config.json",
            Self::Preprocessor => "preprocessor_config.json",
            Self::Calibration => "calibration.json",
            Self::Card => "README.md",
            Self::Encoder => "encoder",
            Self::Head => "head",
        }
    }

    /// Whether files of this kind hold tensors. There may be several of them.
    pub fn is_shard(self) -> bool {
        matches!(self, Self::Encoder | Self::Head)
    }

    /// Kind of shard that a tensor belongs to.
    pub(super) fn of_tensor(name: &str) -> Self {
        if name.starts_with("encoder.") { Self::Encoder } else { Self::Head }
    }
}

impl Manifest {
    /// The files that hold tensors.
    pub fn shards(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(|entry| entry.kind.is_shard())
    }

    /// Whether the manifest says that linear layers of a shard are stored in this type.
    pub fn stores(&self, storage: StorageType) -> bool {
        self.shards().any(|entry| entry.dtype == Some(storage))
    }

    /// Parses and checks `manifest.json`.
    ///
    /// # Errors
    /// [`Error::Model`] naming the unknown, missing or contradictory entry.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        /// Read first, because another version may differ in everything else.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = from_json(MANIFEST, bytes)?;
        if !(1..=FORMAT_VERSION).contains(&format_version) {
            return Err(refuse(format!(
                "format version {format_version} is not known, this program reads versions 1 to {FORMAT_VERSION}: \
                 update the program or publish the model again"
            )));
        }
        let manifest: Self = from_json(MANIFEST, bytes)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Total size of the listed files in bytes, for progress bars.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The only file of a kind.
    pub(super) fn only(&self, kind: Kind) -> Result<&FileEntry> {
        let mut of_kind = self.files.iter().filter(|file| file.kind == kind);
        match (of_kind.next(), of_kind.next()) {
            (Some(file), None) => Ok(file),
            (first, _) => {
                let count = if first.is_none() { "no" } else { "more than one" };
                Err(refuse(format!("lists {count} {}", kind.file_name())))
            }
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.name.trim().is_empty() {
            return Err(refuse("the model has no name".into()));
        }
        for kind in [Kind::Config, Kind::Preprocessor, Kind::Calibration, Kind::Card] {
            self.only(kind)?;
        }
        for file in &self.files {
            file.validate()?;
        }
        for kind in [Kind::Encoder, Kind::Head] {
            let shards: Vec<&FileEntry> = self.files.iter().filter(|file| file.kind == kind).collect();
            if shards.is_empty() {
                return Err(refuse(format!("lists no {} shard", kind.file_name())));
            }
            for (i, shard) in shards.iter().enumerate() {
                // Names are fixed by content, so that none can point outside of the folder or poison a cache.
                let expected = shard_name(kind, &shard.sha256, i + 1, shards.len());
                if shard.name != expected {
                    return Err(refuse(format!(
                        "lists {}, expected {expected} from its content and order",
                        shard.name
                    )));
                }
            }
        }
        let mut names = BTreeSet::new();
        match self.files.iter().find(|file| !names.insert(&file.name)) {
            Some(twice) => Err(refuse(format!("lists {} twice", twice.name))),
            None => self.self_test.as_ref().map_or(Ok(()), SelfTest::validate).map_err(|e| e.in_file(MANIFEST)),
        }
    }
}

impl FileEntry {
    /// Entry for a file with this content.
    pub(super) fn of(name: String, kind: Kind, dtype: Option<StorageType>, bytes: &[u8]) -> Self {
        Self { name, bytes: bytes.len() as u64, sha256: sha256(bytes), kind, dtype }
    }

    /// Checks a file's content. A card may differ: it changes no result, and hosts of models let their users edit it.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file, if its size or hash differs.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        if self.kind == Kind::Card {
            return Ok(());
        }
        let refuse = |reason: String| Err(Error::Model { file: self.name.clone(), reason });
        if bytes.len() as u64 != self.bytes {
            return refuse(format!(
                "has {} bytes instead of {}: it is truncated or altered, fetch it again",
                bytes.len(),
                self.bytes
            ));
        }
        let found = sha256(bytes);
        if found != self.sha256 {
            return refuse(format!(
                "has sha256 {found} instead of {}: it is altered or damaged, fetch it again",
                self.sha256
            ));
        }
        Ok(())
    }

    fn validate(&self) -> Result<()> {
        let Self { name, sha256, kind, dtype, .. } = self;
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refuse(format!("{name}: {sha256:?} is no sha256, expected 64 lower-case hexadecimal digits")));
        }
        if !kind.is_shard() && name != kind.file_name() {
            return Err(refuse(format!("lists {name}, but a file of this kind is named {}", kind.file_name())));
        }
        if kind.is_shard() != dtype.is_some() {
            let needs = if kind.is_shard() { "needs a" } else { "has no" };
            return Err(refuse(format!("{name}: a file of this kind {needs} dtype")));
        }
        Ok(())
    }
}

/// Name of shard `i` (from 1) of `n`.
pub(super) fn shard_name(kind: Kind, sha256: &str, i: usize, n: usize) -> String {
    format!("{}-{}-{i:05}-of-{n:05}.safetensors", kind.file_name(), &sha256[..NAME_DIGITS])
}

/// SHA-256 as 64 lower-case hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn refuse(reason: String) -> Error {
    Error::Model { file: MANIFEST.into(), reason }
}
