//! Layouts of data sets, and detecting the layout of a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::class_folders::ClassFolders;
use super::files::holds;
use super::{Class, ClassFolder, Misfit};
use super::{btad, folder, mpdd, mvtec, mvtec_3d, mvtec_ad2, mvtec_loco, real_iad, uni_medical, visa};

/// Layout of a data set's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// VisA as downloaded, with split_csv/1cls.csv (its authors' script converts it to MVTec-AD's layout)
    Visa,
    /// Real-IAD: realiad_jsons/CLASS.json, photos in realiad_1024, 512, 256 or raw
    RealIad,
    /// MVTec LOCO: test/logical_anomalies, test/structural_anomalies, several masks per photo
    MvtecLoco,
    /// BTAD: train/ok, test/ok, test/ko
    Btad,
    /// MPDD: as MVTec-AD, with MPDD's six classes
    Mpdd,
    /// Uni-Medical as published by the ADer project: as MVTec-AD, with classes brain, liver, retinal
    UniMedical,
    /// MVTec AD 2: CLASS/train/good, test_public/good, test_public/bad, test_public/ground_truth/bad
    MvtecAd2,
    /// MVTec 3D-AD: CLASS/train/good/rgb, test/KIND/rgb, test/KIND/gt
    Mvtec3d,
    /// MVTec-AD: CLASS/train/good, test/good, test/DEFECT, ground_truth/DEFECT
    Mvtec,
    /// A plain folder: good photos in it or in good, defective photos in bad, their masks in masks
    Folder,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Layout {
    /// All layouts. Specific layouts come before general ones.
    pub const ALL: [Self; 10] = [
        Self::Visa,
        Self::RealIad,
        Self::MvtecLoco,
        Self::Btad,
        Self::Mpdd,
        Self::UniMedical,
        Self::MvtecAd2,
        Self::Mvtec3d,
        Self::Mvtec,
        Self::Folder,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visa => "visa",
            Self::RealIad => "real-iad",
            Self::MvtecLoco => "mvtec-loco",
            Self::Btad => "btad",
            Self::Mpdd => "mpdd",
            Self::UniMedical => "uni-medical",
            Self::MvtecAd2 => "mvtec-ad2",
            Self::Mvtec3d => "mvtec-3d",
            Self::Mvtec => "mvtec",
            Self::Folder => "folder",
        }
    }

    /// The classes in `root`, in the given layout or in the first that fits. Specific layouts come before general ones.
    pub(super) fn find(layout: Option<Self>, root: &Path) -> Result<(Self, Vec<ClassFolder>)> {
        if let Some(layout) = layout {
            return match layout.places(root) {
                Ok(places) => Ok((layout, places)),
                Err(misfit) => {
                    bail!("{} does not have the layout {layout} ({}): {misfit}", root.display(), holds(root))
                }
            };
        }
        let general: Vec<String> =
            Self::Mvtec.places(root).unwrap_or_default().into_iter().map(|place| place.name).collect();
        let is_among = |places: &[ClassFolder], name: &String| places.iter().any(|place| place.name == *name);
        let mut misfits: Vec<String> = Vec::new();
        for layout in Self::ALL {
            let names = layout.class_folders().map_or(&[][..], |layout| layout.classes);
            match layout.places(root) {
                // A class in it has the general layout only, so all have that.
                Ok(places) if layout.signs_are_particular() && general.iter().any(|name| !is_among(&places, name)) => {}
                Ok(places) if names.is_empty() || places.iter().all(|place| names.contains(&&*place.name)) => {
                    return Ok((layout, places));
                }
                // The message leaves out layouts that differ from MVTec-AD in class names only.
                Err(misfit) if names.is_empty() => misfits.push(format!("{layout}: {misfit}")),
                _ => {}
            }
        }
        bail!("{} fits no known layout ({}): {}", root.display(), holds(root), misfits.join("; "))
    }

    /// Whether it is told by folders that MVTec-AD's classes do not have.
    fn signs_are_particular(self) -> bool {
        matches!(self, Self::MvtecLoco | Self::Btad | Self::MvtecAd2 | Self::Mvtec3d)
    }

    fn places(self, root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
        match self {
            Self::Visa => visa::places(root),
            Self::RealIad => real_iad::places(root),
            Self::MvtecAd2 => mvtec_ad2::places(root),
            Self::Mvtec3d => mvtec_3d::places(root),
            Self::Folder => folder::places(root),
            _ => self.class_folders().expect("a layout of class folders").places(root),
        }
    }

    /// Lists the photos of a class.
    pub(super) fn open(self, root: &Path, place: &ClassFolder) -> Result<Class> {
        match self {
            Self::Visa => visa::open(root, place),
            Self::RealIad => real_iad::open(root, place),
            Self::MvtecAd2 => mvtec_ad2::open(place),
            Self::Mvtec3d => mvtec_3d::open(place),
            Self::Folder => folder::open(place),
            _ => self.class_folders().expect("a layout of class folders").open(place),
        }
    }

    /// The place of a class's good photos, for messages.
    pub fn good_photos(self, class: &Class) -> String {
        match self.class_folders() {
            Some(layout) => class.folder.join("train").join(layout.good).display().to_string(),
            None if matches!(self, Self::MvtecAd2 | Self::Mvtec3d) => {
                class.folder.join("train/good").display().to_string()
            }
            None if self == Self::Folder => class.folder.display().to_string(),
            None => format!("the training split of {}", class.folder.display()),
        }
    }

    /// The folder that holds only masks of a class, if the layout has one.
    pub fn mask_folder(self, class: &Class) -> Option<PathBuf> {
        match self {
            Self::Visa => Some(class.folder.join("Data/Masks")),
            Self::RealIad => None,
            Self::MvtecAd2 => Some(class.folder.join("test_public/ground_truth")),
            Self::Mvtec3d => None,
            Self::Folder => folder::masks(&class.folder).ok(),
            _ => Some(class.folder.join("ground_truth")),
        }
    }

    /// Whether good photos lie in folders that people name: not where a list says.
    pub(super) fn has_named_folders(self) -> bool {
        self == Self::Folder || self.class_folders().is_some()
    }

    fn class_folders(self) -> Option<&'static ClassFolders> {
        match self {
            Self::Mvtec => Some(&mvtec::LAYOUT),
            Self::Mpdd => Some(&mpdd::LAYOUT),
            Self::UniMedical => Some(&uni_medical::LAYOUT),
            Self::Btad => Some(&btad::LAYOUT),
            Self::MvtecLoco => Some(&mvtec_loco::LAYOUT),
            Self::Visa | Self::RealIad | Self::MvtecAd2 | Self::Mvtec3d | Self::Folder => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Root;
    use super::*;

    #[test]
    fn classes_of_two_layouts_have_the_general_one() {
        let root =
            Root::with(&["nut/train/ok/1.png", "nut/test/ko/1.png", "bolt/train/good/1.png", "bolt/test/cut/1.png"]);
        let (layout, dataset) = root.open();
        assert_eq!((layout, dataset.classes.len(), dataset.train_photos()), (Layout::Mvtec, 2, 2));
        assert_eq!(root.test_photos(&dataset.classes[1])[0], "nut/test/ko/1.png ko");
    }

    #[test]
    fn what_fits_nothing_is_told_what_was_looked_for_and_what_is_there() {
        let root = Root::with(&["notes.txt", "pictures/holiday/1.png"]);
        let error = super::super::Dataset::open(&root.path(""), &[]).unwrap_err().to_string();
        for part in [
            "fits no known layout (it holds notes.txt, pictures)",
            "visa: no split_csv/1cls.csv",
            "real-iad: no realiad_jsons",
            "mvtec-loco: no class folders with test/logical_anomalies or test/structural_anomalies",
            "btad: no class folders with train/ok, test/ok or test/ko",
            "mvtec: no class folders with train or test",
            "folder: no photos",
        ] {
            assert!(error.contains(part), "no {part} in {error}");
        }
        assert!(!error.contains("mpdd"), "{error}");
    }
}
