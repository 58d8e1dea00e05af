//! A table of photos, CSV or Parquet, as anomalib's tabular data: columns `image_path`, `label_index` (0 good, 1 defective) or `label`
//! (normal, normal_test, abnormal), `split` (train, test) and `mask_path`. Paths start at the table's folder. A missing column follows
//! from the others, as there: normal photos are trained on, abnormal and `normal_test` ones tested; with `split` alone, those to train
//! on are good and the others defective. A column `class`, which anomalib does not know, divides the photos into products.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::columns::{self, Row};
use super::files::stem;
use super::folder::keep_for_test;
use super::words::{is_bad, is_good};
use super::{Class, ClassFolder, Misfit, TestPhoto};

const COLUMNS: [&str; 6] = ["image_path", "label_index", "label", "split", "mask_path", "class"];

/// The label of good photos to be tested.
const NORMAL_TEST: &str = "normal_test";

/// The classes of the table `root`: one, called after the file, if there is no column of classes.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    if !(root.is_file() && columns::is_table(root)) {
        return Err("expected a file NAME.csv or NAME.parquet".into());
    }
    let table = Table::read(root).map_err(|error| format!("{error:#}"))?;
    let place = |name: String| ClassFolder { name, path: root.to_owned() };
    if !table.has("class") {
        return Ok(vec![place(stem(root))]);
    }
    let names: BTreeSet<String> = table.rows.iter().map(|row| class_of(row).to_owned()).collect();
    Ok(names.into_iter().map(place).collect())
}

/// Lists the photos of a class.
pub(super) fn open(place: &ClassFolder) -> Result<Class> {
    let table = Table::read(&place.path)?;
    let folder = place.path.parent().unwrap_or(Path::new("")).to_owned();
    let mut class = Class { name: place.name.clone(), folder: folder.clone(), train: Vec::new(), test: Vec::new() };
    let path = |text: &str| folder.join(text.replace('\\', "/"));
    for (row, line) in table.rows.iter().zip(2..) {
        if table.has("class") && class_of(row) != place.name {
            continue;
        }
        let Some(photo) = row.get("image_path") else {
            bail!("{}: row {line} has no image_path", place.path.display());
        };
        let told = table.told(row).with_context(|| format!("{}: photo {photo}", place.path.display()))?;
        match (told.split, told.defect) {
            (Split::Train, None) => class.train.push(path(photo)),
            (Split::Train, Some(_)) => bail!(
                "{}: photo {photo} is defective and in the split train, but training needs good photos: put it into test",
                place.path.display()
            ),
            (Split::Test, defect) => {
                let mask = row.get("mask_path").filter(|_| defect.is_some());
                let masks = mask.into_iter().map(|mask| path(mask)).collect();
                class.test.push(TestPhoto { path: path(photo), defect, masks, sample: None });
            }
            (Split::Unused, _) => {}
        }
    }
    let tests_good = class.test.iter().any(|photo| photo.defect.is_none());
    if !table.has("split") && !class.test.is_empty() && !tests_good {
        let (kept, train) = keep_for_test(&folder, class.train);
        class.train = train;
        class.test.extend(kept.into_iter().map(|path| TestPhoto { path, ..TestPhoto::default() }));
    }
    class.train.sort();
    class.test.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(class)
}

/// What a row says of its photo.
struct Told {
    split: Split,
    /// Kind of defect.
    defect: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Split {
    Train,
    Test,
    /// For validation.
    Unused,
}

struct Table {
    columns: Vec<String>,
    rows: Vec<Row>,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let (columns, rows) = columns::read(path, &COLUMNS)?;
        let table = Self { columns, rows };
        if !table.has("image_path") || !["label_index", "label", "split"].iter().any(|name| table.has(name)) {
            bail!(
                "{} has the columns {}: expected image_path and at least one of label_index, label and split",
                path.display(),
                table.columns.join(", ")
            );
        }
        if table.rows.is_empty() {
            bail!("{} has no rows", path.display());
        }
        Ok(table)
    }

    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }

    /// Split and label of a row's photo.
    fn told(&self, row: &Row) -> Result<Told> {
        let cell = |column: &str| -> Result<Option<&str>> {
            match row.get(column) {
                Some(text) => Ok(Some(text)),
                None if self.has(column) => bail!("has no {column}, which others have"),
                None => Ok(None),
            }
        };
        let (index, label) = (cell("label_index")?, cell("label")?);
        let split = match cell("split")?.map(str::to_ascii_lowercase).as_deref() {
            None => None,
            Some("train") => Some(Split::Train),
            Some("test") => Some(Split::Test),
            Some("val" | "validation") => Some(Split::Unused),
            Some(other) => bail!("has the split {other}, expected train, test or val"),
        };
        let named = |label: &str| label == NORMAL_TEST || is_good(Path::new(label));
        let defective = match (index, label, split) {
            (Some("0" | "0.0" | "false"), ..) => false,
            (Some("1" | "1.0" | "true"), ..) => true,
            (Some(other), ..) => bail!("has the label_index {other}, expected 0 for a good photo or 1"),
            (None, Some(label), _) if named(label) => false,
            (None, Some(label), _) if is_bad(Path::new(label)) => true,
            (None, Some(label), _) => {
                bail!("has the label {label}, expected normal, normal_test or abnormal, or a column label_index")
            }
            (None, None, split) => split != Some(Split::Train),
        };
        let of_label = if defective || label == Some(NORMAL_TEST) { Split::Test } else { Split::Train };
        let kind = || label.filter(|label| !named(label)).unwrap_or("abnormal").to_owned();
        Ok(Told { split: split.unwrap_or(of_label), defect: defective.then(kind) })
    }
}

/// The class of a row; blank if it has none, which is refused as a name.
fn class_of(row: &Row) -> &str {
    row.get("class").map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::super::{Dataset, Layout};

    fn open(table: &str) -> anyhow::Result<(Root, Dataset)> {
        let root = Root::with(&[]);
        root.write("parts.csv", table);
        root.write("masks/c.png", "");
        let (layout, dataset) = Dataset::list(None, &root.path("parts.csv"), &[])?;
        assert_eq!(layout, Layout::Table);
        Ok((root, dataset))
    }

    /// Number of photos to train on, and the test photos.
    fn read(table: &str) -> (usize, Vec<String>) {
        let (root, dataset) = open(table).unwrap();
        (dataset.train_photos(), root.test_photos(&dataset.classes[0]))
    }

    fn refused(table: &str) -> String {
        format!("{:#}", open(table).err().unwrap())
    }

    #[test]
    fn all_columns() {
        let (train, test) = read(
            "image_path,label_index,label,split,mask_path\n\
             a.png,0,normal,train,\nb.png,0,normal_test,test,\nsub\\c.png,1,scratch,test,masks/c.png\nd.png,0,normal,val,\n",
        );
        assert_eq!((train, test), (1, vec!["b.png".into(), "sub/c.png scratch masks/c.png".into()]));
    }

    #[test]
    fn missing_columns_follow_from_the_others() {
        let cases = [
            ("image_path,label_index,split\na.png,0,train\nb.png,0,test\nc.png,1,test\n", "b.png c.png abnormal"),
            ("image_path,label\na.png,normal\nb.png,normal_test\nc.png,abnormal\n", "b.png c.png abnormal"),
            ("image_path,split\na.png,train\nc.png,test\n", "c.png abnormal"),
            // As in a plain folder, a good photo is kept for the test.
            ("image_path,label_index\na.png,0\nb.png,0\nc.png,1\n", "c.png abnormal"),
        ];
        for (table, expected) in cases {
            let (train, test) = read(table);
            let last = test.join(" ");
            assert!(train == 1 && last.ends_with(expected), "{table}: {train} {last}");
        }
        assert_eq!(read("image_path,label_index\na.png,0\nb.png,0\nc.png,1\n").1.len(), 2);
    }

    #[test]
    fn a_column_of_classes_divides_it() {
        let (_, dataset) = open("image_path,split,class\na.png,train,nut\nb.png,train,bolt\nc.png,test,nut\n").unwrap();
        let sizes: Vec<_> = dataset.classes.iter().map(|c| (c.name.as_str(), c.train.len(), c.test.len())).collect();
        assert_eq!(sizes, [("bolt", 1, 0), ("nut", 1, 1)]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cases = [
            (
                "path,split\na.png,train\n",
                "has the columns path, split: expected image_path and at least one of label_index",
            ),
            ("image_path\na.png\n", "has the columns image_path: expected image_path and at least one of"),
            ("image_path,split\n", "parts.csv has no rows"),
            ("image_path,split\na.png,training\n", "photo a.png: has the split training, expected train, test or val"),
            (
                "image_path,label\na.png,norml\n",
                "photo a.png: has the label norml, expected normal, normal_test or abnormal",
            ),
            ("image_path,label_index\na.png,2\n", "has the label_index 2, expected 0 for a good photo or 1"),
            ("image_path,label_index,split\na.png,1,train\n", "photo a.png is defective and in the split train"),
            (
                "image_path,label_index,split\na.png,,train\nb.png,0,train\n",
                "photo a.png: has no label_index, which others",
            ),
            ("image_path,split\n,train\n", "row 2 has no image_path"),
        ];
        for (table, expected) in cases {
            let error = refused(table);
            assert!(error.contains(expected), "{table}: {error}");
        }
        let root = Root::with(&["parts.txt", "nut/train/good/1.png"]);
        let error = Dataset::open(&root.path("parts.txt"), &[]).unwrap_err().to_string();
        assert!(error.contains("parts.txt is a file: expected a folder of photos"), "{error}");
        let error = root.refusal(Layout::Table);
        assert!(
            error.ends_with(
                "does not have the layout table (it holds nut, parts.txt): expected a file NAME.csv or NAME.parquet"
            ),
            "{error}"
        );
    }
}
