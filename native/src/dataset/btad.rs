//! BTAD (beanTech): products 01, 02, 03 with `train/ok`, `test/ok`, `test/ko`, `ground_truth/ko`. Photos and masks are BMP or PNG,
//! and a mask may have another format than its photo.

use super::class_folders::{ClassFolders, by_name};

pub(super) const LAYOUT: ClassFolders =
    ClassFolders { good: "ok", signs: &["train/ok", "test/ok", "test/ko"], classes: &[], masks: by_name };

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::super::{Dataset, Layout};

    #[test]
    fn ok_is_good_and_masks_have_any_ending() {
        let root = Root::with(&[
            "01/train/ok/0000.bmp",
            "01/test/ok/0000.bmp",
            "01/test/ko/0000.bmp",
            "01/ground_truth/ko/0000.png",
            "03/train/ok/0000.bmp",
            "03/test/ko/0001.bmp",
            "03/ground_truth/ko/0001.bmp",
        ]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.train_photos()), (Layout::Btad, 2));
        let expected = ["01/test/ko/0000.bmp ko 01/ground_truth/ko/0000.png", "01/test/ok/0000.bmp"];
        assert_eq!(root.test_photos(&dataset.classes[0]), expected);
        let expected = ["03/test/ko/0001.bmp ko 03/ground_truth/ko/0001.bmp"];
        assert_eq!(root.test_photos(&dataset.classes[1]), expected);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["01/train/good/0000.bmp"]);
        let expected =
            "ROOT does not have the layout btad (it holds 01): no class folders with train/ok, test/ok or test/ko";
        assert_eq!(root.refusal(Layout::Btad), expected);
        let root = Root::with(&["01/test/ok/0000.bmp"]);
        let error = Dataset::open_for_training(None, &root.path(""), &[]).unwrap_err().to_string();
        assert!(error.contains("01/train/ok holds no photos of good parts"), "{error}");
    }
}
