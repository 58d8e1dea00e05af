//! DAGM 2007: `CLASS/Train/NAME.PNG` and `CLASS/Test/NAME.PNG`, and of defective photos the mask `Label/NAME_label.PNG` beside them. As
//! only good photos are trained on, the defective ones of `Train` are not used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::class_folders;
use super::files::{key, photos, photos_if_any, stem};
use super::{Class, ClassFolder, Misfit, TestPhoto};

const MASKS: &str = "Label";
const SIGNS: [&str; 2] = ["Train/Label", "Test/Label"];

/// Kind of defect: each class has its own, which is not named.
const DEFECT: &str = "defect";

/// The class folders in `root`, or `root` if it is one.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    class_folders::places(&SIGNS, root)
}

/// Lists the photos of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let train = split(&place.path.join("Train"))?.into_iter().filter(|photo| photo.defect.is_none());
    let train = train.map(|photo| photo.path).collect();
    Ok(Class { name: place.name.clone(), folder: place.path.clone(), train, test: split(&place.path.join("Test"))? })
}

/// Photos of a folder. Those with a mask are defective.
fn split(folder: &Path) -> Result<Vec<TestPhoto>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let masks: BTreeMap<String, PathBuf> =
        photos_if_any(&folder.join(MASKS))?.into_iter().map(|mask| (key(&mask), mask)).collect();
    let labelled = |path: PathBuf| {
        let mask = masks.get(&format!("{}_label", stem(&path))).cloned();
        TestPhoto {
            defect: mask.is_some().then(|| DEFECT.to_owned()),
            masks: mask.into_iter().collect(),
            path,
            sample: None,
        }
    };
    Ok(photos(folder)?.into_iter().map(labelled).collect())
}

/// Whether a picture is a mask.
pub(super) fn is_mask(picture: &Path) -> bool {
    picture.parent().is_some_and(|folder| folder.ends_with(MASKS))
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    #[test]
    fn photos_with_a_mask_are_defective_and_not_trained_on() {
        let root = Root::with(&[
            "Class1/Train/0576.PNG",
            "Class1/Train/0577.PNG",
            "Class1/Train/Label/0577_label.PNG",
            "Class1/Train/Label/Labels.txt",
            "Class1/Test/0001.PNG",
            "Class1/Test/0002.PNG",
            "Class1/Test/Label/0002_label.PNG",
        ]);
        let (layout, dataset) = root.open();
        let class = &dataset.classes[0];
        assert_eq!((layout, class.train.clone()), (Layout::Dagm, vec![root.path("Class1/Train/0576.PNG")]));
        let test = ["Class1/Test/0001.PNG", "Class1/Test/0002.PNG defect Class1/Test/Label/0002_label.PNG"];
        assert_eq!(root.test_photos(class), test);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["Class1/Training/0576.PNG", "Class1/Training/Label/0577_label.PNG"]);
        assert_eq!(
            root.refusal(Layout::Dagm),
            "ROOT does not have the layout dagm (it holds Class1): no class folders with Train/Label or Test/Label"
        );
    }
}
