//! Published models on disk.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use dinomaly_core::Error;
use dinomaly_core::bundle::{MANIFEST, Manifest, Model};

use crate::system::atomic;
use crate::system::ownership::{Content, Entries, Owner};

/// Name of the file that says what a model was trained with. It is not published and stands in no manifest.
pub const RECIPE: &str = "training.json";

/// A folder is a model's if its manifest names everything in it, with its hash.
pub const OWNER: Owner = Owner { what: "a model", list };

fn list(folder: &Path) -> Result<Entries> {
    let own = |name: &str, accepts| (name.into(), Content::Accepted(accepts));
    let mut entries = Entries::from([
        own(MANIFEST, |bytes| Manifest::parse(bytes).is_ok()),
        own(RECIPE, |bytes| {
            let recipe = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
            ["config", "settings", "data"].iter().all(|key| recipe.get(key).is_some())
        }),
    ]);
    let manifest = read_file(folder, MANIFEST).and_then(|bytes| Manifest::parse(&bytes))?;
    entries.extend(manifest.files.into_iter().map(|file| (file.name.into(), Content::Sha256(file.sha256))));
    Ok(entries)
}

/// Reads and checks a model folder.
///
/// # Errors
/// Naming the folder, and the file and tensor in it that is missing, altered or does not fit.
pub fn read(folder: &Path) -> Result<Model> {
    let read = || -> Result<Model> {
        if !folder.is_dir() {
            bail!("there is no such folder");
        }
        Ok(Model::parse(&mut |name| read_file(folder, name))?)
    };
    read().with_context(|| format!("model {} cannot be used", folder.display()))
}

/// Reads and checks only the manifest of a model folder: sizes and hashes of its files.
///
/// # Errors
/// As [`read`].
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    read_file(folder, MANIFEST)
        .and_then(|bytes| Manifest::parse(&bytes))
        .with_context(|| format!("model {} cannot be used", folder.display()))
}

/// Writes a model folder. An earlier model there is replaced in one step, after the new one is whole and on the disk.
///
/// # Errors
/// Naming the folder, if the model contradicts itself, if something else than a model is in its place, if the place
/// cannot be written to or if the disk is full. What was there is unchanged then, and nothing half-written stays.
pub fn write(folder: &Path, model: &Model) -> Result<()> {
    write_with(folder, model, None)
}

/// [`write()`], with a further file beside the model's own.
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
    write().with_context(|| format!("model {} was not written, nothing was changed", folder.display()))
}

/// Checks that a model could be written there, before hours are spent on making it.
///
/// # Errors
/// As [`write()`].
pub fn check_target(folder: &Path) -> Result<()> {
    OWNER
        .check(folder)
        .and_then(|()| atomic::check_folder(folder))
        .with_context(|| format!("no model can be written to {}", folder.display()))
}

fn read_file(folder: &Path, name: &str) -> dinomaly_core::Result<Vec<u8>> {
    fs::read(folder.join(name)).map_err(|e| {
        let reason = match e.kind() {
            ErrorKind::NotFound if name == MANIFEST => "is missing: this is no model folder".into(),
            ErrorKind::NotFound => "is missing: publish or copy the model again".into(),
            _ => format!("cannot be read: {e}"),
        };
        Error::Model { file: name.into(), reason }
    })
}
