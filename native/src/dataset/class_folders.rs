//! The common layout of MVTec-AD and the data sets that follow it: `CLASS/train/GOOD`, `CLASS/test/KIND`,
//! `CLASS/ground_truth/KIND`, with masks named after the photos.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::files::{name, photos_if_any, stem, subfolders};
use super::{Class, Misfit, Place, TestPhoto};

/// What is specific to one of these data sets.
pub(super) struct ClassFolders {
    /// Name of the folders of good photos.
    pub good: &'static str,
    /// Subfolders of which a class folder has at least one.
    pub signs: &'static [&'static str],
    /// Names of the classes; empty if any name is allowed.
    pub classes: &'static [&'static str],
    /// Finds the masks of photos in a ground-truth folder, in the photos' order.
    pub masks: fn(&Path, &[PathBuf]) -> Result<Masks>,
}

/// Masks of each photo, one or several.
pub(super) type Masks = Vec<Vec<PathBuf>>;

impl ClassFolders {
    /// The class folders in `root`, or `root` if it is one. Empty folders are kept, so that an error can name them.
    pub fn places(&self, root: &Path) -> Result<Vec<Place>, Misfit> {
        let is_class = |folder: &Path| self.signs.iter().any(|sign| folder.join(sign).is_dir());
        let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut list| list.next().is_none());
        let folders = if is_class(root) { vec![root.to_path_buf()] } else { subfolders(root).unwrap_or_default() };
        if !folders.iter().any(|folder| is_class(folder)) {
            let (last, others) = self.signs.split_last().expect("every layout has signs");
            let signs = if others.is_empty() { (*last).into() } else { format!("{} or {last}", others.join(", ")) };
            return Err(format!("no class folders with {signs}"));
        }
        let places = folders.into_iter().filter(|folder| is_class(folder) || is_empty(folder));
        Ok(places.map(|path| Place { name: name(&path), path }).collect())
    }

    /// Lists the photos of a class.
    pub fn open(&self, place: &Place) -> Result<Class> {
        let folder = &place.path;
        if subfolders(folder)?.is_empty() {
            bail!("class folder {} is empty: expected train/{} or test in it", folder.display(), self.good);
        }
        let mut test = Vec::new();
        for kind in subfolders(&folder.join("test"))? {
            let (photos, kind) = (photos_if_any(&kind)?, name(&kind));
            if kind == self.good {
                test.extend(photos.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
            } else {
                let masks = (self.masks)(&folder.join("ground_truth").join(&kind), &photos)?;
                test.extend(defective(&kind, photos, masks));
            }
        }
        let train = photos_if_any(&folder.join("train").join(self.good))?;
        Ok(Class { name: place.name.clone(), folder: folder.clone(), train, test })
    }
}

/// Photos of one kind of defect, and their masks.
pub(super) fn defective(kind: &str, photos: Vec<PathBuf>, masks: Masks) -> impl Iterator<Item = TestPhoto> {
    let photo = |(path, masks)| TestPhoto { path, defect: Some(kind.to_owned()), masks, sample: None };
    photos.into_iter().zip(masks).map(photo)
}

/// The mask of `NAME` is `NAME_mask` or `NAME`, with any extension. If no photo has a mask with its name and there are as many masks
/// as photos, they are paired in alphabetical order, as the official loaders always do.
pub(super) fn by_name(folder: &Path, photos: &[PathBuf]) -> Result<Masks> {
    let masks = photos_if_any(folder)?;
    let by_stem: BTreeMap<String, &PathBuf> = masks.iter().map(|mask| (stem(mask), mask)).collect();
    let of = |photo: &PathBuf| {
        let stem = stem(photo);
        [format!("{stem}_mask"), stem].iter().find_map(|name| by_stem.get(name).copied())
    };
    let found: Vec<Option<&PathBuf>> = photos.iter().map(of).collect();
    if found.iter().all(Option::is_none) && masks.len() == photos.len() {
        return Ok(masks.into_iter().map(|mask| vec![mask]).collect());
    }
    // The expected name of a missing mask follows that of the other masks.
    let plain = found.iter().flatten().any(|mask| !stem(mask).ends_with("_mask"));
    let expected = |photo| folder.join(format!("{}{}.png", stem(photo), if plain { "" } else { "_mask" }));
    Ok(photos.iter().zip(found).map(|(photo, mask)| vec![mask.cloned().unwrap_or_else(|| expected(photo))]).collect())
}
