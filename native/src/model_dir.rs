//! Published models on disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::Error;
#[cfg(feature = "trainer")]
use dinomaly_core::bundle::FileEntry;
use dinomaly_core::bundle::{MANIFEST, Manifest, Model};

#[cfg(feature = "trainer")]
use crate::hub::{self, Address, Hub};
use crate::system::atomic;
use crate::system::ownership::{Content, Entries, Owner};

/// File with a model's training recipe. It is not published, and not in the manifest.
pub const RECIPE: &str = "training.json";

/// File with what a model without training was made of. It is not published, and not in the manifest.
pub const FEW_SHOT: &str = "few-shot.json";

/// A folder is a model if its manifest names every file in it, with its hash.
pub const OWNER: Owner = Owner { what: "a model", manifests: &[MANIFEST], list };

fn list(folder: &Path) -> Result<Entries> {
    let own = |name: &str, accepts| (name.into(), Content::Accepted(accepts));
    let mut entries = Entries::from([
        own(MANIFEST, |bytes| Manifest::parse(bytes).is_ok()),
        own(RECIPE, |bytes| has_keys(bytes, &["config", "settings", "data"])),
        own(FEW_SHOT, |bytes| has_keys(bytes, &["backbone_sha256", "recipe", "photos"])),
    ]);
    let manifest = read_file(folder, MANIFEST).and_then(|bytes| Manifest::parse(&bytes))?;
    entries.extend(manifest.files.into_iter().map(|file| (file.name.into(), Content::Sha256(file.sha256))));
    Ok(entries)
}

fn has_keys(json: &[u8], keys: &[&str]) -> bool {
    let value = serde_json::from_slice::<serde_json::Value>(json).unwrap_or_default();
    keys.iter().all(|key| value.get(key).is_some())
}

/// The folder of a model that is given as its folder or as a place on the hub, `hf:OWNER/NAME`, from where it is fetched unless it is in
/// the hub's cache.
///
/// # Errors
/// As [`Hub::model`].
#[cfg(feature = "trainer")]
pub fn locate(model: &Path) -> Result<PathBuf> {
    match place_on_hub(model) {
        Some(place) => Hub::from_env().model(&Address::parse(place)?),
        None => Ok(model.to_owned()),
    }
}

/// The folder itself: a program without the trainer fetches nothing.
///
/// # Errors
/// If it is a place on the hub.
#[cfg(not(feature = "trainer"))]
pub fn locate(model: &Path) -> Result<PathBuf> {
    match place_on_hub(model) {
        Some(place) => {
            bail!("{place} cannot be fetched by a program that was built without its feature trainer: name a folder")
        }
        None => Ok(model.to_owned()),
    }
}

/// A folder that is called so comes first.
fn place_on_hub(model: &Path) -> Option<&str> {
    model.to_str().filter(|name| name.starts_with("hf:") && !model.exists())
}

/// Reads and checks a model: its folder, or its place on the hub.
///
/// # Errors
/// If it cannot be fetched; if a file or tensor is missing, altered or does not fit; the error names folder, file and tensor.
pub fn read(model: &Path) -> Result<Model> {
    let folder = locate(model)?;
    let read = || -> Result<Model> {
        if !folder.is_dir() {
            bail!("there is no such folder");
        }
        Ok(Model::parse(&mut |name| read_file(&folder, name))?)
    };
    read().map_err(|error| forget_damaged(&folder, error)).with_context(|| unusable(model))
}

/// Reads and checks the manifest of a model folder only: sizes and hashes of its files.
///
/// # Errors
/// As [`read`].
pub fn read_manifest(model: &Path) -> Result<Manifest> {
    let manifest = read_file(&locate(model)?, MANIFEST).and_then(|bytes| Manifest::parse(&bytes));
    manifest.with_context(|| unusable(model))
}

fn unusable(model: &Path) -> String {
    format!("model {} cannot be used", model.display())
}

/// Removes a fetched model's damaged files from the cache, where nobody else would.
#[cfg(feature = "trainer")]
fn forget_damaged(folder: &Path, error: anyhow::Error) -> anyhow::Error {
    if !hub::is_cached(folder) {
        return error;
    }
    let Ok(manifest) = read_file(folder, MANIFEST).and_then(|bytes| Manifest::parse(&bytes)) else {
        return error;
    };
    let is_damaged =
        |entry: &&FileEntry| read_file(folder, &entry.name).and_then(|bytes| entry.verify(&bytes)).is_err();
    let damaged: Vec<&str> = manifest.files.iter().filter(is_damaged).map(|entry| entry.name.as_str()).collect();
    if damaged.is_empty() {
        return error;
    }
    damaged.iter().for_each(|name| hub::forget(&folder.join(name)));
    anyhow::anyhow!("{} was damaged and is removed from the hub's cache: run the command again", damaged.join(", "))
}

#[cfg(not(feature = "trainer"))]
fn forget_damaged(_folder: &Path, error: anyhow::Error) -> anyhow::Error {
    error
}

/// Writes a model folder. An earlier model there is replaced in one step, after the new one is completely on the disk.
///
/// # Errors
/// If the model contradicts itself, the folder holds something other than a model or cannot be written, or the disk is full; the
/// error names the folder. The folder is unchanged then, and no partial files are left.
pub fn write(folder: &Path, model: &Model) -> Result<()> {
    write_with(folder, model, None)
}

/// [`write()`] with one more file.
///
/// # Errors
/// As [`write()`].
pub fn write_with(folder: &Path, model: &Model, file: Option<(&str, Vec<u8>)>) -> Result<()> {
    let write = || -> Result<()> {
        let files = model.to_files()?;
        atomic::replace_folder(folder, &OWNER, |fresh| {
            let own = files.iter().map(|(name, bytes)| (name.as_str(), bytes));
            let further = file.iter().map(|(name, bytes)| (*name, bytes));
            own.chain(further).try_for_each(|(name, bytes)| atomic::write_new(fresh, name, bytes))
        })
    };
    write().with_context(|| format!("model {} was not written and nothing was changed", folder.display()))
}

/// Checks that a model can be written to a folder, before hours of work.
///
/// # Errors
/// As [`write()`].
pub fn check_target(folder: &Path) -> Result<()> {
    OWNER
        .check(folder)
        .and_then(|()| atomic::check_folder(folder))
        .and_then(|()| match folder.file_name().is_some_and(|name| name.to_string_lossy().trim().is_empty()) {
            true => bail!("a model is called by its folder, whose name is blank: name another place"),
            false => Ok(()),
        })
        .with_context(|| format!("no model can be written to {}", folder.display()))
}

fn read_file(folder: &Path, name: &str) -> dinomaly_core::Result<Vec<u8>> {
    fs::read(folder.join(name)).map_err(|e| {
        let reason = match e.kind() {
            ErrorKind::NotFound if name == MANIFEST => "is missing: this is not a model folder".into(),
            ErrorKind::NotFound => "is missing: publish or copy the model again".into(),
            _ => format!("cannot be read: {e}"),
        };
        Error::Model { file: name.into(), reason }
    })
}
