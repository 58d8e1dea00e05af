//! Photos on disk in the layouts of public data sets. Each layout is a file that gives a [`Dataset`].

mod btad;
pub mod check;
mod class_folders;
mod files;
mod folder;
mod ground_truth;
mod layout;
mod mpdd;
mod mvtec;
mod mvtec_3d;
mod mvtec_ad2;
mod mvtec_loco;
mod real_iad;
pub(crate) mod split;
mod uni_medical;
mod visa;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::decode::Photo;

use check::Purpose;
use files::MASKS;
pub use files::{PHOTO_ENDINGS, counted, few, left_out, photos, without_masks};
pub use layout::Layout;

/// One or many product classes.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Classes in alphabetical order.
    pub classes: Vec<Class>,
}

/// Photos of one product.
#[derive(Clone, Debug)]
pub struct Class {
    /// Name of the product.
    pub name: String,
    /// Folder of the class.
    pub folder: PathBuf,
    /// Good photos to train on; may be empty.
    pub train: Vec<PathBuf>,
    /// Labelled photos to evaluate on; may be empty.
    pub test: Vec<TestPhoto>,
}

/// A labelled photo.
#[derive(Clone, Debug, Default)]
pub struct TestPhoto {
    /// File of the photo.
    pub path: PathBuf,
    /// Kind of defect, `None` for a good part.
    pub defect: Option<String>,
    /// Expected mask files of a defective part, several in MVTec LOCO. Empty for a good part, and if the class has no masks on
    /// the disk.
    pub masks: Vec<PathBuf>,
    /// The part on the photo, if the data set has several views of each part.
    pub sample: Option<String>,
}

impl Dataset {
    /// Lists a data set and detects its layout. `only` selects classes by name, one or several with commas between them; if empty,
    /// all are listed.
    ///
    /// # Errors
    /// If there is no such folder, it fits no layout, or a class is missing or empty; the error names it.
    pub fn open(root: &Path, only: &[String]) -> Result<Self> {
        Self::open_as(None, root, only)
    }

    /// [`Dataset::open`] in a given layout.
    ///
    /// # Errors
    /// As for [`Dataset::open`]; the error says what does not fit the layout.
    pub fn open_as(layout: Option<Layout>, root: &Path, only: &[String]) -> Result<Self> {
        Self::list(layout, root, only).map(|(_, dataset)| dataset)
    }

    /// [`Dataset::open_as`], with a check that every class has good photos to train on. What is odd about them is said on standard
    /// error.
    ///
    /// # Errors
    /// As for [`Dataset::open`], and if a class has no good photos; the error names it.
    pub fn open_for_training(layout: Option<Layout>, root: &Path, only: &[String]) -> Result<Self> {
        let (layout, dataset) = Self::list(layout, root, only)?;
        if let Some(class) = dataset.classes.iter().find(|class| class.train.is_empty()) {
            bail!("{} holds no photos of good parts ({})", layout.good_photos(class), PHOTO_ENDINGS.join(", "));
        }
        check::warn(layout, &dataset, Purpose::Training, root);
        Ok(dataset)
    }

    /// [`Dataset::open_as`]. What is odd about the labelled photos and their masks is said on standard error.
    ///
    /// # Errors
    /// As for [`Dataset::open`].
    pub fn open_for_evaluation(layout: Option<Layout>, root: &Path, only: &[String]) -> Result<Self> {
        let (layout, dataset) = Self::list(layout, root, only)?;
        check::warn(layout, &dataset, Purpose::Evaluation, root);
        Ok(dataset)
    }

    /// [`Dataset::open_as`], with the detected layout.
    ///
    /// # Errors
    /// As for [`Dataset::open`].
    pub fn list(layout: Option<Layout>, root: &Path, only: &[String]) -> Result<(Layout, Self)> {
        if !root.is_dir() {
            let what = if root.exists() { "is not a folder" } else { "does not exist" };
            bail!("{} {what}: expected class folders that each hold train/good or test", root.display());
        }
        // A class has the name of its folder, which `.` and `a/..` do not tell.
        let named = root.canonicalize().with_context(|| format!("folder {} cannot be listed", root.display()))?;
        let root = if root.file_name().is_some() { root } else { &named };
        let (layout, mut places) = Layout::find(layout, root)?;
        let is_class = |name: &str| places.iter().any(|place| place.name == name);
        // The name of a class may hold commas.
        let names =
            |one: &String| if is_class(one) { vec![one.clone()] } else { one.split(',').map(str::to_owned).collect() };
        let only: Vec<String> = only.iter().flat_map(names).collect();
        if let Some(missing) = only.iter().find(|name| !is_class(name)) {
            let found: Vec<String> = places.iter().map(|place| place.name.clone()).collect();
            bail!("class {missing} is not in {}: it holds {}", root.display(), found.join(", "));
        }
        places.retain(|place| only.is_empty() || only.contains(&place.name));
        let mut classes = places.iter().map(|place| layout.open(root, place)).collect::<Result<Vec<_>>>()?;
        for class in &mut classes {
            if !class.test.iter().flat_map(|photo| &photo.masks).any(|mask| mask.is_file()) {
                class.test.iter_mut().for_each(|photo| photo.masks.clear());
            }
        }
        Ok((layout, Self { classes }))
    }

    /// Number of good photos to train on.
    pub fn train_photos(&self) -> usize {
        self.classes.iter().map(|class| class.train.len()).sum()
    }
}

/// Reads and decodes a photo.
///
/// # Errors
/// If the file cannot be read or decoded; the error names it.
pub fn read_photo(path: &Path) -> Result<Photo> {
    let bytes = fs::read(path).with_context(|| format!("photo {} cannot be read", path.display()))?;
    Ok(Photo::decode(&path.display().to_string(), &bytes)?)
}

/// A class that a layout has found in a folder.
#[derive(Clone, Debug)]
struct ClassFolder {
    name: String,
    /// The folder or list file of the class.
    path: PathBuf,
}

/// Why a folder does not fit a layout: the end of a sentence.
type Misfit = String;

#[cfg(test)]
mod testing {
    //! Tiny data sets in the layouts of the real ones.

    use super::*;

    /// A temporary data set.
    pub struct Root(tempfile::TempDir);

    impl Root {
        /// A data set of empty files with these paths.
        pub fn with(files: &[&str]) -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            files.iter().for_each(|file| root.write(file, ""));
            root
        }

        pub fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        pub fn write(&self, name: &str, content: &str) {
            fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            fs::write(self.path(name), content).unwrap();
        }

        /// The detected layout, and the data set.
        pub fn open(&self) -> (Layout, Dataset) {
            Dataset::list(None, self.0.path(), &[]).unwrap()
        }

        /// The error of opening it in this layout, without this folder's name.
        pub fn refusal(&self, layout: Layout) -> String {
            let error = Dataset::open_as(Some(layout), self.0.path(), &[]).unwrap_err();
            let root = self.0.path().display().to_string();
            format!("{error:#}").replace(&format!("{root}/"), "").replace(&root, "ROOT")
        }

        /// `path defect masks sample` of each test photo.
        pub fn test_photos(&self, class: &Class) -> Vec<String> {
            let short = |path: &Path| path.strip_prefix(self.0.path()).unwrap().display().to_string();
            let line = |photo: &TestPhoto| {
                let masks: Vec<String> = photo.masks.iter().map(|mask| short(mask)).collect();
                let parts = [short(&photo.path), photo.defect.clone().unwrap_or_default(), masks.join("+")];
                let sample = photo.sample.clone().unwrap_or_default();
                [&parts[..], &[sample]].concat().join(" ").trim_end().to_owned()
            };
            class.test.iter().map(line).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Root;
    use super::*;

    #[test]
    fn lists_classes_and_names_what_is_missing() {
        let root = Root::with(&[]);
        let open = |only: &[&str]| Dataset::open(&root.path(""), &only.iter().map(|&s| s.into()).collect::<Vec<_>>());
        let error = open(&[]).unwrap_err().to_string();
        assert!(error.contains("fits no known layout (it is empty)"), "{error}");
        for file in ["train/good/1.png", "train/good/._1.png", "test/good/2.JPG", "test/scratch/3.png"] {
            root.write(&format!("nut/{file}"), "");
        }
        let dataset = open(&[]).unwrap();
        assert_eq!(dataset.train_photos(), 1);
        assert_eq!((dataset.classes[0].name.as_str(), dataset.classes[0].test.len()), ("nut", 2));
        assert!(open(&["bolt"]).unwrap_err().to_string().contains("class bolt is not in"));
        fs::create_dir_all(root.path("bolt")).unwrap();
        let error = open(&[]).unwrap_err().to_string();
        assert!(error.contains("bolt is empty"), "{error}");
        assert_eq!(open(&["nut"]).unwrap().classes.len(), 1, "only nut is selected");
        fs::create_dir_all(root.path("bolt/train/good")).unwrap();
        let error = Dataset::open_for_training(None, &root.path(""), &[]).unwrap_err().to_string();
        assert!(error.contains("bolt/train/good holds no photos"), "{error}");
        assert_eq!(open(&[]).unwrap().classes.len(), 2, "only training needs good photos");
    }

    #[test]
    fn a_class_has_the_name_of_its_folder_however_that_is_given() {
        let root = Root::with(&["nut/test/good/2.png"]);
        for path in ["nut", "nut/", "nut/test/..", "nut/."] {
            let dataset = Dataset::open(&root.path(path), &[]).unwrap();
            assert_eq!(dataset.classes[0].name, "nut", "{path}");
        }
    }

    #[test]
    fn a_class_without_a_single_mask_has_none_and_another_misses_one() {
        let root = Root::with(&["nut/test/cut/1.png", "bolt/test/cut/1.png", "bolt/test/cut/2.png"]);
        root.write("bolt/ground_truth/cut/2_mask.png", "");
        let (_, dataset) = root.open();
        assert_eq!(
            root.test_photos(&dataset.classes[0]),
            [
                "bolt/test/cut/1.png cut bolt/ground_truth/cut/1_mask.png",
                "bolt/test/cut/2.png cut bolt/ground_truth/cut/2_mask.png"
            ]
        );
        assert_eq!(root.test_photos(&dataset.classes[1]), ["nut/test/cut/1.png cut"]);
    }
}
