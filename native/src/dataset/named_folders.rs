//! Folders of any names, which a file `folders.toml` beside them tells, in the terms of anomalib's folder data:
//!
//! ```toml
//! normal_dir = ["good", "more/good"]
//! abnormal_dir = ["scratch", "dent"]
//! normal_test_dir = "good_test"
//! mask_dir = "masks"
//! ```
//!
//! Each is a folder or a list of them, with folders below. Without `normal_test_dir` a fifth of the good photos is kept for the test, as
//! in a plain folder. `mask_dir` is one folder for all, which may hold a folder of the name of each of `abnormal_dir`, or one for each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::class_folders::{Kind, by_name, defective};
use super::files::{name, photos_below, without_masks};
use super::folder::keep_for_test;
use super::{Class, ClassFolder, Misfit, TestPhoto};

const FILE: &str = "folders.toml";

/// The file's content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    normal_dir: Folders,
    #[serde(default)]
    abnormal_dir: Folders,
    #[serde(default)]
    normal_test_dir: Folders,
    #[serde(default)]
    mask_dir: Folders,
}

/// One or several folders.
#[derive(Deserialize)]
#[serde(untagged)]
enum Folders {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Default for Folders {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Folders {
    /// The folders, below that of the file. They have to exist.
    fn within(&self, class: &Path, key: &str) -> Result<Vec<PathBuf>> {
        let paths = match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        };
        let folders: Vec<PathBuf> = paths.iter().map(|path| class.join(path)).collect();
        if let Some(missing) = folders.iter().find(|folder| !folder.is_dir()) {
            bail!("{}: {key} is {}, which is no folder", class.join(FILE).display(), missing.display());
        }
        Ok(folders)
    }
}

/// The class `root`, or the folders in it that have the file.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let has_file = |folder: &PathBuf| folder.join(FILE).is_file();
    let here = vec![root.to_path_buf()];
    let mut folders = if has_file(&here[0]) { here } else { super::files::subfolders(root).unwrap_or_default() };
    if !folders.iter().any(has_file) {
        return Err(format!("no {FILE} that names folders"));
    }
    // A class without the file is an error when it is opened, and none that is left out in silence.
    folders.retain(|folder| has_file(folder) || photos_below(folder).is_ok_and(|photos| !photos.is_empty()));
    Ok(folders.into_iter().map(|path| ClassFolder { name: name(&path), path }).collect())
}

/// Lists the photos of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let class = &place.path;
    let named = read(class)?;
    let pictures = |folders: Vec<PathBuf>| -> Result<Vec<PathBuf>> {
        let lists = folders.iter().map(|folder| Ok(without_masks(photos_below(folder)?).0));
        let mut all = lists.collect::<Result<Vec<_>>>()?.concat();
        all.sort();
        all.dedup();
        Ok(all)
    };
    let mut train = pictures(named.normal_dir.within(class, "normal_dir")?)?;
    let mut good = pictures(named.normal_test_dir.within(class, "normal_test_dir")?)?;
    let abnormal = named.abnormal_dir.within(class, "abnormal_dir")?;
    let masks = named.mask_dir.within(class, "mask_dir")?;
    if masks.len() > 1 && masks.len() != abnormal.len() {
        bail!(
            "{}: mask_dir names {} folders and abnormal_dir {}: expected one for all or one for each",
            class.join(FILE).display(),
            masks.len(),
            abnormal.len()
        );
    }
    let mut test = Vec::new();
    for (i, folder) in abnormal.iter().enumerate() {
        let (photos, beside) = without_masks(photos_below(folder)?);
        let own = masks.get(i).filter(|_| masks.len() > 1);
        let of_all = || masks.first().map(|all| [all.join(name(folder)), all.clone()].into_iter().find(|f| f.is_dir()));
        let masks = own.cloned().or_else(|| of_all().flatten());
        let found = match &masks {
            Some(masks) => by_name(&Kind { folder, photos: &photos, beside: &beside, masks, deep: true })?,
            None => vec![Vec::new(); photos.len()],
        };
        test.extend(defective(&name(folder), photos, found));
    }
    if good.is_empty() && !test.is_empty() {
        (good, train) = keep_for_test(class, train);
    }
    test.extend(good.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
    Ok(Class { name: place.name.clone(), folder: class.clone(), train, test })
}

fn read(class: &Path) -> Result<Named> {
    let path = class.join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let why = error.message().lines().next().unwrap_or_default();
        anyhow::anyhow!(
            "{} names no folders ({why}): expected normal_dir, and perhaps abnormal_dir, normal_test_dir and mask_dir, each a folder or \
             a list of folders",
            path.display()
        )
    })
}

/// The one folder of masks of a class, if there is one.
pub(super) fn masks(class: &Path) -> Option<PathBuf> {
    let folders = read(class).ok()?.mask_dir.within(class, "mask_dir").ok()?;
    (folders.len() == 1).then(|| folders[0].clone())
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn folders_have_the_names_that_the_file_gives() {
        let root = Root::with(&[
            "passed/monday/1.PNG",
            "passed/2.JPG",
            "more/passed/3.png",
            "kept/4.png",
            "faults/dent/5.png",
            "faults/scratch/deep/5.TIF",
            "truth/dent/5.png",
            "truth/scratch/deep/5_mask.png",
            "elsewhere/6.png",
        ]);
        root.write(
            "folders.toml",
            "normal_dir = ['passed', 'more/passed']\nabnormal_dir = ['faults/dent', 'faults/scratch']\n\
             normal_test_dir = 'kept'\nmask_dir = 'truth'\n",
        );
        let (layout, dataset) = root.open();
        let class = &dataset.classes[0];
        assert_eq!((layout, class.train.len()), (Layout::Folders, 3));
        assert_eq!(
            root.test_photos(class),
            [
                "faults/dent/5.png dent truth/dent/5.png",
                "faults/scratch/deep/5.TIF scratch truth/scratch/deep/5_mask.png",
                "kept/4.png"
            ]
        );
        root.write(
            "folders.toml",
            "normal_dir = 'passed'\nabnormal_dir = ['faults/dent', 'faults/scratch']\nmask_dir = ['truth/dent', 'truth/scratch']\n",
        );
        let class = &root.open().1.classes[0];
        assert_eq!((class.train.len(), class.test.len()), (1, 3), "one of two is kept for the test");
        assert_eq!(root.test_photos(class)[1], "faults/scratch/deep/5.TIF scratch truth/scratch/deep/5_mask.png");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["good/1.png", "bad/2.png", "bad2/3.png", "m1/2.png", "m2/3.png", "m3/4.png"]);
        assert!(root.refusal(Layout::Folders).ends_with("no folders.toml that names folders"));
        let one_of_two = Root::with(&["board/passed/1.png", "gear/passed/2.png"]);
        one_of_two.write("board/folders.toml", "normal_dir = 'passed'");
        let refusal = one_of_two.refusal(Layout::Folders);
        assert!(refusal.contains("gear/folders.toml cannot be read"), "{refusal}");
        for (file, expected) in [
            ("normal_dir = 'gud'", "folders.toml: normal_dir is gud, which is no folder"),
            ("abnormal_dir = 'bad'", "folders.toml names no folders (missing field `normal_dir`): expected normal_dir"),
            ("normal_dir = 'good'\nmasks = 'm1'", "folders.toml names no folders (unknown field `masks`"),
            (
                "normal_dir = 'good'\nabnormal_dir = ['bad', 'bad2']\nmask_dir = ['m1', 'm2', 'm3']",
                "folders.toml: mask_dir names 3 folders and abnormal_dir 2: expected one for all or one for each",
            ),
        ] {
            root.write("folders.toml", file);
            let error = root.refusal(Layout::Folders);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
