//! A plain folder of photos. Good photos are directly in it or in `good`. Defective photos, which evaluation needs, are in `bad` or
//! in a subfolder of `bad` for each kind of defect. Their masks, which pixel metrics need, are in `masks`. The folders may have other
//! names, such as `OK`, `NG` and `mask`: see [`super::words`].
//!
//! If there are defective photos, a fifth of the good ones is kept for the test. A photo's name decides, so that training and
//! evaluation agree, also after photos are added.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use super::class_folders::{Kind, by_name, defective, good_below};
use super::files::{name, photos, photos_below, subfolders, without_masks};
use super::words::{called, is_bad, is_good, is_masks};
use super::{Class, ClassFolder, Misfit, TestPhoto};

/// Kind of defect of the photos directly in the folder of bad ones.
const BAD: &str = "bad";

/// The class `root`, or the folders in it that hold a folder of good photos.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let has_good = |folder: &Path| called(folder, is_good).is_ok_and(|good| !good.is_empty());
    let here = has_good(root) || photos(root).is_ok_and(|photos| !photos.is_empty());
    let mut folders = if here { vec![root.to_path_buf()] } else { subfolders(root).unwrap_or_default() };
    folders.retain(|folder| here || has_good(folder));
    if folders.is_empty() {
        return Err("no photos directly in it, and no good in it or in folders for each class".into());
    }
    Ok(folders.into_iter().map(|path| ClassFolder { name: name(&path), path }).collect())
}

/// Lists the photos of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let folder = &place.path;
    let (here, _) = without_masks(photos(folder)?);
    let inside = good_below(folder)?;
    if !here.is_empty() && !inside.is_empty() {
        let good = called(folder, is_good)?.iter().map(|good| name(good)).collect::<Vec<_>>().join(", ");
        bail!("photos lie both directly in {0} and in {0}/{good}: put all good ones in one place", folder.display());
    }
    for other in subfolders(folder)?.iter().filter(|path| ![is_good, is_bad, is_masks].iter().any(|is| is(path))) {
        if !photos(other)?.is_empty() {
            bail!(
                "{} holds photos that are neither good nor bad: a plain folder has good (or ok, normal), bad (or ng, abnormal; with \
                 folders for kinds of defects in it) and masks (or mask)",
                other.display()
            );
        }
    }
    let masks = masks(folder)?;
    let mut test = Vec::new();
    for bad in called(folder, is_bad)? {
        let directly = photos(&bad)?;
        let mut kinds = vec![(BAD.to_owned(), bad.clone(), directly, masks.clone(), false)];
        for kind in subfolders(&bad)?.into_iter().filter(|kind| !is_masks(kind)) {
            kinds.push((name(&kind), kind.clone(), photos_below(&kind)?, masks.join(name(&kind)), true));
        }
        for (kind, folder, pictures, masks, deep) in kinds {
            let (photos, beside) = without_masks(pictures);
            let masks = by_name(&Kind { folder: &folder, photos: &photos, beside: &beside, masks: &masks, deep })?;
            test.extend(defective(&kind, photos, masks));
        }
    }
    let mut train = if here.is_empty() { inside } else { here };
    if !test.is_empty() {
        let (kept, rest) = keep_for_test(folder, train);
        test.extend(kept.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
        train = rest;
    }
    Ok(Class { name: place.name.clone(), folder: folder.clone(), train, test })
}

/// The folder of masks of a class, whether it is there or not: of several the first that is not empty.
pub(super) fn masks(class: &Path) -> Result<PathBuf> {
    let mut folders = called(class, is_masks)?;
    folders.sort_by_key(|folder| photos_below(folder).map_or(true, |masks| masks.is_empty()));
    Ok(folders.into_iter().next().unwrap_or_else(|| class.join("masks")))
}

/// About a fifth of the photos, at least one and never all, and the rest. Both are in alphabetical order. A photo's path in its folder
/// of good ones decides, which is its name unless it lies below.
pub(super) fn keep_for_test(class: &Path, photos: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let within = |path: &Path| -> String {
        let path = below(class, path);
        path.split_once('/').map_or(path.clone(), |(_, inner)| inner.to_owned())
    };
    let chosen = photos.iter().filter(|path| hash(&within(path))[0] < u8::MAX / 5).count();
    let chosen = chosen.max(1).min(photos.len().saturating_sub(1));
    first_by_hash(photos, chosen, within)
}

/// The first `count` photos by the hash of what `named` calls them, and the rest, both in alphabetical order.
pub(super) fn first_by_hash(
    mut photos: Vec<PathBuf>,
    count: usize,
    named: impl Fn(&Path) -> String,
) -> (Vec<PathBuf>, Vec<PathBuf>) {
    photos.sort_by_cached_key(|path| hash(&named(path)));
    let mut rest = photos.split_off(count);
    photos.sort();
    rest.sort();
    (photos, rest)
}

/// A path below a folder, with slashes on every system.
pub(super) fn below(folder: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(folder).unwrap_or(path);
    inner.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn hash(name: &str) -> Vec<u8> {
    Sha256::digest(name.as_bytes())[..4].to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::super::{Dataset, Layout};
    use super::*;

    #[test]
    fn photos_alone_are_good() {
        let root = Root::with(&["parts/a.jpg", "parts/b.webp", "parts/c.tiff", "parts/notes.txt"]);
        let (layout, dataset) = Dataset::list(None, &root.path("parts"), &[]).unwrap();
        assert_eq!((layout, dataset.classes[0].name.as_str()), (Layout::Folder, "parts"));
        assert_eq!((dataset.classes[0].train.len(), dataset.classes[0].test.len()), (3, 0));
    }

    #[test]
    fn a_fifth_of_the_good_photos_is_tested_with_the_bad_ones() {
        let good: Vec<String> = (0..200).map(|i| format!("nut/good/{i}.png")).collect();
        let root = Root::with(&good.iter().map(String::as_str).collect::<Vec<_>>());
        for file in ["bad/x.png", "bad/scratch/y.png", "masks/x.png", "masks/scratch/y_mask.bmp"] {
            root.write(&format!("nut/{file}"), "");
        }
        let (layout, dataset) = root.open();
        let nut = &dataset.classes[0];
        assert_eq!((layout, nut.name.as_str()), (Layout::Folder, "nut"));
        let bad = ["nut/bad/x.png bad nut/masks/x.png", "nut/bad/scratch/y.png scratch nut/masks/scratch/y_mask.bmp"];
        assert_eq!(root.test_photos(nut)[..2], bad);
        let kept = nut.test.len() - 2;
        assert!((25..=55).contains(&kept) && kept + nut.train.len() == 200, "{kept}");
        root.write("nut/good/new.png", "");
        let later = &root.open().1.classes[0];
        assert!(nut.train.iter().all(|photo| later.train.contains(photo)), "a new photo moves no other");
    }

    #[test]
    fn other_words_mean_the_same() {
        for [good, bad, masks] in
            [["OK", "NG", "MASK"], ["normal", "abnormal", "mask"], ["Good", "Defects", "ground_truth"]]
        {
            let root = Root::with(&[
                &format!("nut/{good}/1.png"),
                &format!("nut/{good}/monday/2.png"),
                &format!("nut/{bad}/3.png"),
                &format!("nut/{bad}/cut/4.png"),
                &format!("nut/{masks}/3.png"),
                &format!("nut/{masks}/cut/4.png"),
            ]);
            let (layout, dataset) = root.open();
            let nut = &dataset.classes[0];
            assert_eq!((layout, nut.train.len(), nut.test.len()), (Layout::Folder, 1, 3), "{good}");
            let bad = [
                format!("nut/{bad}/3.png bad nut/{masks}/3.png"),
                format!("nut/{bad}/cut/4.png cut nut/{masks}/cut/4.png"),
            ];
            assert_eq!(root.test_photos(nut)[..2], bad);
        }
    }

    #[test]
    fn masks_of_a_kind_are_not_those_of_other_photos() {
        let files = ["good/1.png", "good/2.png", "bad/a.png", "bad/b.png", "bad/cut/p.png", "bad/cut/q.png"];
        let root = Root::with(&[&files[..], &["masks/cut/p.png", "masks/cut/q.png", "gt/.keep"]].concat());
        let (_, dataset) = root.open();
        let bad = root.test_photos(&dataset.classes[0]);
        assert_eq!(
            bad[..2],
            ["bad/a.png bad masks/a_mask.png", "bad/b.png bad masks/b_mask.png"],
            "they are missing, and will be named"
        );
        assert_eq!(bad[2], "bad/cut/p.png cut masks/cut/p.png");
    }

    #[test]
    fn photos_of_one_name_in_many_folders_are_split_too() {
        let good: Vec<String> = (0..40).map(|i| format!("nut/good/part{i}/cam1.png")).collect();
        let root = Root::with(&good.iter().map(String::as_str).chain(["nut/bad/x.png"]).collect::<Vec<_>>());
        let nut = &root.open().1.classes[0];
        assert!((25..=38).contains(&nut.train.len()), "{}", nut.train.len());
    }

    #[test]
    fn two_good_photos_are_split_and_one_is_trained_on() {
        let paths = |count: usize| (0..count).map(|i| PathBuf::from(format!("{i}.png"))).collect();
        let sizes = |count| {
            (keep_for_test(Path::new(""), paths(count)).0.len(), keep_for_test(Path::new(""), paths(count)).1.len())
        };
        assert_eq!([sizes(0), sizes(1), sizes(2)], [(0, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["a/b/1.png"]);
        let expected = "ROOT does not have the layout folder (it holds a): no photos directly in it, and no good in it or in folders for each class";
        assert_eq!(root.refusal(Layout::Folder), expected);
        let root = Root::with(&["1.png", "good/2.png"]);
        let error = root.refusal(Layout::Folder);
        assert_eq!(error, "photos lie both directly in ROOT and in good: put all good ones in one place");
        let root = Root::with(&["good/2.png", "scratched/3.png"]);
        let error = root.refusal(Layout::Folder);
        assert!(error.starts_with("scratched holds photos that are neither good nor bad"), "{error}");
    }
}
