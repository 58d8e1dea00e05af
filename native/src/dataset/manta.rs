//! MANTA-Tiny: MVTec-AD's class folders inside folders of groups, `GROUP/CLASS/train/good`, with masks of the photos' names. A photo
//! shows five views side by side.

use std::path::Path;

use super::class_folders;
use super::{ClassFolder, Misfit, mvtec};

/// The class folders in the folders of `root`.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let signs = mvtec::LAYOUT.signs;
    if class_folders::places(signs, root).is_ok() {
        return Err("class folders without folders of groups around them".into());
    }
    class_folders::grouped(signs, root, "no folders of groups, such as agriculture, with class folders in them".into())
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn classes_lie_in_groups() {
        let root = Root::with(&[
            "agriculture/maize/train/good/0001.png",
            "agriculture/maize/test/good/0002.png",
            "agriculture/maize/test/mildew/0003.png",
            "agriculture/maize/ground_truth/mildew/0003.png",
            "mechanics/nut/train/good/0001.png",
        ]);
        let (layout, dataset) = root.open();
        let names: Vec<&str> = dataset.classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!((layout, names, dataset.train_photos()), (Layout::Manta, vec!["maize", "nut"], 2));
        let maize = [
            "agriculture/maize/test/good/0002.png",
            "agriculture/maize/test/mildew/0003.png mildew agriculture/maize/ground_truth/mildew/0003.png",
        ];
        assert_eq!(root.test_photos(&dataset.classes[0]), maize);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["agriculture/maize/training/good/0001.png"]);
        assert_eq!(
            root.refusal(Layout::Manta),
            "ROOT does not have the layout manta (it holds agriculture): no folders of groups, such as agriculture, with class \
             folders in them"
        );
        let root = Root::with(&["a/nut/train/good/1.png", "b/nut/train/good/1.png"]);
        assert!(root.refusal(Layout::Manta).ends_with("two class folders are called nut: a/nut and b/nut"));
        let root = Root::with(&["maize/train/good/1.png"]);
        assert!(root.refusal(Layout::Manta).ends_with("class folders without folders of groups around them"));
    }
}
