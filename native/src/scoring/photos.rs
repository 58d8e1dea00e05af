//! Which photos are to be scored: all of a place, or those of a list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::parts::Shard;
use super::store::{Listed, Place, Stamp};
use crate::dataset::{PHOTO_ENDINGS, has_ending, is_masks, without_masks};

/// Columns of a CSV file that hold paths, in this order of preference.
const COLUMNS: [&str; 4] = ["path", "photo", "image_path", "filename"];

/// A photo that is to be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Its path, from the place of the photos.
    pub path: String,
    /// What is known of its file, or why it cannot be read.
    pub file: Result<Stamp, String>,
}

/// The photos of a shard in alphabetical order, and how many there are in all shards.
///
/// # Errors
/// If the place cannot be listed, the list not be read, or there is no photo at all.
pub fn of(from: &Place, shown: &str, list: Option<&Path>, shard: Shard) -> Result<(Vec<Photo>, usize)> {
    if let Some(list) = list {
        let paths = listed(list)?;
        let all = paths.len();
        let mine: Vec<String> = paths.into_iter().filter(|path| shard.takes(path)).collect();
        let stamps = from.stamps(&mine)?;
        let photo = |(path, stamp): (String, Option<Stamp>)| {
            let file = stamp.ok_or_else(|| format!("photo {path} does not exist"));
            Photo { path, file }
        };
        return Ok((mine.into_iter().zip(stamps).map(photo).collect(), all));
    }
    let found = from.files()?;
    let files = found.len();
    let photos = photos(found);
    let all = photos.len();
    if all == 0 {
        bail!("there are no photos at {shown} ({}): {files} other files are there", PHOTO_ENDINGS.join(", "));
    }
    Ok((photos.into_iter().filter(|photo| shard.takes(&photo.path)).collect(), all))
}

/// The photos among files, without masks and hidden files. How many masks there are is said on standard error.
fn photos(files: Vec<Listed>) -> Vec<Photo> {
    let is_photo = |path: &Path| has_ending(path, &PHOTO_ENDINGS) && !path.iter().any(is_hidden);
    let mut photos: BTreeMap<PathBuf, Result<Stamp, String>> = files.into_iter().collect();
    photos.retain(|path, _| is_photo(path));
    let pictures = photos.len();
    photos.retain(|path, _| !path.ancestors().skip(1).any(is_masks));
    let (_, beside) = without_masks(photos.keys().cloned().collect());
    for mask in beside {
        photos.remove(&mask);
    }
    if photos.len() < pictures {
        eprintln!("dinomaly: left out: {} that are masks of others", pictures - photos.len());
    }
    // Only of a photo that cannot be read is the path no string.
    photos.into_iter().map(|(path, file)| Photo { path: path.to_string_lossy().into_owned(), file }).collect()
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with('.')
}

/// The paths that a file lists, each once, in alphabetical order.
fn listed(list: &Path) -> Result<Vec<String>> {
    let shown = list.display();
    let text = fs::read_to_string(list).with_context(|| format!("list {shown} cannot be read"))?;
    // A byte order mark, which editors of Windows write.
    let text = text.trim_start_matches('\u{feff}');
    let mut paths: Vec<String> = if has_ending(list, &["csv"]) {
        column(text).with_context(|| format!("list {shown} cannot be used"))?
    } else {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    if paths.is_empty() {
        bail!("list {shown} names no photo");
    }
    // One photo may be spelled in several ways.
    for path in &mut paths {
        let plain = path.trim_start_matches("./");
        *path = object_store::path::Path::parse(plain).map_or_else(|_| plain.to_owned(), |path| path.to_string());
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn column(text: &str) -> Result<Vec<String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers()?.clone();
    let place = COLUMNS.iter().find_map(|column| names.iter().position(|name| name.trim() == *column));
    let Some(place) = place else {
        let found: Vec<&str> = names.iter().collect();
        bail!("it has the columns {}, none of which is {}", found.join(", "), COLUMNS.join(", "));
    };
    let rows = reader.records().map(|row| Ok(row?.get(place).unwrap_or_default().trim().to_owned()));
    rows.filter(|path: &Result<String>| !path.as_ref().is_ok_and(String::is_empty)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::store::Version;
    use super::*;

    #[test]
    fn masks_hidden_files_and_results_are_no_photos() {
        let names = [
            "b/2.JPG",
            "a/1.png",
            "a/1_mask.png",
            "a/2_mask.png",
            "b/ground_truth/2.png",
            ".cache/3.png",
            "a/._1.png",
            "part-0-of-1.parquet",
            "readme.txt",
        ];
        let stamp = Stamp { size: 1, version: Version::Changed(0) };
        let found = photos(names.iter().map(|name| (name.into(), Ok(stamp.clone()))).collect());
        let found: Vec<&str> = found.iter().map(|photo| photo.path.as_str()).collect();
        assert_eq!(found, ["a/1.png", "a/2_mask.png", "b/2.JPG"]);
    }

    #[test]
    fn a_list_is_text_or_csv() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            listed(&path).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(list("l.txt", "b.png\r\n\n a, 1.png\nb.png\n").unwrap(), ["a, 1.png", "b.png"]);
        assert_eq!(list("l.txt", "\u{feff}b.png\n./b.png\n/b.png\nb.png/\n").unwrap(), ["b.png"]);
        assert_eq!(list("l.csv", "label,path\n0,b.png\n1,\"a, 1.png\"\n0,\n").unwrap(), ["a, 1.png", "b.png"]);
        assert!(
            list("l.csv", "label,file\n0,b.png\n")
                .unwrap_err()
                .ends_with("it has the columns label, file, none of which is path, photo, image_path, filename")
        );
        assert!(list("empty.txt", "\n").unwrap_err().ends_with("empty.txt names no photo"));
        assert!(listed(Path::new("nowhere.txt")).unwrap_err().to_string().contains("list nowhere.txt cannot be read"));
    }
}
