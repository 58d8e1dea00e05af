//! Words for folders of good parts, of defects and of masks. Capitals do not count.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::files::subfolders;
use crate::system::words::is_one_of;
pub(crate) use crate::system::words::{is_bad, is_good};

const MASKS: [&str; 4] = ["masks", "mask", "ground_truth", "gt"];

/// Whether a folder is called as people call folders of masks.
pub(crate) fn is_masks(folder: &Path) -> bool {
    is_one_of(&MASKS, folder)
}

/// Folders directly in a folder that are called as `is` wants.
pub(super) fn called(folder: &Path, is: fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    Ok(subfolders(folder)?.into_iter().filter(|path| is(path)).collect())
}
