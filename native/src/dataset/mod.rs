//! Photos on disk in the layouts of public data sets. Each layout is a file that gives a [`Dataset`].

mod autovi;
mod bmad;
mod btad;
pub mod check;
mod class_folders;
mod class_names;
mod columns;
mod dagm;
mod files;
mod folder;
pub(crate) mod grey16;
mod ground_truth;
mod kaputt;
mod kolektor;
mod layout;
mod manta;
mod mpdd;
mod mvtec;
mod mvtec_3d;
mod mvtec_ad2;
mod mvtec_loco;
mod named_folders;
pub mod published;
mod real_iad;
pub(crate) mod split;
mod table;
mod uni_medical;
mod visa;
pub(crate) mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::window::Window;

use check::Purpose;
#[cfg(feature = "score")]
pub(crate) use files::has_ending;
pub(crate) use files::photos_below;
use files::{MASKS, masks_beside};
pub use files::{PHOTO_ENDINGS, counted, few, left_out, photos, without_masks};
pub use grey16::WindowChoice;
pub use layout::Layout;
pub(crate) use mvtec_ad2::SUBMITTED as MVTEC_AD2_SUBMITTED;
#[cfg(feature = "score")]
pub(crate) use words::is_masks;

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
        if layout.has_named_folders() {
            dataset.unusual_places().iter().for_each(|line| eprintln!("{line}"));
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
        let is_readable = root.is_dir() || (root.is_file() && columns::is_table(root));
        if !is_readable {
            let what = if root.exists() { "is a file" } else { "does not exist" };
            bail!(
                "{} {what}: expected a folder of photos of good parts, or of class folders, or a table of photos (.csv, .parquet)",
                root.display()
            );
        }
        // A class has the name of its folder, which `.` and `a/..` do not tell.
        let named = root.canonicalize().with_context(|| format!("folder {} cannot be listed", root.display()))?;
        let root = if root.file_name().is_some() { root } else { &named };
        let (layout, places) = Layout::find(layout, root)?;
        let places = class_names::chosen(places, only, root)?;
        let mut classes = places.iter().map(|place| layout.open(root, place)).collect::<Result<Vec<_>>>()?;
        for class in &mut classes {
            // A table names its masks, so that a missing one is an error.
            if layout != Layout::Table && !class.test.iter().flat_map(|photo| &photo.masks).any(|mask| mask.is_file()) {
                class.test.iter_mut().for_each(|photo| photo.masks.clear());
            }
        }
        Ok((layout, Self { classes }))
    }

    /// Where good photos lie, if not where their layout says: in folders of other names, or below.
    fn unusual_places(&self) -> Vec<String> {
        let of_class = |class: &Class| {
            let inside = |folder: &&Path| folder.starts_with(&class.folder) && **folder != class.folder;
            let good = |photo: &&PathBuf| {
                let mut folders = photo.ancestors().skip(1).take_while(inside);
                folders.find(|folder| words::is_good(folder)).map(Path::to_owned)
            };
            let folders: BTreeSet<PathBuf> = class.train.iter().filter_map(|photo| good(&photo)).collect();
            let below =
                class.train.iter().filter(|photo| good(photo).is_some_and(|good| photo.parent() != Some(&good)));
            let below = below.count();
            let named = folders.iter().any(|folder| !["good", "ok"].contains(&&*files::name(folder)));
            (below > 0 || named).then(|| {
                let place =
                    |folder: &PathBuf| folder.strip_prefix(&class.folder).unwrap_or(folder).display().to_string();
                let places: Vec<String> = folders.iter().map(place).collect();
                let below = if below > 0 { format!(", {below} of them in folders below") } else { String::new() };
                format!(
                    "{}: {} in {}{below}",
                    class.name,
                    counted(class.train.len(), "good photo", "good photos"),
                    few(&places)
                )
            })
        };
        self.classes.iter().filter_map(of_class).collect()
    }

    /// Number of good photos to train on.
    pub fn train_photos(&self) -> usize {
        self.classes.iter().map(|class| class.train.len()).sum()
    }
}

/// Reads and decodes a photo, in a model's window of 16-bit grey.
///
/// # Errors
/// If the file cannot be read or decoded; the error names it.
pub fn read_photo(path: &Path, window: Option<Window>) -> Result<Photo> {
    let bytes = fs::read(path).with_context(|| format!("photo {} cannot be read", path.display()))?;
    Ok(Photo::decode_in(&path.display().to_string(), &bytes, window)?)
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
    fn good_photos_have_the_names_that_people_give_them() {
        for good in ["Good", "OK", "ok", "Normal"] {
            let root = Root::with(&[
                &format!("nut/train/{good}/1.png"),
                &format!("nut/test/{good}/2.png"),
                "nut/test/cut/3.png",
                "nut/ground_truth/cut/3_mask.png",
            ]);
            let (_, dataset) = root.open();
            let [class] = &dataset.classes[..] else { panic!("{good}") };
            assert_eq!((class.train.len(), class.test.len()), (1, 2), "{good}");
            assert_eq!(class.test.iter().filter(|photo| photo.defect.is_none()).count(), 1, "{good}");
            let told = dataset.unusual_places();
            match good {
                "ok" => assert_eq!(told, [""; 0]),
                _ => assert_eq!(told, [format!("nut: 1 good photo in train/{good}")]),
            }
        }
    }

    #[test]
    fn folders_below_belong_to_it() {
        let root = Root::with(&[
            "nut/train/good/1.png",
            "nut/train/good/day1/1.jfif",
            "nut/train/good/day2/late/1.JPE",
            "nut/test/cut/day1/1.png",
            "nut/test/cut/day2/1.png",
            "nut/test/cut/day2/2.png",
            "nut/ground_truth/cut/day1/1_mask.png",
            "nut/ground_truth/cut/day2/1_mask.png",
            "nut/ground_truth/cut/2_mask.png",
        ]);
        let (_, dataset) = root.open();
        assert_eq!(dataset.train_photos(), 3);
        assert_eq!(dataset.unusual_places(), ["nut: 3 good photos in train/good, 2 of them in folders below"]);
        assert_eq!(
            root.test_photos(&dataset.classes[0]),
            [
                "nut/test/cut/day1/1.png cut nut/ground_truth/cut/day1/1_mask.png",
                "nut/test/cut/day2/1.png cut nut/ground_truth/cut/day2/1_mask.png",
                "nut/test/cut/day2/2.png cut nut/ground_truth/cut/2_mask.png",
            ]
        );
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.path("nut/train/good"), root.path("nut/train/good/again")).unwrap();
            assert_eq!(root.open().1.train_photos(), 3, "a link to a folder above");
        }
    }

    #[test]
    fn masks_beside_photos_are_no_photos() {
        let root = Root::with(&[
            "nut/train/good/1.png",
            "nut/train/good/1_GT.png",
            "nut/train/good/2_mask.png",
            "nut/test/cut/3.png",
            "nut/test/cut/3_mask.png",
            "nut/test/good/4.png",
            "nut/test/good/4_gt.png",
        ]);
        let (_, dataset) = root.open();
        let nut = &dataset.classes[0];
        assert_eq!(
            nut.train,
            ["1.png", "2_mask.png"].map(|name| root.path("nut/train/good").join(name)),
            "2 is no photo"
        );
        assert_eq!(root.test_photos(nut), ["nut/test/cut/3.png cut nut/test/cut/3_mask.png", "nut/test/good/4.png"]);
    }

    #[test]
    fn a_mask_is_given_to_no_other_photo() {
        let root = Root::with(&[
            "nut/test/cut/day1/1.png",
            "nut/test/cut/day2/1.png",
            "nut/ground_truth/cut/day2/1_mask.png",
            "nut/test/cut/masks/1.png",
        ]);
        assert_eq!(
            root.test_photos(&root.open().1.classes[0]),
            [
                "nut/test/cut/day1/1.png cut nut/ground_truth/cut/day1/1_mask.png",
                "nut/test/cut/day2/1.png cut nut/ground_truth/cut/day2/1_mask.png",
            ],
            "that of day 1 is missing, and a folder of masks holds no photos"
        );
        let root = Root::with(&["nut/test/cut/1.png", "nut/test/cut/1_MASK.png", "nut/test/good/2.png"]);
        assert_eq!(root.test_photos(&root.open().1.classes[0])[0], "nut/test/cut/1.png cut nut/test/cut/1_MASK.png");
    }

    #[test]
    fn accents_are_compared_however_they_are_written() {
        let (composed, apart) = ("Pr\u{fc}fteil", "Pru\u{308}fteil");
        let root = Root::with(&[
            &format!("nut/test/cut/{composed}.png"),
            "nut/test/cut/z.png",
            &format!("nut/ground_truth/cut/{apart}_mask.png"),
            "nut/ground_truth/cut/z_mask.png",
        ]);
        let (_, dataset) = root.open();
        let expected = root.path(&format!("nut/ground_truth/cut/{apart}_mask.png"));
        assert_eq!(dataset.classes[0].test[0].masks, [expected]);
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
