//! MVTec 3D-AD: `CLASS/train/good/rgb`, `CLASS/test/KIND/rgb`, masks of the same names in `CLASS/test/KIND/gt`. The depth in `xyz` and
//! the good photos of `validation` are not used.

use std::path::Path;

use anyhow::Result;

use super::class_folders::{self, Kind, by_name, defective};
use super::files::{name, photos_below, photos_if_any, subfolders};
use super::words::is_good;
use super::{Class, ClassFolder, Misfit, TestPhoto};

const PHOTOS: &str = "rgb";
const SIGNS: [&str; 2] = ["train/good/rgb", "test/good/rgb"];

/// The class folders in `root`, or `root` if it is one.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let places = class_folders::places(&SIGNS, root)?;
    // Photos directly in it are those of MVTec-AD, one folder of which has the name.
    let has_photos = |place: &ClassFolder| {
        ["train/good", "test/good"]
            .iter()
            .any(|good| photos_if_any(&place.path.join(good)).is_ok_and(|found| !found.is_empty()))
    };
    match places.iter().find(|place| has_photos(place)) {
        Some(place) => Err(format!("photos beside the folder rgb of {}", place.name)),
        None => Ok(places),
    }
}

/// Lists the photos of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let mut test = Vec::new();
    for kind in subfolders(&place.path.join("test"))? {
        let (folder, masks) = (kind.join(PHOTOS), kind.join("gt"));
        let photos = photos_below(&folder)?;
        if is_good(&kind) {
            // Their masks are black.
            test.extend(photos.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
        } else {
            let found = by_name(&Kind { folder: &folder, photos: &photos, beside: &[], masks: &masks, deep: true })?;
            test.extend(defective(&name(&kind), photos, found));
        }
    }
    let train = photos_below(&place.path.join("train/good").join(PHOTOS))?;
    Ok(Class { name: place.name.clone(), folder: place.path.clone(), train, test })
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn photos_have_masks_of_their_names_and_depth_is_left_alone() {
        let root = Root::with(&[
            "bagel/train/good/rgb/000.png",
            "bagel/train/good/xyz/000.tiff",
            "bagel/test/good/rgb/000.png",
            "bagel/test/good/gt/000.png",
            "bagel/test/crack/rgb/000.png",
            "bagel/test/crack/gt/000.png",
            "bagel/test/crack/xyz/000.tiff",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::Mvtec3d, 1));
        let expected =
            ["bagel/test/crack/rgb/000.png crack bagel/test/crack/gt/000.png", "bagel/test/good/rgb/000.png"];
        assert_eq!(root.test_photos(&dataset.classes[0]), expected);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["bagel/train/good/0.png"]);
        let expected = "ROOT does not have the layout mvtec-3d (it holds bagel): no class folders with train/good/rgb or test/good/rgb";
        assert_eq!(root.refusal(Layout::Mvtec3d), expected);
    }
}
