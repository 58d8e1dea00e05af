//! Real-IAD: `realiad_jsons/CLASS.json` lists the training and test photos in `realiad_1024` (or 512, 256, raw). There are five views
//! `C1`–`C5` of each part; the folder `S####` in a path is the part. The archives unpack to `realiad_jsons/realiad_jsons`, which is
//! searched first, as in the official loader. ADer's layout, with `CLASS.json` beside `CLASS`, is read too, and Real-IAD Variety, whose
//! folders are called `realiadvariety` and whose archives may hold a second folder `CLASS`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::files::{entries, stem};
use super::{Class, ClassFolder, Misfit, TestPhoto};

/// Folders to search for lists. The first that holds some is taken.
const LISTS: [&str; 4] = [
    "realiad_jsons/realiad_jsons",
    "realiad_jsons",
    "realiadvariety_jsons/Real-IAD_Variety_jsons",
    "realiadvariety_jsons",
];

/// Folders to search for photos, that of the paper's size first.
const PHOTOS: [&str; 7] =
    ["realiad_1024", "realiad_512", "realiad_256", "realiad_raw", "realiadvariety_1024", "realiadvariety_raw", "."];

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    meta: Meta,
    train: Vec<Entry>,
    test: Vec<Entry>,
}

#[derive(Default, Deserialize)]
struct Meta {
    /// Folder of the class.
    prefix: Option<String>,
    normal_class: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    anomaly_class: String,
    image_path: PathBuf,
    mask_path: Option<PathBuf>,
}

/// The classes with a list and unpacked photos.
pub(super) fn places(root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
    let lists = |folder: &str| -> Vec<PathBuf> {
        let files = entries(&root.join(folder)).unwrap_or_default();
        let is_list = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
        files.into_iter().filter(|path| is_list(path)).collect()
    };
    let unpacked = |lists: Vec<PathBuf>, own: bool| -> Vec<ClassFolder> {
        let place = |path: PathBuf| ClassFolder { name: stem(&path), path };
        let is_there = |place: &ClassFolder| {
            folder(root, &place.name).is_some_and(|folder| !own || ["OK", "NG"].iter().any(|d| folder.join(d).is_dir()))
        };
        lists.into_iter().map(place).filter(is_there).collect()
    };
    // Any folder may hold JSON files. Those directly in the root are lists only if Real-IAD's photos lie beside them.
    let in_root = unpacked(lists("."), true);
    let Some(found) = LISTS.iter().map(|folder| lists(folder)).find(|lists| !lists.is_empty()) else {
        return if in_root.is_empty() { Err("no realiad_jsons with CLASS.json".into()) } else { Ok(in_root) };
    };
    let names: Vec<String> = found.iter().map(|list| stem(list)).collect();
    let places = unpacked(found, false);
    if places.is_empty() {
        let photos = PHOTOS[..PHOTOS.len() - 1].join(", ");
        return Err(format!("no folder of {} in {photos}", super::few(&names)));
    }
    Ok(places)
}

/// Lists the photos of a class.
pub(super) fn open(root: &Path, place: &ClassFolder) -> Result<Class> {
    let path = place.path.display();
    let text = fs::read(&place.path).with_context(|| format!("{path} cannot be read"))?;
    let list: List = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{path} is not a list of Real-IAD: expected train and test with anomaly_class, image_path and mask_path"
        )
    })?;
    let prefix = list.meta.prefix.as_deref().unwrap_or(&place.name);
    let Some(folder) = folder(root, prefix) else {
        bail!(
            "{path} has the prefix {prefix}, but there is no such folder in {}",
            PHOTOS[..PHOTOS.len() - 1].join(", ")
        );
    };
    let normal = list.meta.normal_class.as_deref().unwrap_or("OK");
    if let Some(entry) = list.train.iter().find(|entry| entry.anomaly_class != normal) {
        bail!(
            "{path}: training photo {} is labelled {}, but training needs good photos: use the lists of realiad_jsons",
            entry.image_path.display(),
            entry.anomaly_class
        );
    }
    let test = list.test.into_iter().map(|entry| {
        let defect = (entry.anomaly_class != normal).then_some(entry.anomaly_class);
        let mask = entry.mask_path.filter(|_| defect.is_some());
        let masks = mask.into_iter().map(|mask| folder.join(mask)).collect();
        TestPhoto { path: folder.join(&entry.image_path), defect, masks, sample: sample(&entry.image_path) }
    });
    let test = test.collect();
    let train = list.train.iter().map(|entry| folder.join(&entry.image_path)).collect();
    Ok(Class { name: place.name.clone(), folder, train, test })
}

/// The folder of a class in the first of [`PHOTOS`] that has it.
fn folder(root: &Path, class: &str) -> Option<PathBuf> {
    let class = class.trim_end_matches('/');
    let within = |photos: &str| if photos == "." { root.join(class) } else { root.join(photos).join(class) };
    let found = PHOTOS.iter().map(|photos| within(photos)).find(|folder| folder.is_dir())?;
    let inner = found.join(class);
    Some(if inner.is_dir() { inner } else { found })
}

/// The part on a photo: its path up to `S####`, because numbers of good and defective parts overlap.
fn sample(photo: &Path) -> Option<String> {
    let is_part = |name: &str| {
        name.strip_prefix('S').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let folders = photo.ancestors().skip(1);
    let part =
        folders.into_iter().find(|folder| folder.file_name().is_some_and(|name| is_part(&name.to_string_lossy())));
    part.map(|part| part.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::super::testing::Root;

    const LIST: &str = r#"{
        "meta": {"prefix": "audiojack/", "normal_class": "OK", "pre_transform": null},
        "train": [{"category": "audiojack", "anomaly_class": "OK", "image_path": "OK/S0001/audiojack_0001_OK_C1_1.jpg", "mask_path": null}],
        "test": [
            {"category": "audiojack", "anomaly_class": "OK", "image_path": "OK/S0002/audiojack_0002_OK_C1_1.jpg", "mask_path": null},
            {"category": "audiojack", "anomaly_class": "AK", "image_path": "NG/AK/S0002/audiojack_0002_NG_AK_C1_1.jpg",
             "mask_path": "NG/AK/S0002/audiojack_0002_NG_AK_C1_1.png"},
            {"category": "audiojack", "anomaly_class": "OK", "image_path": "NG/AK/S0002/audiojack_0002_NG_AK_C2_1.jpg", "mask_path": null}
        ]}"#;

    fn real_iad(list: &str, photos: &str) -> Root {
        let folder = format!("{photos}audiojack");
        let mask = format!("{folder}/NG/AK/S0002/audiojack_0002_NG_AK_C1_1.png");
        let root = Root::with(&[&format!("{folder}/OK/S0001/audiojack_0001_OK_C1_1.jpg"), &mask]);
        root.write(list, LIST);
        root
    }

    #[test]
    fn the_list_says_what_is_trained_on_and_views_share_their_part() {
        for (list, photos) in [
            ("realiad_jsons/realiad_jsons/audiojack.json", "realiad_1024/"),
            ("realiad_jsons/audiojack.json", "realiad_256/"),
            ("audiojack.json", ""),
            ("realiadvariety_jsons/Real-IAD_Variety_jsons/audiojack.json", "realiadvariety_raw/audiojack/"),
            ("realiadvariety_jsons/audiojack.json", "realiadvariety_1024/"),
        ] {
            let root = real_iad(list, photos);
            let (layout, dataset) = root.open();
            assert_eq!((layout, dataset.classes[0].name.as_str()), (Layout::RealIad, "audiojack"));
            let at = |path: &str| format!("{photos}audiojack/{path}");
            assert_eq!(dataset.classes[0].train, [root.path(&at("OK/S0001/audiojack_0001_OK_C1_1.jpg"))]);
            let (photo, mask) =
                (at("NG/AK/S0002/audiojack_0002_NG_AK_C1_1.jpg"), at("NG/AK/S0002/audiojack_0002_NG_AK_C1_1.png"));
            assert_eq!(
                root.test_photos(&dataset.classes[0]),
                [
                    format!("{}   OK/S0002", at("OK/S0002/audiojack_0002_OK_C1_1.jpg")),
                    format!("{photo} AK {mask} NG/AK/S0002"),
                    format!("{}   NG/AK/S0002", at("NG/AK/S0002/audiojack_0002_NG_AK_C2_1.jpg")),
                ]
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let root = Root::with(&["realiad_1024/audiojack/OK/S0001/a.jpg"]);
        let expected =
            "ROOT does not have the layout real-iad (it holds realiad_1024): no realiad_jsons with CLASS.json";
        assert_eq!(root.refusal(Layout::RealIad), expected);
        root.write("realiad_jsons/zipper.json", LIST);
        let error = root.refusal(Layout::RealIad);
        let expected = "(it holds realiad_1024, realiad_jsons): no folder of zipper in realiad_1024, realiad_512, realiad_256, realiad_raw, realiadvariety_1024, realiadvariety_raw";
        assert!(error.ends_with(expected), "{error}");
        let list = "realiad_jsons/audiojack.json";
        root.write(list, "{\"train\": [");
        let error = root.refusal(Layout::RealIad);
        assert!(error.contains("audiojack.json is not a list of Real-IAD: expected train and test"), "{error}");
        root.write(list, &LIST.replace("audiojack/\"", "jack/\""));
        let error = root.refusal(Layout::RealIad);
        assert!(error.contains("audiojack.json has the prefix jack/, but there is no such folder"), "{error}");
        root.write(list, &LIST.replacen("\"anomaly_class\": \"OK\"", "\"anomaly_class\": \"AK\"", 1));
        let error = root.refusal(Layout::RealIad);
        assert!(error.contains("audiojack_0001_OK_C1_1.jpg is labelled AK"), "{error}");
    }
}
