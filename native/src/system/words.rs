//! Words for folders of good and of bad parts. Capitals do not count.

use std::path::Path;

const GOOD: [&str; 3] = ["good", "ok", "normal"];
const BAD: [&str; 9] = ["bad", "ng", "ko", "abnormal", "anomaly", "anomalous", "defect", "defects", "defective"];

pub(crate) fn is_good(folder: &Path) -> bool {
    is_one_of(&GOOD, folder)
}

pub(crate) fn is_bad(folder: &Path) -> bool {
    is_one_of(&BAD, folder)
}

/// Whether a folder has one of these names.
pub(crate) fn is_one_of(words: &[&str], folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| words.contains(&name.to_string_lossy().to_lowercase().as_str()))
}
