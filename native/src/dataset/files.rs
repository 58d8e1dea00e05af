//! Contents of a folder: photos, subfolders, names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use unicode_normalization::UnicodeNormalization;

use super::words::is_masks;

/// File extensions of photos and masks.
pub const PHOTO_ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "jfif", "jpe", "bmp", "tif", "tiff", "webp"];

/// Extensions of pictures and camera files that are not supported.
const OTHER_ENDINGS: [&str; 18] = [
    "gif", "avif", "heic", "heif", "jp2", "jxl", "tga", "pbm", "pgm", "ppm", "psd", "svg", "raw", "dng", "nef", "cr2",
    "cr3", "arw",
];

/// Ends of the names of masks that lie beside their photos.
const MASK_ENDS: [&str; 2] = ["mask", "gt"];

/// Reason of [`left_out`] for masks that lie beside their photos.
pub(super) const MASKS: &str = "that are masks of others";

/// Number of names that a message lists before it counts the rest.
const LISTED: usize = 6;

/// Photos directly in a folder, in alphabetical order.
///
/// # Errors
/// If the folder cannot be listed.
pub fn photos(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_photo = |path: &Path| has_ending(path, &PHOTO_ENDINGS) && path.is_file();
    Ok(entries(folder)?.into_iter().filter(|path| is_photo(path)).collect())
}

/// Photos in a folder and in all folders below but those of masks, in alphabetical order; empty if there is no such folder.
pub fn photos_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    // A folder that is linked to one above it would never end.
    let mut seen = BTreeSet::new();
    let mut folders = if folder.is_dir() { vec![folder.to_owned()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        if seen.insert(folder.canonicalize().with_context(|| format!("folder {} cannot be listed", folder.display()))?)
        {
            found.extend(photos(&folder)?);
            folders.extend(subfolders(&folder)?.into_iter().filter(|folder| !is_masks(folder)));
        }
    }
    found.sort();
    Ok(found)
}

/// Photos, and the masks among them: `NAME_mask` or `NAME_GT` where a photo `NAME` lies in the same folder.
pub fn without_masks(pictures: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let names = places(&pictures);
    pictures.into_iter().partition(|path| !is_mask_of(&names, path))
}

/// Masks that lie beside these photos, without those of other photos in the same folders.
pub(super) fn masks_beside<'a>(pictures: impl IntoIterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let names = places(pictures);
    let folders: BTreeSet<&PathBuf> = names.iter().map(|(folder, _)| folder).collect();
    let beside = folders.into_iter().filter_map(|folder| photos(folder).ok()).flatten();
    beside.filter(|path| is_mask_of(&names, path)).collect()
}

/// Folders and names of pictures.
fn places<'a>(pictures: impl IntoIterator<Item = &'a PathBuf>) -> BTreeSet<(PathBuf, String)> {
    pictures.into_iter().map(|path| (parent(path), key(path))).collect()
}

fn is_mask_of(photos: &BTreeSet<(PathBuf, String)>, picture: &Path) -> bool {
    photo_of(picture).is_some_and(|photo| photos.contains(&(parent(picture), photo)))
}

/// Name of the photo that a picture called `NAME_mask` or `NAME_GT` is the mask of.
fn photo_of(picture: &Path) -> Option<String> {
    let key = key(picture);
    let (photo, end) = key.rsplit_once('_')?;
    MASK_ENDS.contains(&end).then(|| photo.to_owned())
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// Files that [`photos`] leaves out of a folder and a user may miss, by reason.
///
/// # Errors
/// If the folder cannot be listed.
pub fn left_out(folder: &Path) -> Result<BTreeMap<&'static str, Vec<PathBuf>>> {
    let mut found: BTreeMap<_, Vec<PathBuf>> = BTreeMap::new();
    let (_, masks) = without_masks(photos(folder)?);
    if !masks.is_empty() {
        found.insert(MASKS, masks);
    }
    for path in entries(folder)? {
        if path.is_dir() {
            let below = photos(&path).unwrap_or_default();
            if !below.is_empty() {
                found.entry("in subfolders").or_default().extend(below);
            }
        } else if has_ending(&path, &PHOTO_ENDINGS) && !path.is_file() {
            found.entry("broken links").or_default().push(path);
        } else if has_ending(&path, &OTHER_ENDINGS) {
            found.entry("of an unsupported format").or_default().push(path);
        }
    }
    Ok(found)
}

/// [`photos`]; empty if there is no such folder.
pub(super) fn photos_if_any(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.is_dir() { photos(folder) } else { Ok(Vec::new()) }
}

/// Folders directly in a folder, in alphabetical order; empty if there is no such folder.
pub(super) fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// Sorted contents of a folder, without hidden files (macOS writes `._name.png` files).
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("folder {} cannot be listed", folder.display()))?;
    let mut paths = list.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

/// Whether a file's name ends so, in small letters or capitals.
pub fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    endings.contains(&ending.as_str())
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// [`name`] without its extension.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// [`stem`] to compare names by: accents are letters of their own (NFC), which macOS and archives write apart, and the end that tells
/// a mask is in lower case.
pub(super) fn key(path: &Path) -> String {
    let key: String = path.file_stem().unwrap_or_default().to_string_lossy().nfc().collect();
    match key.rsplit_once('_') {
        Some((photo, end)) if MASK_ENDS.contains(&end.to_lowercase().as_str()) => {
            format!("{photo}_{}", end.to_lowercase())
        }
        _ => key,
    }
}

/// Contents of a folder, for messages: `it holds a, b and 3 more`.
pub(super) fn holds(folder: &Path) -> String {
    match entries(folder) {
        Ok(entries) if entries.is_empty() => "it is empty".into(),
        Ok(entries) => format!("it holds {}", few(&entries.iter().map(|path| name(path)).collect::<Vec<_>>())),
        Err(_) => "it cannot be listed".into(),
    }
}

/// A number with its noun: `1 class`, `2 classes`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first names of a list: `a, b and 3 more`.
pub fn few(names: &[String]) -> String {
    let listed = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED { format!("{listed} and {} more", names.len() - LISTED) } else { listed }
}
