//! The data sets of the Dinomaly paper (arXiv 2405.14325, Section 4.1 and Appendix D), with their numbers of photos as published.

use std::fmt;

use serde::Deserialize;

use super::{Class, Layout};

/// A data set of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSet {
    /// MVTec-AD
    Mvtec,
    /// VisA
    Visa,
    /// Real-IAD
    RealIad,
    /// MPDD
    Mpdd,
    /// BTAD
    Btad,
    /// Uni-Medical
    UniMedical,
}

/// Numbers of photos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Good photos to train on.
    pub train: usize,
    /// Good photos to test.
    pub good: usize,
    /// Defective photos to test.
    pub defective: usize,
}

impl Counts {
    /// Of a class on disk.
    pub fn of(class: &Class) -> Self {
        let defective = class.test.iter().filter(|photo| photo.defect.is_some()).count();
        Self { train: class.train.len(), good: class.test.len() - defective, defective }
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            train: self.train + other.train,
            good: self.good + other.good,
            defective: self.defective + other.defective,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to train on, {} good and {} defective to test", self.train, self.good, self.defective)
    }
}

/// A class with its published numbers of photos.
type Published = (&'static str, [usize; 3]);

const MVTEC: [Published; 15] = [
    ("bottle", [209, 20, 63]),
    ("cable", [224, 58, 92]),
    ("capsule", [219, 23, 109]),
    ("carpet", [280, 28, 89]),
    ("grid", [264, 21, 57]),
    ("hazelnut", [391, 40, 70]),
    ("leather", [245, 32, 92]),
    ("metal_nut", [220, 22, 93]),
    ("pill", [267, 26, 141]),
    ("screw", [320, 41, 119]),
    ("tile", [230, 33, 84]),
    ("toothbrush", [60, 12, 30]),
    ("transistor", [213, 60, 40]),
    ("wood", [247, 19, 60]),
    ("zipper", [240, 32, 119]),
];

const VISA: [Published; 12] = [
    ("candle", [900, 100, 100]),
    ("capsules", [542, 60, 100]),
    ("cashew", [450, 50, 100]),
    ("chewinggum", [453, 50, 100]),
    ("fryum", [450, 50, 100]),
    ("macaroni1", [900, 100, 100]),
    ("macaroni2", [900, 100, 100]),
    ("pcb1", [904, 100, 100]),
    ("pcb2", [901, 100, 100]),
    ("pcb3", [905, 101, 100]),
    ("pcb4", [904, 101, 100]),
    ("pipe_fryum", [450, 50, 100]),
];

const MPDD: [Published; 6] = [
    ("bracket_black", [289, 32, 47]),
    ("bracket_brown", [185, 26, 51]),
    ("bracket_white", [110, 30, 30]),
    ("connector", [128, 30, 14]),
    ("metal_plate", [54, 26, 71]),
    ("tubes", [122, 32, 69]),
];

const BTAD: [Published; 3] = [("01", [400, 21, 49]), ("02", [399, 30, 200]), ("03", [1000, 400, 41])];

const UNI_MEDICAL: [Published; 3] =
    [("brain", [7500, 640, 3075]), ("liver", [1542, 660, 833]), ("retinal", [4297, 1041, 764])];

/// Real-IAD's classes; of their photos only the sums are published in the paper.
const REAL_IAD: [&str; 30] = [
    "audiojack",
    "bottle_cap",
    "button_battery",
    "end_cap",
    "eraser",
    "fire_hood",
    "mint",
    "mounts",
    "pcb",
    "phone_battery",
    "plastic_nut",
    "plastic_plug",
    "porcelain_doll",
    "regulator",
    "rolled_strip_base",
    "sim_card_set",
    "switch",
    "tape",
    "terminalblock",
    "toothbrush",
    "toy",
    "toy_brick",
    "transistor1",
    "u_block",
    "usb",
    "usb_adaptor",
    "vcpill",
    "wooden_beads",
    "woodstick",
    "zipper",
];

impl DataSet {
    /// Every data set of the paper.
    pub const ALL: [Self; 6] = [Self::Mvtec, Self::Visa, Self::RealIad, Self::Mpdd, Self::Btad, Self::UniMedical];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mvtec => "mvtec",
            Self::Visa => "visa",
            Self::RealIad => "real-iad",
            Self::Mpdd => "mpdd",
            Self::Btad => "btad",
            Self::UniMedical => "uni-medical",
        }
    }

    /// Name in texts.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mvtec => "MVTec-AD",
            Self::Visa => "VisA",
            Self::RealIad => "Real-IAD",
            Self::Mpdd => "MPDD",
            Self::Btad => "BTAD",
            Self::UniMedical => "Uni-Medical",
        }
    }

    fn published(self) -> &'static [Published] {
        match self {
            Self::Mvtec => &MVTEC,
            Self::Visa => &VISA,
            Self::RealIad => &[],
            Self::Mpdd => &MPDD,
            Self::Btad => &BTAD,
            Self::UniMedical => &UNI_MEDICAL,
        }
    }

    /// Names of its classes, as their folders are called.
    pub fn classes(self) -> Vec<&'static str> {
        match self {
            Self::RealIad => REAL_IAD.to_vec(),
            _ => self.published().iter().map(|(name, _)| *name).collect(),
        }
    }

    /// Published numbers of a class's photos; `None` for those of Real-IAD, and for other classes.
    pub fn counts(self, class: &str) -> Option<Counts> {
        let (_, [train, good, defective]) = self.published().iter().find(|(name, _)| *name == class)?;
        Some(Counts { train: *train, good: *good, defective: *defective })
    }

    /// Published numbers of all photos.
    pub fn total(self) -> Counts {
        match self {
            Self::RealIad => Counts { train: 36_465, good: 63_256, defective: 51_329 },
            _ => {
                let counts = self.published().iter().filter_map(|(name, _)| self.counts(name));
                counts.fold(Counts::default(), Counts::plus)
            }
        }
    }

    /// The data set that classes of a layout are of; `None` if it is not one of the paper's, or cannot be told.
    pub fn told(layout: Layout, classes: &[Class]) -> Option<Self> {
        let candidates: &[Self] = match layout {
            // VisA's authors' script converts it to this layout.
            Layout::Mvtec => &[Self::Mvtec, Self::Visa],
            Layout::Visa => &[Self::Visa],
            Layout::RealIad => &[Self::RealIad],
            Layout::Mpdd => &[Self::Mpdd],
            Layout::Btad => &[Self::Btad],
            Layout::UniMedical => &[Self::UniMedical],
            _ => &[],
        };
        let holds = |set: &&Self| classes.iter().all(|class| set.classes().contains(&class.name.as_str()));
        candidates.iter().find(holds).filter(|_| !classes.is_empty()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums that the paper prints (Section 4.1, Appendix D), or that data sets publish.
    #[test]
    fn classes_add_up_to_the_published_sums() {
        let total = |set: DataSet| (set.total().train, set.total().good, set.total().defective);
        assert_eq!(total(DataSet::Mvtec), (3_629, 467, 1_258));
        assert_eq!(total(DataSet::Visa), (8_659, 962, 1_200));
        assert_eq!(total(DataSet::RealIad), (36_465, 63_256, 51_329));
        assert_eq!(total(DataSet::Mpdd), (888, 176, 282));
        assert_eq!(total(DataSet::Btad), (1_799, 451, 290));
        let medical = DataSet::UniMedical.total();
        assert_eq!((medical.train, medical.good + medical.defective), (13_339, 7_013));
        assert_eq!(DataSet::ALL.map(|set| set.classes().len()), [15, 12, 30, 6, 3, 3]);
    }

    #[test]
    fn a_data_set_is_told_by_layout_and_classes() {
        let class = |name: &str| Class { name: name.into(), folder: "".into(), train: Vec::new(), test: Vec::new() };
        let told =
            |layout, names: &[&str]| DataSet::told(layout, &names.iter().map(|name| class(name)).collect::<Vec<_>>());
        assert_eq!(told(Layout::Mvtec, &["bottle", "zipper"]), Some(DataSet::Mvtec));
        assert_eq!(told(Layout::Mvtec, &["candle", "pcb4"]), Some(DataSet::Visa));
        assert_eq!(told(Layout::RealIad, &["zipper"]), Some(DataSet::RealIad));
        assert_eq!(told(Layout::RealIad, &["zipper", "bolt"]), None, "Real-IAD Variety");
        assert_eq!(told(Layout::Mvtec, &["bottle", "hinge"]), None);
        assert_eq!(told(Layout::Folder, &["bottle"]), None);
        assert_eq!(told(Layout::Mvtec, &[]), None);
    }
}
