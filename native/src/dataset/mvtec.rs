//! MVTec-AD, and data sets with its layout: `CLASS/train/good`, `CLASS/test/good`, `CLASS/test/DEFECT`,
//! `CLASS/ground_truth/DEFECT/NAME_mask.png`. VisA as converted by its authors' script has one kind of defect, `bad`, and masks with
//! the names of their photos.

use super::class_folders::{ClassFolders, by_name};

pub(super) const LAYOUT: ClassFolders =
    ClassFolders { good: "good", signs: &["train", "test"], classes: &[], masks: by_name };

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::super::{Dataset, Layout};

    #[test]
    fn masks_are_called_after_their_photos() {
        let root = Root::with(&[
            "bottle/train/good/000.png",
            "bottle/train/good/001.png",
            "bottle/test/good/000.png",
            "bottle/test/broken_large/000.png",
            "bottle/test/contamination/000.png",
            "bottle/ground_truth/broken_large/000_mask.png",
            "bottle/ground_truth/contamination/000_mask.png",
            "readme.txt",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::Mvtec, 2));
        assert_eq!(
            root.test_photos(&dataset.classes[0]),
            [
                "bottle/test/broken_large/000.png broken_large bottle/ground_truth/broken_large/000_mask.png",
                "bottle/test/contamination/000.png contamination bottle/ground_truth/contamination/000_mask.png",
                "bottle/test/good/000.png"
            ]
        );
    }

    #[test]
    fn visa_as_its_script_prepares_it() {
        let root = Root::with(&[
            "1cls/candle/train/good/0000.JPG",
            "1cls/candle/test/good/0001.JPG",
            "1cls/candle/test/bad/000.JPG",
            "1cls/candle/test/bad/001.JPG",
            "1cls/candle/ground_truth/bad/000.png",
        ]);
        let (_, dataset) = Dataset::list(None, &root.path("1cls"), &[]).unwrap();
        assert_eq!(
            root.test_photos(&dataset.classes[0])[..2],
            [
                "1cls/candle/test/bad/000.JPG bad 1cls/candle/ground_truth/bad/000.png",
                "1cls/candle/test/bad/001.JPG bad 1cls/candle/ground_truth/bad/001.png"
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["bottle/images/000.png"]);
        let expected = "ROOT does not have the layout mvtec (it holds bottle): no class folders with train or test";
        assert_eq!(root.refusal(Layout::Mvtec), expected);
        root.write("cable/test/good/1.png", "");
        std::fs::create_dir_all(root.path("screw")).unwrap();
        assert_eq!(root.refusal(Layout::Mvtec), "class folder screw is empty: expected train/good or test in it");
    }
}
