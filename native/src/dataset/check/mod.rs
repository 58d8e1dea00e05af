//! Checks of a data set before training.

mod colours;
mod examine;
mod masks;
mod photos;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::dataset::{Class, Dataset, Layout};
use crate::system::progress::Progress;

pub use colours::Colours;
pub use examine::{Examined, Picture};
pub use report::{ClassReport, Finding, Report, Severity, Sizes};

/// All files of a data set, by path.
type Files = BTreeMap<PathBuf, Examined>;

/// Reads all photos and masks of a data set, on all cores, and reports problems.
pub fn check(layout: Layout, dataset: &Dataset) -> Report {
    let files = dataset.classes.iter().flat_map(files_of).collect::<std::collections::BTreeSet<_>>();
    let progress = Progress::new("checking", files.len(), "files");
    let examined = files.into_par_iter().map(|path| {
        let examined = Examined::of(&path);
        progress.advance(1, String::new);
        (path, examined)
    });
    let files: Files = examined.collect();
    progress.finish();
    let mut findings = photos::duplicates(&dataset.classes, &files);
    for class in &dataset.classes {
        findings.extend(photos::findings(layout, class, &files));
        findings.extend(masks::findings(layout, class, &files));
    }
    findings.sort_by_key(|finding| finding.severity);
    let classes = dataset.classes.iter().map(|class| ClassReport::of(class, &files)).collect();
    Report { layout: layout.to_string(), classes, findings }
}

fn files_of(class: &Class) -> impl Iterator<Item = PathBuf> {
    let test = class.test.iter().flat_map(|photo| std::iter::once(&photo.path).chain(&photo.masks));
    class.train.iter().chain(test).cloned()
}

/// The readable photos of a class.
fn pictures<'a>(class: &'a Class, files: &'a Files) -> impl Iterator<Item = (&'a PathBuf, &'a Picture)> {
    let paths = class.train.iter().chain(class.test.iter().map(|photo| &photo.path));
    paths.filter_map(|path| Some((path, files[path].picture.as_ref().ok()?)))
}

#[cfg(test)]
mod testing {
    //! A data set of small pictures, and its report.

    use std::path::Path;

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

        pub fn check(&self) -> Report {
            let (layout, dataset) = Dataset::list(None, self.0.path(), &[]).unwrap();
            check(layout, &dataset)
        }

        /// The findings, without this folder's name.
        pub fn findings(&self) -> Vec<String> {
            let short = |path: &Path| path.display().to_string().replace(&format!("{}/", self.0.path().display()), "");
            self.check().findings.iter().map(|finding| short(Path::new(&finding.line()))).collect()
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
