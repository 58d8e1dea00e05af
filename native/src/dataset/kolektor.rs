//! KolektorSDD, `kos01/Part0.jpg` with `Part0_label.bmp` beside it, and KolektorSDD2, `train/NAME.png` and `test/NAME.png` with
//! `NAME_GT.png`. Every photo has a mask, and a black one means a good part. Each is a single class.
//!
//! KolektorSDD has no split for training on good photos only. As in anomalib, defective photos are tested and four fifths of the good
//! ones trained on, rounded down; which ones, their names decide. The defective training photos of KolektorSDD2 are not used.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::decode::Photo;
use rayon::prelude::*;

use super::files::{key, name, photos, photos_if_any, stem, subfolders};
use super::folder::{below, first_by_hash};
use super::{Class, ClassFolder, Misfit, TestPhoto};

/// Kind of defect: it is not named.
const DEFECT: &str = "defect";

/// The class `root`, if it holds folders `kos01`, ….
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    if items(root).unwrap_or_default().is_empty() {
        return Err("no folders kos01, kos02, … with NAME.jpg and NAME_label.bmp".into());
    }
    Ok(vec![ClassFolder { name: name(root), path: root.to_owned() }])
}

/// Lists the photos of KolektorSDD.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let mut found = Vec::new();
    for item in items(&place.path)? {
        let pictures = photos(&item)?.into_iter().filter(|path| !stem(path).ends_with("_label"));
        found.extend(pictures.map(|photo| (photo.with_file_name(format!("{}_label.bmp", stem(&photo))), photo)));
    }
    let (good, mut test): (Vec<TestPhoto>, Vec<TestPhoto>) =
        labelled(found)?.into_iter().partition(|photo| photo.defect.is_none());
    let kept = good.len() - good.len() * 4 / 5;
    let (kept, train) =
        first_by_hash(good.into_iter().map(|photo| photo.path).collect(), kept, |path| below(&place.path, path));
    test.extend(kept.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
    Ok(Class { name: place.name.clone(), folder: place.path.clone(), train, test })
}

/// The class `root`, if it holds `train` and `test` of KolektorSDD2.
pub(super) fn places_2(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let has_masks = |split: &str| photos_if_any(&root.join(split)).is_ok_and(|found| found.iter().any(|p| is_mask(p)));
    match ["train", "test"].into_iter().find(|split| !has_masks(split)) {
        Some(split) => Err(format!("no {split}/NAME_GT.png")),
        None => Ok(vec![ClassFolder { name: name(root), path: root.to_owned() }]),
    }
}

/// Lists the photos of KolektorSDD2.
pub(super) fn open_2(place: &ClassFolder) -> Result<Class> {
    let split = |name: &str| {
        let pictures = photos(&place.path.join(name))?.into_iter().filter(|path| !is_mask(path));
        labelled(pictures.map(|photo| (photo.with_file_name(format!("{}_GT.png", stem(&photo))), photo)).collect())
    };
    let train = split("train")?.into_iter().filter(|photo| photo.defect.is_none()).map(|photo| photo.path).collect();
    Ok(Class { name: place.name.clone(), folder: place.path.clone(), train, test: split("test")? })
}

/// Whether a picture is a mask of KolektorSDD2.
pub(super) fn is_mask(picture: &Path) -> bool {
    key(picture).ends_with("_gt")
}

/// Folders `kos01`, … of KolektorSDD.
fn items(root: &Path) -> Result<Vec<PathBuf>> {
    let is_item = |folder: &PathBuf| {
        name(folder)
            .strip_prefix("kos")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    Ok(subfolders(root)?.into_iter().filter(is_item).collect())
}

/// Photos of these masks and paths: defective if the mask is not black.
fn labelled(pictures: Vec<(PathBuf, PathBuf)>) -> Result<Vec<TestPhoto>> {
    let read = |(mask, path): (PathBuf, PathBuf)| -> Result<TestPhoto> {
        if !mask.is_file() {
            bail!(
                "mask {} is missing: it says whether photo {} is good, and a good one has a black mask",
                mask.display(),
                path.display()
            );
        }
        let bytes = fs::read(&mask).with_context(|| format!("mask {} cannot be read", mask.display()))?;
        let shows_defect = Photo::decode(&mask.display().to_string(), &bytes)?.rgb.iter().any(|&value| value != 0);
        let masks = if shows_defect { vec![mask] } else { Vec::new() };
        Ok(TestPhoto { path, defect: shows_defect.then(|| DEFECT.into()), masks, sample: None })
    };
    pictures.into_par_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::super::{Dataset, Layout};

    /// A grey picture, white at one pixel or nowhere.
    fn draw(root: &Root, name: &str, defective: bool) {
        std::fs::create_dir_all(root.path(name).parent().unwrap()).unwrap();
        let mut picture = image::GrayImage::new(4, 3);
        picture.put_pixel(1, 1, image::Luma([if defective { 255 } else { 0 }]));
        picture.save(root.path(name)).unwrap();
    }

    fn kolektor_sdd() -> Root {
        let root = Root::with(&[]);
        for item in 1..=4 {
            for part in 0..3 {
                root.write(&format!("kos{item:02}/Part{part}.jpg"), "");
                draw(&root, &format!("kos{item:02}/Part{part}_label.bmp"), (item, part) == (2, 1));
            }
        }
        root
    }

    #[test]
    fn the_mask_says_whether_a_part_is_good() {
        let (layout, dataset) = kolektor_sdd().open();
        let [class] = &dataset.classes[..] else { panic!("{dataset:?}") };
        let defective: Vec<_> = class.test.iter().filter(|photo| photo.defect.is_some()).collect();
        assert_eq!((layout, class.train.len(), class.test.len()), (Layout::KolektorSdd, 8, 4), "11 · 4 / 5 = 8");
        assert!(defective.len() == 1 && defective[0].path.ends_with("kos02/Part1.jpg"), "{defective:?}");
        assert!(defective[0].masks[0].ends_with("kos02/Part1_label.bmp"));
    }

    #[test]
    fn the_split_of_kolektor_sdd2_is_its_folders() {
        let root = Root::with(&["train/10000.png", "train/10001.png", "test/20000.png", "test/20001.png"]);
        for (name, defective) in
            [("train/10000", false), ("train/10001", true), ("test/20000", true), ("test/20001", false)]
        {
            draw(&root, &format!("{name}_GT.png"), defective);
        }
        let (layout, dataset) = root.open();
        let class = &dataset.classes[0];
        assert_eq!((layout, class.train.clone()), (Layout::KolektorSdd2, vec![root.path("train/10000.png")]));
        assert_eq!(root.test_photos(class), ["test/20000.png defect test/20000_GT.png", "test/20001.png"]);
        std::fs::remove_file(root.path("test/20001_GT.png")).unwrap();
        let error = root.refusal(Layout::KolektorSdd2);
        let expected = "mask test/20001_GT.png is missing: it says whether photo test/20001.png is good, and a good one has a black mask";
        assert_eq!(error, expected);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["part01/Part0.jpg", "train/1.png", "test/1.png", "test/1_GT.png"]);
        let error = root.refusal(Layout::KolektorSdd);
        assert!(error.ends_with("no folders kos01, kos02, … with NAME.jpg and NAME_label.bmp"), "{error}");
        let error = root.refusal(Layout::KolektorSdd2);
        assert!(error.ends_with("(it holds part01, test, train): no train/NAME_GT.png"), "{error}");
        let root = kolektor_sdd();
        std::fs::remove_file(root.path("kos03/Part2_label.bmp")).unwrap();
        let error = Dataset::open(&root.path(""), &[]).unwrap_err().to_string();
        assert!(error.contains("kos03/Part2_label.bmp is missing: it says whether photo"), "{error}");
    }
}
