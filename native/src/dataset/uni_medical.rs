//! Uni-Medical as the ADer project publishes it (three sets of BMAD): MVTec-AD's layout, classes brain, liver and retinal. ADer
//! pairs photos and masks in alphabetical order, so that their names may differ.

use super::class_folders::{ClassFolders, by_name};

pub(super) const LAYOUT: ClassFolders =
    ClassFolders { good: "good", signs: &["train", "test"], classes: &["brain", "liver", "retinal"], masks: by_name };

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn masks_with_names_of_their_own_follow_their_photos_in_order() {
        let root = Root::with(&[
            "brain/train/good/00000_60.png",
            "brain/test/good/00001_61.png",
            "brain/test/Ungood/00002_60.png",
            "brain/test/Ungood/00003_60.png",
            "brain/ground_truth/Ungood/label_a.png",
            "brain/ground_truth/Ungood/label_b.png",
            "retinal/train/good/1.png",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.classes.len()), (Layout::UniMedical, 2));
        assert_eq!(
            root.test_photos(&dataset.classes[0])[..2],
            [
                "brain/test/Ungood/00002_60.png Ungood brain/ground_truth/Ungood/label_a.png",
                "brain/test/Ungood/00003_60.png Ungood brain/ground_truth/Ungood/label_b.png"
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["brain/valid/good/1.png", "meta.json"]);
        let expected = "ROOT does not have the layout uni-medical (it holds brain, meta.json): no class folders with train or test";
        assert_eq!(root.refusal(Layout::UniMedical), expected);
        root.write("liver/test/good/1.png", "");
        std::fs::create_dir_all(root.path("retinal")).unwrap();
        let expected = "class folder retinal is empty: expected train/good or test in it";
        assert_eq!(root.refusal(Layout::UniMedical), expected);
    }
}
