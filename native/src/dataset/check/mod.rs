//! Checks of a data set before training.

mod colours;
mod counts;
mod duplicates;
mod examine;
mod masks;
mod photos;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::dataset::{Class, Dataset, Layout};
use crate::system::progress::Progress;

pub use colours::Colours;
pub(crate) use examine::Examined;
use examine::Picture;
pub use report::{CheckReport, ClassReport, Finding, Severity, Sizes};

/// What a data set is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// All files are decoded.
    Everything,
    /// Headers of the photos to train on.
    Training,
    /// Headers of the labelled photos, and their masks.
    Evaluation,
}

/// Files of a data set, by path.
type Files = BTreeMap<PathBuf, Examined>;

/// Reads photos and masks of a data set, on all cores, and reports problems.
pub fn check(layout: Layout, dataset: &Dataset, purpose: Purpose) -> CheckReport {
    let mut examine: BTreeMap<PathBuf, fn(&Path) -> Examined> = BTreeMap::new();
    let [photo, mask]: [fn(&Path) -> Examined; 2] = match purpose {
        Purpose::Everything => [Examined::whole; 2],
        Purpose::Training | Purpose::Evaluation => [Examined::header, Examined::whole],
    };
    for class in &dataset.classes {
        examine.extend(photos_for(purpose, class).map(|path| (path.clone(), photo)));
        if purpose != Purpose::Training {
            examine.extend(class.test.iter().flat_map(|photo| &photo.masks).map(|path| (path.clone(), mask)));
        }
    }
    let progress = Progress::new("checking", examine.len(), "files");
    let examined = examine.into_par_iter().map(|(path, how)| {
        let examined = how(&path);
        progress.advance(1, String::new);
        (path, examined)
    });
    let files: Files = examined.collect();
    progress.finish();
    let mut findings = duplicates::findings(&dataset.classes, &files, purpose);
    for class in &dataset.classes {
        findings.extend(photos::findings(layout, class, &files, purpose));
        if purpose != Purpose::Training {
            findings.extend(masks::findings(layout, class, &files));
        }
    }
    if purpose == Purpose::Everything {
        findings.extend(counts::findings(layout, dataset));
    }
    findings.sort_by_key(|finding| finding.severity);
    let classes = dataset.classes.iter().map(|class| ClassReport::of(class, &files)).collect();
    CheckReport { layout: layout.to_string(), classes, findings }
}

/// Says on standard error what may be wrong with data before it is used.
pub fn warn(layout: Layout, dataset: &Dataset, purpose: Purpose, data: &Path) {
    check(layout, dataset, purpose).brief(data).lines().for_each(|line| eprintln!("{line}"));
}

/// Photos that are used for a purpose.
fn photos_for(purpose: Purpose, class: &Class) -> impl Iterator<Item = &PathBuf> {
    let train = if purpose == Purpose::Evaluation { &[][..] } else { &class.train };
    let test = if purpose == Purpose::Training { &[][..] } else { &class.test };
    train.iter().chain(test.iter().map(|photo| &photo.path))
}

/// The readable photos of a class.
fn pictures<'a>(class: &'a Class, files: &'a Files) -> impl Iterator<Item = (&'a PathBuf, &'a Picture)> {
    let paths = class.train.iter().chain(class.test.iter().map(|photo| &photo.path));
    paths.filter_map(|path| Some((path, files.get(path)?.picture.as_ref().ok()?)))
}

#[cfg(test)]
mod testing {
    //! A data set of small pictures, and its report.

    use super::*;

    pub struct Root(tempfile::TempDir);

    impl Root {
        /// A data set with no problems: twelve good training photos, two good and two defective test photos, and their masks.
        pub fn new() -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            for i in 0..12 {
                root.photo(&format!("nut/train/good/{i}.png"), i);
            }
            for i in 0..2 {
                root.photo(&format!("nut/test/good/{i}.png"), 20 + i);
                root.photo(&format!("nut/test/cut/{i}.png"), 40 + i);
                root.mask(&format!("nut/ground_truth/cut/{i}_mask.png"), (16, 12), 255);
            }
            root
        }

        pub fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        pub fn save(&self, name: &str, image: impl Into<image::DynamicImage>) {
            std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            image.into().save(self.path(name)).unwrap();
        }

        pub fn photo(&self, name: &str, level: u8) {
            self.save(name, image::RgbImage::from_pixel(16, 12, image::Rgb([level, 90, 10])));
        }

        /// A picture with one pixel of this value.
        pub fn mask(&self, name: &str, (width, height): (u32, u32), value: u8) {
            let mut mask = image::GrayImage::new(width, height);
            mask.put_pixel(0, 0, image::Luma([value]));
            self.save(name, mask);
        }

        pub fn check_for(&self, purpose: Purpose) -> Vec<String> {
            let (layout, dataset) = Dataset::list(None, self.0.path(), &[]).unwrap();
            self.lines(&check(layout, &dataset, purpose))
        }

        pub fn check(&self) -> CheckReport {
            let (layout, dataset) = Dataset::list(None, self.0.path(), &[]).unwrap();
            check(layout, &dataset, Purpose::Everything)
        }

        /// The findings, without this folder's name.
        pub fn findings(&self) -> Vec<String> {
            self.lines(&self.check())
        }

        fn lines(&self, report: &CheckReport) -> Vec<String> {
            let root = format!("{}/", self.0.path().display());
            report.findings.iter().map(|finding| finding.line().replace(&root, "")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Root;

    #[test]
    fn nothing_is_found_where_all_is_well() {
        let root = Root::new();
        assert_eq!(root.findings(), [""; 0]);
        let report = root.check();
        assert_eq!((report.layout.as_str(), report.classes.len()), ("mvtec", 1));
        let nut = &report.classes[0];
        assert_eq!((nut.train, nut.good, nut.defects["cut"]), (12, 2, 2));
        assert_eq!((nut.formats["PNG"], nut.colours["colour"]), (16, 16));
        assert_eq!(nut.sizes.as_ref().unwrap().most_common, [16, 12]);
    }
}
