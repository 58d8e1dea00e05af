//! Layouts of data sets, and detecting the layout of a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::class_folders::ClassFolders;
use super::files::holds;
use super::{Class, ClassFolder, Misfit};
use super::{
    autovi, bmad, btad, dagm, folder, kaputt, kolektor, manta, mpdd, mvtec, mvtec_3d, mvtec_ad2, mvtec_loco,
    named_folders, real_iad, table, uni_medical, visa,
};

/// Layout of a data set's folder. Specific layouts come before general ones, and [`Layout::Folder`] is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A table of photos, CSV or Parquet: image_path, label_index or label, split, mask_path
    Table,
    /// Folders that folders.toml names: normal_dir, abnormal_dir, normal_test_dir, mask_dir
    Folders,
    /// VisA as downloaded, with split_csv/1cls.csv (its authors' script converts it to MVTec-AD's layout)
    Visa,
    /// Real-IAD: realiad_jsons/CLASS.json, photos in realiad_1024, 512, 256 or raw; Real-IAD Variety: the same with realiadvariety
    RealIad,
    /// Kaputt: datasets/query-train.parquet and query-test.parquet, photos in query-image
    Kaputt,
    /// KolektorSDD: kos01/NAME.jpg, kos01/NAME_label.bmp
    KolektorSdd,
    /// KolektorSDD2: train/NAME.png, test/NAME.png, their masks NAME_GT.png beside them
    KolektorSdd2,
    /// DAGM 2007: CLASS/Train/NAME.PNG, CLASS/Test/NAME.PNG, Label/NAME_label.PNG in each
    Dagm,
    /// BMAD: CLASS/train/good, test/good/img, test/Ungood/img, test/Ungood/label
    Bmad,
    /// MVTec LOCO: test/logical_anomalies, test/structural_anomalies, several masks per photo
    MvtecLoco,
    /// BTAD: train/ok, test/ok, test/ko
    Btad,
    /// MPDD: as MVTec-AD, with MPDD's six classes
    Mpdd,
    /// Uni-Medical as published by the ADer project: as MVTec-AD, with classes brain, liver, retinal
    UniMedical,
    /// AutoVI: as MVTec-AD, with AutoVI's six classes, masks in ground_truth/DEFECT/NAME/0000.png
    AutoVi,
    /// MVTec AD 2: CLASS/train/good, test_public/good, test_public/bad, test_public/ground_truth/bad
    MvtecAd2,
    /// MVTec 3D-AD: CLASS/train/good/rgb, test/KIND/rgb, test/KIND/gt
    Mvtec3d,
    /// MANTA-Tiny: GROUP/CLASS with MVTec-AD's layout
    Manta,
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
    /// All layouts, in their order.
    pub const ALL: [Self; 19] = [
        Self::Table,
        Self::Folders,
        Self::Visa,
        Self::RealIad,
        Self::Kaputt,
        Self::KolektorSdd,
        Self::KolektorSdd2,
        Self::Dagm,
        Self::Bmad,
        Self::MvtecLoco,
        Self::Btad,
        Self::Mpdd,
        Self::UniMedical,
        Self::AutoVi,
        Self::MvtecAd2,
        Self::Mvtec3d,
        Self::Manta,
        Self::Mvtec,
        Self::Folder,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Folders => "folders",
            Self::Visa => "visa",
            Self::RealIad => "real-iad",
            Self::Kaputt => "kaputt",
            Self::KolektorSdd => "kolektor-sdd",
            Self::KolektorSdd2 => "kolektor-sdd2",
            Self::Dagm => "dagm",
            Self::Bmad => "bmad",
            Self::MvtecLoco => "mvtec-loco",
            Self::Btad => "btad",
            Self::Mpdd => "mpdd",
            Self::UniMedical => "uni-medical",
            Self::AutoVi => "autovi",
            Self::MvtecAd2 => "mvtec-ad2",
            Self::Mvtec3d => "mvtec-3d",
            Self::Manta => "manta",
            Self::Mvtec => "mvtec",
            Self::Folder => "folder",
        }
    }

    /// The classes in `root`, in the given layout or in the first that fits. Specific layouts come before general ones.
    pub(super) fn find(layout: Option<Self>, root: &Path) -> Result<(Self, Vec<ClassFolder>)> {
        if root.is_file() {
            return match layout {
                None | Some(Self::Table) => {
                    Self::Table.places(root).map(|places| (Self::Table, places)).map_err(anyhow::Error::msg)
                }
                Some(other) => bail!("{} is a file: the layout {other} is one of a folder", root.display()),
            };
        }
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
        match self {
            Self::MvtecLoco | Self::Btad | Self::MvtecAd2 | Self::Mvtec3d | Self::Bmad => true,
            Self::Table
            | Self::Folders
            | Self::Visa
            | Self::RealIad
            | Self::Kaputt
            | Self::KolektorSdd
            | Self::KolektorSdd2
            | Self::Dagm
            | Self::Mpdd
            | Self::UniMedical
            | Self::AutoVi
            | Self::Manta
            | Self::Mvtec
            | Self::Folder => false,
        }
    }

    fn places(self, root: &Path) -> Result<Vec<ClassFolder>, Misfit> {
        match self.rules() {
            Rules::ClassFolders(layout) => layout.places(root),
            Rules::Own(rules) => (rules.places)(root),
        }
    }

    /// Lists the photos of a class.
    pub(super) fn open(self, root: &Path, place: &ClassFolder) -> Result<Class> {
        match self.rules() {
            Rules::ClassFolders(layout) => layout.open(place),
            Rules::Own(rules) => (rules.open)(root, place),
        }
    }

    /// The place of a class's good photos, for messages.
    pub fn good_photos(self, class: &Class) -> String {
        let folder = match self.rules() {
            Rules::ClassFolders(layout) => Some(class.folder.join("train").join(layout.good)),
            Rules::Own(rules) => (rules.good)(&class.folder),
        };
        match folder {
            Some(folder) => folder.display().to_string(),
            None => format!("the training split of {}", class.folder.display()),
        }
    }

    /// The folder that holds only masks of a class, if the layout has one.
    pub fn mask_folder(self, class: &Class) -> Option<PathBuf> {
        match self.rules() {
            Rules::ClassFolders(_) => Some(class.folder.join("ground_truth")),
            Rules::Own(rules) => (rules.masks)(&class.folder),
        }
    }

    /// Whether `data check` need not say that a picture is left out: a mask that lies with the photos.
    pub(super) fn is_mask(self, picture: &Path) -> bool {
        match self {
            Self::KolektorSdd2 => kolektor::is_mask(picture),
            Self::Dagm => dagm::is_mask(picture),
            _ => false,
        }
    }

    /// Whether good photos lie in folders that people name: not where a list says.
    pub(super) fn has_named_folders(self) -> bool {
        self == Self::Folder || self.class_folders().is_some()
    }

    fn class_folders(self) -> Option<&'static ClassFolders> {
        match self.rules() {
            Rules::ClassFolders(layout) => Some(layout),
            Rules::Own(_) => None,
        }
    }

    /// The one table of what each layout is.
    fn rules(self) -> Rules {
        match self {
            Self::Mvtec => Rules::ClassFolders(&mvtec::LAYOUT),
            Self::Mpdd => Rules::ClassFolders(&mpdd::LAYOUT),
            Self::UniMedical => Rules::ClassFolders(&uni_medical::LAYOUT),
            Self::Btad => Rules::ClassFolders(&btad::LAYOUT),
            Self::MvtecLoco => Rules::ClassFolders(&mvtec_loco::LAYOUT),
            Self::AutoVi => Rules::ClassFolders(&autovi::LAYOUT),
            Self::Table => Rules::Own(OwnRules {
                places: table::places,
                open: |_, place| table::open(place),
                good: |_| None,
                masks: |_| None,
            }),
            Self::Folders => Rules::Own(OwnRules {
                places: named_folders::places,
                open: |_, place| named_folders::open(place),
                good: |_| None,
                masks: named_folders::masks,
            }),
            Self::Kaputt => {
                Rules::Own(OwnRules { places: kaputt::places, open: kaputt::open, good: |_| None, masks: |_| None })
            }
            Self::KolektorSdd => Rules::Own(OwnRules {
                places: kolektor::places,
                open: |_, place| kolektor::open(place),
                good: |class| Some(class.to_owned()),
                masks: |_| None,
            }),
            Self::KolektorSdd2 => Rules::Own(OwnRules {
                places: kolektor::places_2,
                open: |_, place| kolektor::open_2(place),
                good: |class| Some(class.join("train")),
                masks: |_| None,
            }),
            Self::Dagm => Rules::Own(OwnRules {
                places: dagm::places,
                open: |_, place| dagm::open(place),
                good: |class| Some(class.join("Train")),
                masks: |class| Some(class.join("Test/Label")),
            }),
            Self::Bmad => Rules::Own(OwnRules {
                places: bmad::places,
                open: |_, place| bmad::open(place),
                good: |class| Some(class.join("train/good")),
                masks: |_| None,
            }),
            Self::Manta => Rules::Own(OwnRules {
                places: manta::places,
                open: |_, place| mvtec::LAYOUT.open(place),
                good: |class| Some(class.join("train/good")),
                masks: |class| Some(class.join("ground_truth")),
            }),
            Self::Visa => Rules::Own(OwnRules {
                places: visa::places,
                open: visa::open,
                good: |_| None,
                masks: |class| Some(class.join("Data/Masks")),
            }),
            Self::RealIad => {
                Rules::Own(OwnRules { places: real_iad::places, open: real_iad::open, good: |_| None, masks: |_| None })
            }
            Self::MvtecAd2 => Rules::Own(OwnRules {
                places: mvtec_ad2::places,
                open: |_, place| mvtec_ad2::open(place),
                good: |class| Some(class.join("train/good")),
                masks: |class| Some(class.join("test_public/ground_truth")),
            }),
            Self::Mvtec3d => Rules::Own(OwnRules {
                places: mvtec_3d::places,
                open: |_, place| mvtec_3d::open(place),
                good: |class| Some(class.join("train/good")),
                masks: |_| None,
            }),
            Self::Folder => Rules::Own(OwnRules {
                places: folder::places,
                open: |_, place| folder::open(place),
                good: |class| Some(class.to_owned()),
                masks: |class| folder::masks(class).ok(),
            }),
        }
    }
}

// A layout that the list lacks would not be detected, nor be a value of `--layout`.
const _: () = {
    let mut at = 0;
    while at < Layout::ALL.len() {
        assert!(Layout::ALL[at] as usize == at, "`Layout::ALL` lacks a layout, or has another order");
        at += 1;
    }
    assert!(at == Layout::Folder as usize + 1, "`Layout::ALL` lacks a layout, or `Folder` is not the last");
};

/// What a layout is.
enum Rules {
    /// Class folders as those of MVTec-AD.
    ClassFolders(&'static ClassFolders),
    /// Anything else.
    Own(OwnRules),
}

struct OwnRules {
    /// The classes in a folder.
    places: fn(&Path) -> Result<Vec<ClassFolder>, Misfit>,
    /// Lists the photos of a class in a folder.
    open: fn(&Path, &ClassFolder) -> Result<Class>,
    /// The folder of good photos of the class in a folder; `None` if a list names them.
    good: fn(&Path) -> Option<PathBuf>,
    /// The folder that holds only masks of the class in a folder, if the layout has one.
    masks: fn(&Path) -> Option<PathBuf>,
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
