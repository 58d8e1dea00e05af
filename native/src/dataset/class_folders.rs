//! The common layout of MVTec-AD and the data sets that follow it: `CLASS/train/GOOD`, `CLASS/test/KIND`,
//! `CLASS/ground_truth/KIND`, with masks named after the photos.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::files::{key, name, photos_below, photos_if_any, stem, subfolders, without_masks};
use super::words::{called, is_good};
use super::{Class, ClassFolder, Misfit, TestPhoto};

/// What is specific to one of these data sets.
pub(super) struct ClassFolders {
    /// Name of the folders of good photos, for messages; all of [`super::words`] are taken.
    pub good: &'static str,
    /// Subfolders of which a class folder has at least one.
    pub signs: &'static [&'static str],
    /// Names of the classes; empty if any name is allowed.
    pub classes: &'static [&'static str],
    /// Finds the masks of photos of one kind, in the photos' order.
    pub masks: fn(&Kind) -> Result<Masks>,
}

/// Photos of one kind of defect, and what may be their masks.
pub(super) struct Kind<'a> {
    /// Folder of the photos.
    pub folder: &'a Path,
    /// Photos in it and in folders below.
    pub photos: &'a [PathBuf],
    /// Masks that lie beside the photos.
    pub beside: &'a [PathBuf],
    /// Folder of masks.
    pub masks: &'a Path,
    /// Whether masks may lie below it.
    pub deep: bool,
}

/// Masks of each photo, one or several.
pub(super) type Masks = Vec<Vec<PathBuf>>;

impl ClassFolders {
    /// The class folders in `root`, or `root` if it is one. Empty folders are kept, so that an error can name them.
    pub fn places(&self, root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
        places(self.signs, root)
    }

    /// Lists the photos of a class.
    pub fn open(&self, place: &ClassFolder) -> Result<Class> {
        let folder = &place.path;
        if subfolders(folder)?.is_empty() {
            bail!("class folder {} is empty: expected train/{} or test in it", folder.display(), self.good);
        }
        let mut test = Vec::new();
        for kind in subfolders(&folder.join("test"))? {
            let (photos, beside) = without_masks(photos_below(&kind)?);
            if is_good(&kind) {
                test.extend(photos.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
            } else {
                let masks = folder.join("ground_truth").join(name(&kind));
                let masks =
                    (self.masks)(&Kind { folder: &kind, photos: &photos, beside: &beside, masks: &masks, deep: true })?;
                test.extend(defective(&name(&kind), photos, masks));
            }
        }
        Ok(Class { name: place.name.clone(), folder: folder.clone(), train: good_below(&folder.join("train"))?, test })
    }
}

/// The folders in `root` that hold one of `signs`, or `root` if it does. Empty folders are kept, so that an error can name them.
pub(super) fn places(signs: &[&str], root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let is_class = |folder: &Path| signs.iter().any(|sign| folder.join(sign).is_dir());
    let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut list| list.next().is_none());
    let folders = if is_class(root) { vec![root.to_path_buf()] } else { subfolders(root).unwrap_or_default() };
    if !folders.iter().any(|folder| is_class(folder)) {
        let (last, others) = signs.split_last().expect("every layout has signs");
        let signs = if others.is_empty() { (*last).into() } else { format!("{} or {last}", others.join(", ")) };
        return Err(format!("no class folders with {signs}"));
    }
    let places = folders.into_iter().filter(|folder| is_class(folder) || is_empty(folder));
    Ok(places.map(|path| ClassFolder { name: name(&path), path }).collect())
}

/// The class folders in the folders of `root`, whose names have to differ; else the misfit.
pub(super) fn grouped(signs: &[&str], root: &Path, misfit: Misfit) -> Result<Vec<ClassFolder>, Misfit> {
    let groups = subfolders(root).unwrap_or_default();
    let found = groups.iter().filter_map(|group| {
        let is_class =
            |place: &ClassFolder| place.path != *group && !subfolders(&place.path).unwrap_or_default().is_empty();
        Some(places(signs, group).ok()?.into_iter().filter(is_class).collect::<Vec<_>>())
    });
    let mut found: Vec<ClassFolder> = found.flatten().collect();
    if found.is_empty() {
        return Err(misfit);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let inner = |place: &ClassFolder| place.path.strip_prefix(root).unwrap_or(&place.path).display().to_string();
    match found.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => {
            Err(format!("two class folders are called {}: {} and {}", pair[0].name, inner(&pair[0]), inner(&pair[1])))
        }
        None => Ok(found),
    }
}

/// Photos in the folders of good parts in a folder, and below.
pub(super) fn good_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut photos = Vec::new();
    for good in called(folder, is_good)? {
        photos.extend(without_masks(photos_below(&good)?).0);
    }
    Ok(photos)
}

/// Photos of one kind of defect, and their masks.
pub(super) fn defective(kind: &str, photos: Vec<PathBuf>, masks: Masks) -> impl Iterator<Item = TestPhoto> {
    let photo = |(path, masks)| TestPhoto { path, defect: Some(kind.to_owned()), masks, sample: None };
    photos.into_iter().zip(masks).map(photo)
}

/// The masks of `NAME` are all pictures in a folder of its name; `expected` is called the first, if there is none.
pub(super) fn in_folders(kind: &Kind, expected: &str) -> Result<Masks> {
    let masks = |photo: &PathBuf| {
        let folder = kind.masks.join(stem(photo));
        let found = photos_if_any(&folder)?;
        Ok(if found.is_empty() { vec![folder.join(expected)] } else { found })
    };
    kind.photos.iter().map(masks).collect()
}

/// The mask of `NAME` is `NAME_mask`, `NAME_GT` or `NAME`, with any extension: in the place below the folder of masks that the photo
/// has in its own; else anywhere below, if neither another photo nor another mask has the name; else beside the photo. If no photo has
/// a mask with its name and there are as many masks as photos, they are paired in alphabetical order, as the official loaders
/// always do.
pub(super) fn by_name(kind: &Kind) -> Result<Masks> {
    let masks = if kind.deep { photos_below(kind.masks)? } else { photos_if_any(kind.masks)? };
    let place = |path: &Path, root: &Path| path.strip_prefix(root).ok().and_then(Path::parent).map(Path::to_owned);
    let names = |photo: &Path| {
        let plain = key(photo);
        [format!("{plain}_mask"), format!("{plain}_gt"), plain]
    };
    let by_place: BTreeMap<_, &PathBuf> =
        masks.iter().map(|mask| ((place(mask, kind.masks), key(mask)), mask)).collect();
    let in_place = |photo: &PathBuf| {
        let here = place(photo, kind.folder);
        names(photo).into_iter().find_map(|name| by_place.get(&(here.clone(), name)).copied())
    };
    let mut found: Vec<Option<&PathBuf>> = kind.photos.iter().map(in_place).collect();
    let taken: BTreeSet<&PathBuf> = found.iter().flatten().copied().collect();
    let free: Vec<&PathBuf> = masks.iter().filter(|mask| !taken.contains(mask)).collect();
    let count = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        paths.fold(BTreeMap::<String, usize>::new(), |mut counts, path| {
            *counts.entry(key(path)).or_default() += 1;
            counts
        })
    };
    let (photos_called, masks_called) = (count(&mut kind.photos.iter()), count(&mut free.iter().copied()));
    let anywhere = |photo: &PathBuf| {
        let name = names(photo).into_iter().find(|name| masks_called.get(name) == Some(&1))?;
        let alone = photos_called.get(&key(photo)) == Some(&1);
        free.iter().find(|mask| alone && key(mask) == name).copied()
    };
    let beside: BTreeMap<_, &PathBuf> = kind.beside.iter().map(|mask| ((mask.parent(), key(mask)), mask)).collect();
    for (photo, mask) in kind.photos.iter().zip(&mut found).filter(|(_, mask)| mask.is_none()) {
        let own = || names(photo).into_iter().find_map(|name| beside.get(&(photo.parent(), name)).copied());
        *mask = anywhere(photo).or_else(own);
    }
    if found.iter().all(Option::is_none) && masks.len() == kind.photos.len() {
        return Ok(masks.into_iter().map(|mask| vec![mask]).collect());
    }
    // The expected name of a missing mask follows that of the other masks.
    let plain = found.iter().flatten().any(|mask| !key(mask).ends_with("_mask"));
    let expected = |photo: &Path| {
        let name = format!("{}{}.png", stem(photo), if plain { "" } else { "_mask" });
        kind.masks.join(place(photo, kind.folder).unwrap_or_default()).join(name)
    };
    let paired = kind.photos.iter().zip(found);
    Ok(paired.map(|(photo, mask)| vec![mask.cloned().unwrap_or_else(|| expected(photo))]).collect())
}
