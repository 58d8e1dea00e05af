//! The encoder that a command is to use: a given one, or the embedded one.

use std::path::Path;

use anyhow::{Context, Result};
use dinomaly_core::model::config::Resampling;
use sha2::{Digest, Sha256};

use super::backbone::{self, Backbone, Told};
use super::{catalogue, embedded};

/// An encoder, and what identifies it.
pub(crate) struct OpenedBackbone {
    pub(crate) backbone: Backbone,
    /// SHA-256 of its files, and of how its position table is resampled, where it is not the usual way.
    pub(crate) hash: Vec<u8>,
}

impl OpenedBackbone {
    /// Opens a backbone by file or name, or else the embedded one.
    ///
    /// # Errors
    /// If a file cannot be read or is no encoder, or the name is unknown.
    pub(crate) fn open(given: Option<&Path>, told: Told) -> Result<Self> {
        let (backbone, hash) = match given {
            Some(given) => {
                let (backbone, file) = catalogue::read(given, told)?;
                let mut hash = Sha256::new();
                for file in backbone::files(&file)? {
                    let bytes = std::fs::read(&file);
                    hash.update(bytes.with_context(|| format!("backbone {} cannot be read", file.display()))?);
                }
                if backbone.config.resampling != Resampling::default() {
                    hash.update(serde_json::to_vec(&backbone.config.resampling)?);
                }
                (backbone, hash.finalize())
            }
            None => {
                let (backbone, bytes) = embedded::read()?;
                (backbone, Sha256::digest(bytes))
            }
        };
        Ok(Self { backbone, hash: hash.to_vec() })
    }
}
