//! BMAD (medical pictures): `CLASS/train/good`, `CLASS/test/good/img`, `CLASS/test/Ungood/img`, and masks of the same names in
//! `CLASS/test/Ungood/label` (or `anomaly_mask`) of the three classes that have them. `valid` (or `val`) is not used. The authors'
//! archives hold a folder around each class folder.

use std::path::Path;

use anyhow::Result;

use super::class_folders::{self, Kind, by_name, defective, good_below};
use super::files::{name, photos_below, subfolders};
use super::words::is_good;
use super::{Class, ClassFolder, Misfit, TestPhoto};

const PHOTOS: &str = "img";
const MASKS: [&str; 2] = ["label", "anomaly_mask"];
const SIGNS: [&str; 3] = ["test/good/img", "test/Ungood/img", "test/ungood/img"];

/// The class folders in `root` or in its folders, or `root` if it is one.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let places = class_folders::places(&SIGNS, root).or_else(|misfit| class_folders::grouped(&SIGNS, root, misfit))?;
    match places.iter().find(|place| place.path.join("ground_truth").is_dir()) {
        Some(place) => Err(format!("masks in ground_truth of {}", place.name)),
        None => Ok(places),
    }
}

/// Lists the pictures of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let mut test = Vec::new();
    for kind in subfolders(&place.path.join("test"))? {
        let folder = kind.join(PHOTOS);
        let photos = photos_below(&folder)?;
        if is_good(&kind) {
            // Their masks are black.
            test.extend(photos.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
        } else {
            let masks = MASKS.map(|name| kind.join(name));
            let masks = masks.iter().find(|folder| folder.is_dir()).unwrap_or(&masks[0]);
            let found = by_name(&Kind { folder: &folder, photos: &photos, beside: &[], masks, deep: true })?;
            test.extend(defective(&name(&kind), photos, found));
        }
    }
    let train = good_below(&place.path.join("train"))?;
    Ok(Class { name: place.name.clone(), folder: place.path.clone(), train, test })
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn pictures_and_masks_lie_side_by_side_and_some_classes_have_none() {
        let root = Root::with(&[
            "Brain/train/good/1.png",
            "Brain/test/good/img/2.png",
            "Brain/test/good/label/2.png",
            "Brain/test/Ungood/img/3.png",
            "Brain/test/Ungood/label/3.png",
            "Brain/valid/Ungood/img/4.png",
            "Brain/valid/Ungood/label/4.png",
            "Chest/train/good/1.png",
            "Chest/test/good/img/2.png",
            "Chest/test/Ungood/img/3.png",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::Bmad, 2));
        let brain = ["Brain/test/Ungood/img/3.png Ungood Brain/test/Ungood/label/3.png", "Brain/test/good/img/2.png"];
        assert_eq!(root.test_photos(&dataset.classes[0]), brain);
        let chest = ["Chest/test/Ungood/img/3.png Ungood", "Chest/test/good/img/2.png"];
        assert_eq!(root.test_photos(&dataset.classes[1]), chest);
    }

    #[test]
    fn the_authors_archives_have_a_folder_around_each() {
        let root = Root::with(&[
            "Liver_AD/hist_DIY/train/good/1.png",
            "Liver_AD/hist_DIY/test/ungood/img/3.png",
            "Liver_AD/hist_DIY/test/ungood/label/3.png",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.classes[0].name.as_str()), (Layout::Bmad, "hist_DIY"));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["Brain/train/good/1.png", "Brain/testing/good/img/1.png"]);
        assert_eq!(
            root.refusal(Layout::Bmad),
            "ROOT does not have the layout bmad (it holds Brain): no class folders with test/good/img, test/Ungood/img or \
             test/ungood/img"
        );
        let root = Root::with(&["nut/test/good/img/1.png", "nut/test/cut/img/2.png", "nut/ground_truth/cut/img/2.png"]);
        assert_eq!(root.open().0, Layout::Mvtec, "folders below those of MVTec-AD may have any name");
    }
}
