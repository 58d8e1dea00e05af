//! VisA as downloaded: `CLASS/Data/Images/Normal|Anomaly`, `CLASS/Data/Masks/Anomaly`, and the split `split_csv/1cls.csv` with columns
//! object, split, label, image, mask; paths start at the root. Mask values are small numbers, one per kind of defect.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::files::holds;
use super::{Class, ClassFolder, Misfit, TestPhoto};

const SPLIT: &str = "split_csv/1cls.csv";

#[derive(Deserialize)]
struct Row {
    object: String,
    split: String,
    label: String,
    #[serde(deserialize_with = "path")]
    image: PathBuf,
    #[serde(deserialize_with = "path")]
    mask: PathBuf,
}

/// A path with either slash: lists that were prepared on Windows have backslashes.
fn path<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<PathBuf, D::Error> {
    Ok(String::deserialize(reader)?.replace('\\', "/").into())
}

/// The objects of the split with unpacked photos.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let csv = root.join(SPLIT);
    if !csv.is_file() {
        let folder = root.join("split_csv");
        let found = if folder.is_dir() { format!(", in split_csv {}", holds(&folder)) } else { String::new() };
        return Err(format!("no {SPLIT}{found}"));
    }
    let objects: BTreeSet<String> = match rows(root) {
        Ok(rows) => rows.into_iter().map(|row| row.object).collect(),
        Err(error) => return Err(format!("{error:#}")),
    };
    let places = objects.iter().map(|name| ClassFolder { name: name.clone(), path: root.join(name) });
    let places: Vec<ClassFolder> = places.filter(|place| place.path.is_dir()).collect();
    if places.is_empty() {
        let objects: Vec<String> = objects.into_iter().collect();
        return Err(format!("no folder that {SPLIT} names: {}", super::few(&objects)));
    }
    Ok(places)
}

/// Lists the photos of an object.
pub(super) fn open(root: &Path, place: &ClassFolder) -> Result<Class> {
    let mut class = Class { name: place.name.clone(), folder: place.path.clone(), train: Vec::new(), test: Vec::new() };
    for row in rows(root)?.into_iter().filter(|row| row.object == place.name) {
        let path = root.join(&row.image);
        let defect = (row.label != "normal").then_some(row.label);
        match (&*row.split, &defect) {
            ("train", None) => class.train.push(path),
            ("train", Some(label)) => bail!(
                "{}: training photo {} is labelled {label}, but training needs good photos: use VisA's own 1cls.csv",
                root.join(SPLIT).display(),
                row.image.display()
            ),
            ("test", _) => {
                let has_mask = defect.is_some() && row.mask != Path::new("");
                let masks = has_mask.then(|| root.join(&row.mask)).into_iter().collect();
                class.test.push(TestPhoto { path, defect, masks, sample: None });
            }
            (other, _) => bail!(
                "{}: {} has the split {other}, expected train or test",
                root.join(SPLIT).display(),
                row.image.display()
            ),
        }
    }
    class.train.sort();
    class.test.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(class)
}

fn rows(root: &Path) -> Result<Vec<Row>> {
    let csv = root.join(SPLIT);
    let read = || csv::Reader::from_path(&csv)?.deserialize().collect::<Result<Vec<Row>, _>>();
    read().with_context(|| {
        format!("{} is not VisA's split with columns object, split, label, image, mask", csv.display())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;
    use super::*;

    const HEAD: &str = "object,split,label,image,mask\n";

    fn visa(rows: &str) -> Root {
        let root = Root::with(&[
            "candle/Data/Images/Normal/0000.JPG",
            "candle/Data/Images/Anomaly/000.JPG",
            "candle/Data/Masks/Anomaly/000.png",
            "candle/image_anno.csv",
        ]);
        root.write(SPLIT, &format!("{HEAD}{rows}"));
        root
    }

    #[test]
    fn the_split_says_what_is_trained_on() {
        let root = visa(
            "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n\
             candle,train,normal,candle/Data/Images/Normal/0000.JPG,\n\
             candle,test,normal,candle/Data/Images/Normal/0001.JPG,\n\
             pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,\n",
        );
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.classes.len()), (Layout::Visa, 1), "pcb1 is not unpacked");
        assert_eq!(dataset.classes[0].train, [root.path("candle/Data/Images/Normal/0000.JPG")]);
        assert_eq!(
            root.test_photos(&dataset.classes[0]),
            [
                "candle/Data/Images/Anomaly/000.JPG anomaly candle/Data/Masks/Anomaly/000.png",
                "candle/Data/Images/Normal/0001.JPG"
            ]
        );
    }

    #[test]
    fn a_split_prepared_on_windows_is_read() {
        let rows = [
            r"candle,test,anomaly,candle\Data\Images\Anomaly\000.JPG,candle\Data\Masks\Anomaly\000.png",
            r"candle,train,normal,candle\Data\Images\Normal\0000.JPG,",
        ];
        let root = visa("");
        root.write(SPLIT, &format!("\u{feff}{}{}\r\n", HEAD.replace('\n', "\r\n"), rows.join("\r\n")));
        let class = &root.open().1.classes[0];
        assert_eq!(class.train, [root.path("candle/Data/Images/Normal/0000.JPG")]);
        assert_eq!(
            root.test_photos(class),
            ["candle/Data/Images/Anomaly/000.JPG anomaly candle/Data/Masks/Anomaly/000.png"]
        );
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["candle/Data/Images/Normal/0000.JPG"]);
        assert_eq!(
            root.refusal(Layout::Visa),
            "ROOT does not have the layout visa (it holds candle): no split_csv/1cls.csv"
        );
        root.write("split_csv/2cls_fewshot.csv", HEAD);
        let error = root.refusal(Layout::Visa);
        assert!(error.ends_with("no split_csv/1cls.csv, in split_csv it holds 2cls_fewshot.csv"), "{error}");
        root.write(SPLIT, "object,image\ncandle,a.JPG\n");
        let error = root.refusal(Layout::Visa);
        assert!(error.contains("1cls.csv is not VisA's split with columns object, split, label"), "{error}");
        assert!(error.contains("split"), "{error}");
        root.write(SPLIT, &format!("{HEAD}pcb1,train,normal,pcb1/a.JPG,\n"));
        assert!(root.refusal(Layout::Visa).ends_with("no folder that split_csv/1cls.csv names: pcb1"));
        let error = visa("candle,train,anomaly,candle/a.JPG,\n").refusal(Layout::Visa);
        assert!(error.contains("candle/a.JPG is labelled anomaly"), "{error}");
        let error = visa("candle,val,normal,candle/a.JPG,\n").refusal(Layout::Visa);
        assert!(error.contains("candle/a.JPG has the split val, expected train or test"), "{error}");
    }
    #[test]
    fn an_object_is_a_folder_of_the_data_set() {
        for object in ["..", "candle/..", "candle/", "."] {
            let root = visa(&format!("{object},train,normal,candle/Data/Images/Normal/0000.JPG,\n"));
            let error = root.refusal(Layout::Visa);
            assert!(
                error.contains(&format!("is a class called {object:?}: expected the name of one folder")),
                "{error}"
            );
        }
    }
}
