//! MPDD (metal parts defect detection): MVTec-AD's layout, six classes. The official loader and ADer's pair photos and masks in
//! alphabetical order, which gives the same pairs as their names.

use super::class_folders::{ClassFolders, by_name};

pub(super) const LAYOUT: ClassFolders = ClassFolders {
    good: "good",
    signs: &["train", "test"],
    classes: &["bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"],
    masks: by_name,
};

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn it_is_known_by_its_classes() {
        let root = Root::with(&[
            "tubes/train/good/000.png",
            "tubes/test/good/000.png",
            "tubes/test/anomalous/000.png",
            "tubes/ground_truth/anomalous/000_mask.png",
            "metal_plate/train/good/000.png",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.classes.len()), (Layout::Mpdd, 2));
        let expected = "tubes/test/anomalous/000.png anomalous tubes/ground_truth/anomalous/000_mask.png";
        assert_eq!(root.test_photos(&dataset.classes[1])[0], expected);
        root.write("hinge/train/good/000.png", "");
        assert_eq!(root.open().0, Layout::Mvtec, "with a class that MPDD does not have");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["tubes/good/000.png"]);
        assert_eq!(
            root.refusal(Layout::Mpdd),
            "ROOT does not have the layout mpdd (it holds tubes): no class folders with train or test"
        );
        std::fs::create_dir_all(root.path("connector")).unwrap();
        root.write("metal_plate/train/good/000.png", "");
        let expected = "class folder connector is empty: expected train/good or test in it";
        assert_eq!(root.refusal(Layout::Mpdd), expected);
    }
}
