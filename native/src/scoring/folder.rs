//! Files of a folder, whatever their names are: a store's own list ends at the first name that it cannot hold.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use object_store::path::Path as StorePath;
use walkdir::WalkDir;

/// All files below a folder with their paths from there. Links are followed, but for those that lead nowhere or to a folder above them.
///
/// # Errors
/// If a folder cannot be listed.
pub fn files(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).min_depth(1).follow_links(true) {
        let is_nothing = |error: &walkdir::Error| {
            error.loop_ancestor().is_some() || error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound)
        };
        let entry = match entry {
            Ok(entry) if entry.file_type().is_file() => entry,
            Err(error) if !is_nothing(&error) => {
                let place = error.path().unwrap_or(folder).display().to_string();
                let why = error.into_io_error().map_or_else(|| "unknown reason".into(), |error| error.to_string());
                return Err(anyhow!("folder {place} cannot be listed: {why}"));
            }
            _ => continue,
        };
        let metadata = entry.metadata().with_context(|| format!("{} cannot be looked at", entry.path().display()))?;
        found.push((entry.path().strip_prefix(folder)?.to_owned(), metadata));
    }
    Ok(found)
}

/// Names of what is directly in a folder, without those that are not Unicode.
///
/// # Errors
/// If the folder cannot be listed.
pub fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let listed = || fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let names = listed().with_context(|| format!("folder {} cannot be listed", folder.display()))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// The path of a file in a store, its parts from a folder on joined by slashes; or why it has none.
pub fn in_store(path: &Path) -> Result<StorePath, &'static str> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    StorePath::parse(parts.ok_or("is not Unicode")?.join("/")).map_err(|_| "has a control character")
}
