//! Words for folders of good parts, of defects and of masks. Capitals do not count.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::files::{name, subfolders};

const GOOD: [&str; 3] = ["good", "ok", "normal"];
const BAD: [&str; 9] = ["bad", "ng", "ko", "abnormal", "anomaly", "anomalous", "defect", "defects", "defective"];
const MASKS: [&str; 4] = ["masks", "mask", "ground_truth", "gt"];

pub(crate) fn is_good(folder: &Path) -> bool {
    is_one_of(&GOOD, folder)
}

pub(crate) fn is_bad(folder: &Path) -> bool {
    is_one_of(&BAD, folder)
}

pub(super) fn is_masks(folder: &Path) -> bool {
    is_one_of(&MASKS, folder)
}

/// Folders directly in a folder that are called as `is` wants.
pub(super) fn called(folder: &Path, is: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    Ok(subfolders(folder)?.into_iter().filter(|path| is(path)).collect())
}

fn is_one_of(words: &[&str], folder: &Path) -> bool {
    words.contains(&name(folder).to_lowercase().as_str())
}
