//! Kaputt (Amazon): `datasets/query-train.parquet` and `query-test.parquet` list the photos in `query-image`, or in `query-crop` if only
//! that is unpacked. Its kinds of material are the classes, as in anomalib. The reference photos, the defective training photos and those
//! for validation are not used. `query-mask` outlines the whole item, on photos without a defect too, so it is no mask of a defect.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use super::columns::{self, Row};
use super::{Class, ClassFolder, Misfit, TestPhoto};

const SPLITS: [&str; 2] = ["train", "test"];

/// Folders of photos, which columns are called after with an underscore.
const PHOTOS: [&str; 2] = ["query-image", "query-crop"];

const COLUMNS: [&str; 5] = ["query_image", "query_crop", "defect", "defect_types", "item_material"];

/// Name of the class of items without a material.
const UNKNOWN: &str = "unknown";

/// The materials of the lists.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    if let Some(missing) = SPLITS.map(list).into_iter().find(|list| !root.join(list).is_file()) {
        return Err(format!("no {missing}"));
    }
    if photos(root).is_none() {
        return Err(format!("no {}", PHOTOS.join(" or ")));
    }
    let mut names = BTreeSet::new();
    for split in SPLITS {
        let rows = rows(root, split).map_err(|error| format!("{error:#}"))?;
        names.extend(rows.iter().map(|row| material(row).to_owned()));
    }
    Ok(names.into_iter().map(|name| ClassFolder { name, path: root.to_owned() }).collect())
}

/// Lists the photos of a material.
pub(super) fn open(root: &Path, place: &ClassFolder) -> Result<Class> {
    let folder = root.join(photos(root).unwrap_or(PHOTOS[0]));
    let of_split = |split: &str| -> Result<Vec<TestPhoto>> {
        let rows = rows(root, split)?.into_iter().filter(|row| material(row) == place.name);
        rows.map(|row| photo(root, split, &folder, &row)).collect()
    };
    let train = of_split("train")?.into_iter().filter(|photo| photo.defect.is_none()).map(|photo| photo.path);
    let mut class =
        Class { name: place.name.clone(), folder: folder.clone(), train: train.collect(), test: of_split("test")? };
    class.train.sort();
    class.test.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(class)
}

fn photo(root: &Path, split: &str, folder: &Path, row: &Row) -> Result<TestPhoto> {
    let column = super::files::name(folder).replace('-', "_");
    let Some(path) = row.get(&column) else {
        bail!("{}: a row has no {column}", root.join(list(split)).display());
    };
    let kinds = row.get("defect_types").map_or("defect", String::as_str);
    let defect = match row.get("defect").map(String::as_str) {
        Some("false") => None,
        Some("true") => Some(kinds.to_owned()),
        other => bail!(
            "{}: photo {path} has the defect {}, expected true or false",
            root.join(list(split)).display(),
            other.unwrap_or("(none)")
        ),
    };
    Ok(TestPhoto { path: folder.join(path), defect, ..TestPhoto::default() })
}

fn rows(root: &Path, split: &str) -> Result<Vec<Row>> {
    let path = root.join(list(split));
    let (columns, rows) = columns::read(&path, &COLUMNS)?;
    if let Some(missing) = ["defect", "item_material"].iter().find(|name| !columns.iter().any(|c| c == *name)) {
        bail!("{} has no column {missing}: it has {}", path.display(), columns.join(", "));
    }
    Ok(rows)
}

fn list(split: &str) -> String {
    format!("datasets/query-{split}.parquet")
}

/// The folder of photos that is unpacked.
fn photos(root: &Path) -> Option<&'static str> {
    PHOTOS.into_iter().find(|folder| root.join(folder).is_dir())
}

fn material(row: &Row) -> &str {
    row.get("item_material").map_or(UNKNOWN, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::columns::testing::write_parquet;
    use super::super::testing::Root;

    const HEAD: [&str; 5] = ["query_image", "query_crop", "defect", "defect_types", "item_material"];

    fn kaputt(head: &[&str], defect: &str) -> Root {
        let root = Root::with(&["query-image/data/train/query-data/image/a.jpg", "datasets/README.md"]);
        let row = |split: &str, name: &str, defect: &str, kinds: &str, material: &str| -> Vec<String> {
            let path = |kind: &str| format!("data/{split}/query-data/{kind}/{name}.jpg");
            [path("image"), path("crop"), defect.into(), kinds.into(), material.into()].to_vec()
        };
        let train = [
            row("train", "a", "false", "", "paper"),
            row("train", "b", "true", "hole", "paper"),
            row("train", "c", "false", "", ""),
        ];
        let test = [row("test", "d", "true", "hole,spillage", "paper"), row("test", "e", defect, "", "paper")];
        write_parquet(&root.path("datasets/query-train.parquet"), head, &train);
        write_parquet(&root.path("datasets/query-test.parquet"), head, &test);
        root
    }

    #[test]
    fn materials_are_classes_and_defects_are_not_trained_on() {
        let root = kaputt(&HEAD, "false");
        let (layout, dataset) = root.open();
        let names: Vec<&str> = dataset.classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!((layout, names, dataset.train_photos()), (Layout::Kaputt, vec!["paper", "unknown"], 2));
        let image = "query-image/data/test/query-data/image";
        assert_eq!(
            root.test_photos(&dataset.classes[0]),
            [format!("{image}/d.jpg hole,spillage"), format!("{image}/e.jpg")]
        );
        std::fs::rename(root.path("query-image"), root.path("query-crop")).unwrap();
        let (_, dataset) = root.open();
        assert!(dataset.classes[0].train[0].ends_with("query-crop/data/train/query-data/crop/a.jpg"));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = kaputt(&HEAD, "maybe");
        let error = root.refusal(Layout::Kaputt);
        assert!(error.ends_with("e.jpg has the defect maybe, expected true or false"), "{error}");
        let root = kaputt(&["query_image", "query_crop", "bad", "defect_types", "item_material"], "false");
        let error = root.refusal(Layout::Kaputt);
        assert!(
            error.contains("query-train.parquet has no column defect: it has query_image, query_crop, bad"),
            "{error}"
        );
        std::fs::remove_file(root.path("datasets/query-test.parquet")).unwrap();
        assert!(root.refusal(Layout::Kaputt).ends_with("no datasets/query-test.parquet"));
        let root =
            Root::with(&["datasets/query-train.parquet", "datasets/query-test.parquet", "query-image/data/a.jpg"]);
        let error = root.refusal(Layout::Kaputt);
        assert!(error.contains("query-train.parquet cannot be read as Parquet"), "{error}");
    }
}
