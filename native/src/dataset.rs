//! Photos on disk in the MVTec-AD layout: `CLASS/train/good`, `CLASS/test/good`, `CLASS/test/DEFECT`,
//! `CLASS/ground_truth/DEFECT/NAME_mask.png`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::Photo;

/// File name endings that count as photos.
const PHOTO_ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"];

/// One or many product classes.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Classes in alphabetical order.
    pub classes: Vec<Class>,
}

/// Photos of one product.
#[derive(Clone, Debug)]
pub struct Class {
    /// Folder name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Good photos to train on; empty if there are none.
    pub train: Vec<PathBuf>,
    /// Labelled photos to evaluate on; empty if there are none.
    pub test: Vec<TestPhoto>,
}

/// A labelled photo.
#[derive(Clone, Debug)]
pub struct TestPhoto {
    /// The photo.
    pub path: PathBuf,
    /// Kind of defect, `None` for a good part.
    pub defect: Option<String>,
    /// Where its ground-truth mask must be, for a defective part.
    pub mask: Option<PathBuf>,
}

impl Dataset {
    /// Lists a data set: `root` holds class folders, or is one itself. `only` picks classes by name.
    ///
    /// # Errors
    /// If there is no such folder, no class in it, or an empty class folder; the sentence names it.
    pub fn open(root: &Path, only: &[String]) -> Result<Self> {
        if !root.is_dir() {
            bail!("{} is not a folder: expected class folders that each hold train/good or test", root.display());
        }
        // A class is called as its folder is, and `.` or `a/..` do not say how.
        let named = root.canonicalize().with_context(|| format!("folder {} cannot be listed", root.display()))?;
        let root = if root.file_name().is_some() { root } else { &named };
        let is_class = |folder: &Path| folder.join("train").is_dir() || folder.join("test").is_dir();
        let mut folders = if is_class(root) { vec![root.to_path_buf()] } else { subfolders(root)? };
        if !only.is_empty() {
            if let Some(missing) = only.iter().find(|name| !folders.iter().any(|f| &folder_name(f) == *name)) {
                let found: Vec<String> = folders.iter().map(|f| folder_name(f)).collect();
                bail!("class {missing} is not in {}: it holds {}", root.display(), found.join(", "));
            }
            folders.retain(|folder| only.contains(&folder_name(folder)));
        }
        if let Some(empty) =
            folders.iter().find(|folder| fs::read_dir(folder).is_ok_and(|mut list| list.next().is_none()))
        {
            bail!("class folder {} is empty: expected train/good or test in it", empty.display());
        }
        folders.retain(|folder| is_class(folder));
        if folders.is_empty() {
            bail!("{} holds no class: expected CLASS/train/good with photos of good parts", root.display());
        }
        let classes = folders.iter().map(|folder| Class::open(folder)).collect::<Result<_>>()?;
        Ok(Self { classes })
    }

    /// A data set that can be trained on: [`Dataset::open`], and good photos in every class.
    ///
    /// # Errors
    /// As there; and naming the class that has no good photos.
    pub fn open_for_training(root: &Path, only: &[String]) -> Result<Self> {
        let dataset = Self::open(root, only)?;
        if let Some(class) = dataset.classes.iter().find(|class| class.train.is_empty()) {
            let good = class.folder.join("train/good");
            bail!("{} holds no photos of good parts ({})", good.display(), PHOTO_ENDINGS.join(", "));
        }
        Ok(dataset)
    }

    /// Number of good photos to train on.
    pub fn train_photos(&self) -> usize {
        self.classes.iter().map(|class| class.train.len()).sum()
    }
}

impl Class {
    fn open(folder: &Path) -> Result<Self> {
        let good = folder.join("train/good");
        let train = if good.is_dir() { photos(&good)? } else { Vec::new() };
        let mut test = Vec::new();
        let test_folder = folder.join("test");
        for kind in if test_folder.is_dir() { subfolders(&test_folder)? } else { Vec::new() } {
            let name = folder_name(&kind);
            let good = name == "good";
            for path in photos(&kind)? {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let mask = folder.join("ground_truth").join(&name).join(format!("{stem}_mask.png"));
                test.push(TestPhoto { path, defect: (!good).then(|| name.clone()), mask: (!good).then_some(mask) });
            }
        }
        Ok(Self { name: folder_name(folder), folder: folder.to_path_buf(), train, test })
    }
}

/// Reads and decodes a photo.
///
/// # Errors
/// One sentence naming the file.
pub fn read_photo(path: &Path) -> Result<Photo> {
    let bytes = fs::read(path).with_context(|| format!("photo {} cannot be read", path.display()))?;
    Ok(Photo::decode(&path.display().to_string(), &bytes)?)
}

/// Photos directly inside a folder, in alphabetical order.
///
/// # Errors
/// If the folder cannot be listed.
pub fn photos(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_photo = |path: &Path| {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        path.is_file() && PHOTO_ENDINGS.contains(&ending.as_str())
    };
    Ok(entries(folder)?.into_iter().filter(|path| is_photo(path)).collect())
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// What is in a folder, sorted, without hidden files (macOS leaves `._name.png` files beside photos).
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("folder {} cannot be listed", folder.display()))?;
    let mut paths = list.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !folder_name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn folder_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    #[test]
    fn lists_classes_and_names_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let open = |only: &[&str]| Dataset::open(root.path(), &only.iter().map(|&s| s.into()).collect::<Vec<_>>());
        assert!(open(&[]).unwrap_err().to_string().contains("holds no class"));
        touch(&root.path().join("nut/train/good/1.png"));
        touch(&root.path().join("nut/train/good/._1.png"));
        touch(&root.path().join("nut/test/good/2.JPG"));
        touch(&root.path().join("nut/test/scratch/3.png"));
        let dataset = open(&[]).unwrap();
        assert_eq!(dataset.train_photos(), 1);
        let nut = &dataset.classes[0];
        assert_eq!((nut.name.as_str(), nut.test.len()), ("nut", 2));
        assert_eq!(nut.test[1].mask, Some(root.path().join("nut/ground_truth/scratch/3_mask.png")));
        assert!(open(&["bolt"]).unwrap_err().to_string().contains("class bolt is not in"));
        fs::create_dir_all(root.path().join("bolt")).unwrap();
        let error = open(&[]).unwrap_err().to_string();
        assert!(error.contains("bolt is empty"), "{error}");
        assert_eq!(open(&["nut"]).unwrap().classes.len(), 1, "nobody asked for bolt");
        fs::create_dir_all(root.path().join("bolt/train/good")).unwrap();
        let error = Dataset::open_for_training(root.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("bolt/train/good holds no photos"), "{error}");
        assert_eq!(open(&[]).unwrap().classes.len(), 2, "good photos are needed for training alone");
    }

    #[test]
    fn a_class_has_the_name_of_its_folder_however_that_is_given() {
        let root = tempfile::tempdir().unwrap();
        touch(&root.path().join("nut/test/good/2.png"));
        for path in ["nut", "nut/", "nut/test/..", "nut/."] {
            let dataset = Dataset::open(&root.path().join(path), &[]).unwrap();
            assert_eq!(dataset.classes[0].name, "nut", "{path}");
        }
    }
}
