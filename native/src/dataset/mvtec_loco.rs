//! MVTec LOCO: as MVTec-AD, but a photo has several masks, one per place where the defect may be found:
//! `ground_truth/KIND/NAME/000.png`, `001.png`, …. Here their union counts; the official loader takes only the first. The good photos
//! of `validation` are not used, as in the official loader.

use super::class_folders::{ClassFolders, in_folders};

pub(super) const LAYOUT: ClassFolders = ClassFolders {
    good: "good",
    signs: &["test/logical_anomalies", "test/structural_anomalies"],
    classes: &[],
    masks: |kind| in_folders(kind, "000.png"),
};

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn a_photo_has_all_masks_of_its_folder() {
        let root = Root::with(&[
            "pushpins/train/good/000.png",
            "pushpins/validation/good/000.png",
            "pushpins/test/good/000.png",
            "pushpins/test/logical_anomalies/000.png",
            "pushpins/test/structural_anomalies/004.png",
            "pushpins/ground_truth/logical_anomalies/000/000.png",
            "pushpins/ground_truth/logical_anomalies/000/001.png",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::MvtecLoco, 1));
        let masks =
            "pushpins/ground_truth/logical_anomalies/000/000.png+pushpins/ground_truth/logical_anomalies/000/001.png";
        assert_eq!(
            root.test_photos(&dataset.classes[0])[1..],
            [
                format!("pushpins/test/logical_anomalies/000.png logical_anomalies {masks}"),
                "pushpins/test/structural_anomalies/004.png structural_anomalies pushpins/ground_truth/structural_anomalies/004/000.png".into(),
            ],
            "one is missing, and will be named"
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["pushpins/train/good/000.png"]);
        let expected = "ROOT does not have the layout mvtec-loco (it holds pushpins): no class folders with test/logical_anomalies or test/structural_anomalies";
        assert_eq!(root.refusal(Layout::MvtecLoco), expected);
        root.write("screw_bag/test/logical_anomalies/000.png", "");
        std::fs::create_dir_all(root.path("juice_bottle")).unwrap();
        let expected = "class folder juice_bottle is empty: expected train/good or test in it";
        assert_eq!(root.refusal(Layout::MvtecLoco), expected);
    }
}
