//! MVTec AD 2: `CLASS/train/good`, `CLASS/test_public/good|bad`, masks in `CLASS/test_public/ground_truth/bad/NAME_mask.png`. The good
//! photos of `validation` and the unlabelled ones of `test_private` are not used.

use std::path::Path;

use anyhow::Result;

use super::class_folders::{self, Kind, by_name, defective, good_below};
use super::files::{photos_below, without_masks};
use super::{Class, ClassFolder, Misfit, TestPhoto};

const TEST: &str = "test_public";

/// Folders of the photos without labels, whose maps are submitted.
pub const SUBMITTED: [&str; 2] = ["test_private", "test_private_mixed"];

/// The class folders in `root`, or `root` if it is one.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    class_folders::places(&[TEST], root)
}

/// Lists the photos of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let test = place.path.join(TEST);
    let (bad, masks) = (test.join("bad"), test.join("ground_truth/bad"));
    let (photos, beside) = without_masks(photos_below(&bad)?);
    let found = by_name(&Kind { folder: &bad, photos: &photos, beside: &beside, masks: &masks, deep: true })?;
    let good = good_below(&test)?.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() });
    Ok(Class {
        name: place.name.clone(),
        folder: place.path.clone(),
        train: good_below(&place.path.join("train"))?,
        test: defective("bad", photos, found).chain(good).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn the_public_test_is_taken() {
        let root = Root::with(&[
            "can/train/good/000_regular.png",
            "can/validation/good/000_regular.png",
            "can/test_private/000_regular.png",
            "can/test_public/good/000_shift_1.png",
            "can/test_public/bad/000_overexposed.png",
            "can/test_public/ground_truth/bad/000_overexposed_mask.png",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::MvtecAd2, 1));
        let expected = [
            "can/test_public/bad/000_overexposed.png bad can/test_public/ground_truth/bad/000_overexposed_mask.png",
            "can/test_public/good/000_shift_1.png",
        ];
        assert_eq!(root.test_photos(&dataset.classes[0]), expected);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["can/train/good/0.png"]);
        let expected = "ROOT does not have the layout mvtec-ad2 (it holds can): no class folders with test_public";
        assert_eq!(root.refusal(Layout::MvtecAd2), expected);
    }
}
