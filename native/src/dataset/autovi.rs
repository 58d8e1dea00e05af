//! AutoVI (Renault Group): MVTec-AD's layout, six classes, and for each defective photo a folder with its mask:
//! `ground_truth/KIND/NAME/0000.png`.

use super::class_folders::{ClassFolders, in_folders};

pub(super) const LAYOUT: ClassFolders = ClassFolders {
    good: "good",
    signs: &["train", "test"],
    classes: &["engine_wiring", "pipe_clip", "pipe_staple", "tank_screw", "underbody_pipes", "underbody_screw"],
    masks: |kind| in_folders(kind, "0000.png"),
};

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::super::{Dataset, Layout};

    #[test]
    fn each_defective_photo_has_a_folder_with_its_mask() {
        let root = Root::with(&[
            "pipe_clip/train/good/0001.png",
            "pipe_clip/test/good/0002.png",
            "pipe_clip/test/unclipped/0089.png",
            "pipe_clip/test/operator/0089.png",
            "pipe_clip/ground_truth/unclipped/0089/0000.png",
            "pipe_clip/ground_truth/operator/0089/0000.png",
            "pipe_clip/defects_config.json",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::AutoVi, 1));
        assert_eq!(
            root.test_photos(&dataset.classes[0]),
            [
                "pipe_clip/test/good/0002.png",
                "pipe_clip/test/operator/0089.png operator pipe_clip/ground_truth/operator/0089/0000.png",
                "pipe_clip/test/unclipped/0089.png unclipped pipe_clip/ground_truth/unclipped/0089/0000.png",
            ]
        );
        root.write("hinge/train/good/1.png", "");
        assert_eq!(root.open().0, Layout::Mvtec, "with a class that AutoVI does not have");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["tank_screw/training/good/0001.png"]);
        assert_eq!(
            root.refusal(Layout::AutoVi),
            "ROOT does not have the layout autovi (it holds tank_screw): no class folders with train or test"
        );
        let root = Root::with(&["tank_screw/test/missing/0001.png", "tank_screw/test/missing/0002.png"]);
        root.write("tank_screw/ground_truth/missing/0001/0000.png", "");
        let dataset = Dataset::open(&root.path(""), &[]).unwrap();
        let error = crate::inference::evaluation::check_labelled(&dataset).unwrap_err().to_string();
        assert!(error.contains("ground_truth/missing/0002/0000.png of photo"), "{error}");
    }
}
