//! Checks of masks: missing, not fitting their photo, empty, or without a photo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Files, Finding, Severity};
use crate::dataset::files::key;
use crate::dataset::words::is_good;
use crate::dataset::{Class, Layout, TestPhoto, photos};

/// Share of a photo that is hardly ever a defect.
const MOST: f64 = 0.5;

/// Checks the masks of one class.
pub(super) fn findings(layout: Layout, class: &Class, files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |severity, problem: String, files| findings.push(Finding::of(class, severity, problem, files));
    let defective: Vec<&TestPhoto> = class.test.iter().filter(|photo| photo.defect.is_some()).collect();
    if defective.iter().all(|photo| photo.masks.is_empty()) {
        if !defective.is_empty() {
            say(Severity::Note, "no masks: pixel metrics will be left out".into(), Vec::new());
        }
    } else {
        for photo in &defective {
            if photo.masks.is_empty() {
                say(
                    Severity::Error,
                    format!("photo {} has no mask, but others have", photo.path.display()),
                    Vec::new(),
                );
            }
            for mask in &photo.masks {
                if let Some(problem) = misfit(photo, mask, files) {
                    say(Severity::Error, problem, Vec::new());
                }
            }
        }
        let read = |mask: &PathBuf| files.get(mask)?.picture.as_ref().ok()?.mask;
        let is_black = |mask: &PathBuf| read(mask).is_some_and(|mask| mask.defect == 0.0);
        let empty = defective.iter().filter(|photo| !photo.masks.is_empty() && photo.masks.iter().all(is_black));
        let empty: Vec<PathBuf> = empty.map(|photo| photo.masks[0].clone()).collect();
        if !empty.is_empty() {
            say(Severity::Warning, "masks that show no defect".into(), empty);
        }
        let masks: BTreeSet<&PathBuf> = defective.iter().flat_map(|photo| &photo.masks).collect();
        let masks = || masks.iter().copied();
        let full: Vec<PathBuf> = masks().filter(|mask| read(mask).is_some_and(|m| m.defect > MOST)).cloned().collect();
        if !full.is_empty() {
            let problem = "masks that call more than half of the photo a defect: black and white may be exchanged";
            say(Severity::Warning, problem.into(), full);
        }
        let lossy: Vec<PathBuf> = masks().filter(|mask| read(mask).is_some_and(|m| m.lossy)).cloned().collect();
        if !lossy.is_empty() {
            let problem = "masks with many values between black and white (JPEG?): what is darker than half of the brightest is no defect";
            say(Severity::Warning, problem.into(), lossy);
        }
        let mut users: BTreeMap<&PathBuf, Vec<String>> = BTreeMap::new();
        for photo in &defective {
            photo.masks.iter().for_each(|mask| users.entry(mask).or_default().push(photo.path.display().to_string()));
        }
        let shared: Vec<PathBuf> =
            users.into_values().filter(|users| users.len() > 1).map(|users| users.join(" = ").into()).collect();
        if !shared.is_empty() {
            say(Severity::Warning, "photos of one name, which share a mask".into(), shared);
        }
        let strangers = defective.iter().filter(|photo| photo.masks.iter().any(|mask| !is_named_after(mask, photo)));
        let strangers: Vec<PathBuf> = strangers.map(|photo| photo.masks[0].clone()).collect();
        if !strangers.is_empty() {
            let problem = "masks without the names of photos, paired with them in alphabetical order";
            say(Severity::Warning, problem.into(), strangers);
        }
    }
    let orphans = orphans(layout, class);
    if !orphans.is_empty() {
        say(Severity::Warning, "masks that belong to no photo".into(), orphans);
    }
    findings
}

/// Why a mask does not fit its photo, if it does not.
fn misfit(photo: &TestPhoto, mask: &Path, files: &Files) -> Option<String> {
    if !mask.is_file() {
        return Some(format!("mask {} of photo {} is missing", mask.display(), photo.path.display()));
    }
    let (shown, photographed) = match (&files.get(mask)?.picture, &files.get(&photo.path)?.picture) {
        (Ok(mask), Ok(photo)) => (mask, photo),
        (Err(problem), _) => return Some(format!("mask: {problem}")),
        // The error of the photo is reported already.
        (Ok(_), Err(_)) => return None,
    };
    let ([width, height], [w, h]) = (shown.size, photographed.size);
    // A mask without orientation is turned with its photo.
    let fits = [width, height] == [w, h] || (photographed.turned && !shown.turned && [height, width] == [w, h]);
    (!fits).then(|| format!("mask {} is {width} × {height} pixels, its photo {w} × {h}", mask.display()))
}

/// Whether the name of the mask or its folder starts with the photo's name.
fn is_named_after(mask: &Path, photo: &TestPhoto) -> bool {
    let photo = key(&photo.path);
    [Some(mask), mask.parent()].into_iter().flatten().any(|path| key(path).starts_with(&photo))
}

/// Pictures in the mask folder that are no photo's mask. Folders of good photos may hold black masks.
fn orphans(layout: Layout, class: &Class) -> Vec<PathBuf> {
    let Some(folder) = layout.mask_folder(class) else { return Vec::new() };
    let used: BTreeSet<&PathBuf> = class.test.iter().flat_map(|photo| &photo.masks).collect();
    let mut orphans = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        orphans.extend(photos(&folder).unwrap_or_default().into_iter().filter(|path| !used.contains(path)));
        let inside = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.extend(inside.filter(|path| path.is_dir() && !is_good(path)));
    }
    orphans.sort();
    orphans
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::Root;

    #[test]
    fn each_thing_wrong_with_a_mask_is_named() {
        let root = Root::new();
        root.photo("nut/test/cut/2.png", 50);
        root.mask("nut/ground_truth/cut/0_mask.png", (12, 16), 255);
        root.mask("nut/ground_truth/cut/1_mask.png", (16, 12), 0);
        root.mask("nut/ground_truth/bent/9_mask.png", (16, 12), 255);
        root.mask("nut/ground_truth/good/0_mask.png", (16, 12), 0);
        assert_eq!(
            root.findings(),
            [
                "error    nut: mask nut/ground_truth/cut/0_mask.png is 12 × 16 pixels, its photo 16 × 12",
                "error    nut: mask nut/ground_truth/cut/2_mask.png of photo nut/test/cut/2.png is missing",
                "warning  nut: masks that show no defect: nut/ground_truth/cut/1_mask.png",
                "warning  nut: masks that belong to no photo: nut/ground_truth/bent/9_mask.png",
            ]
        );
        fs::write(root.path("nut/ground_truth/cut/2_mask.png"), "").unwrap();
        let findings = root.findings();
        assert_eq!(findings[1], "error    nut: mask: photo nut/ground_truth/cut/2_mask.png: the file is empty");
    }

    #[test]
    fn masks_that_say_something_else_than_meant_are_named() {
        let root = Root::new();
        let mask = |name: &str, value: fn(u32) -> u8| {
            let picture = image::GrayImage::from_fn(16, 12, |x, _| image::Luma([value(x)]));
            root.save(name, picture);
        };
        mask("nut/ground_truth/cut/0_mask.png", |x| if x == 3 { 0 } else { 255 });
        root.save("nut/test/cut/1.jpg", image::RgbImage::new(16, 12));
        let findings = root.findings();
        let starts = [
            "warning  nut: masks that call more than half of the photo a defect: black and white may be exchanged: nut/ground_truth/cut/0_mask.png",
            "warning  nut: photos of one name, which share a mask: nut/test/cut/1.jpg = nut/test/cut/1.png",
        ];
        assert_eq!(findings, starts);
        let values: Vec<u8> = (0..16).map(|x| x * 17).collect();
        root.save(
            "nut/ground_truth/cut/1_mask.png",
            image::GrayImage::from_fn(16, 12, |x, _| image::Luma([values[x as usize]])),
        );
        assert!(root.findings()[1].contains("many values between black and white"), "{:?}", root.findings());
    }

    #[test]
    fn a_class_without_masks_is_a_note_and_masks_in_order_a_warning() {
        let root = Root::new();
        for i in 0..2 {
            let mask = |name: &str| root.path(&format!("nut/ground_truth/cut/{name}.png"));
            fs::rename(mask(&format!("{i}_mask")), mask(&format!("label{i}"))).unwrap();
        }
        let expected = "warning  nut: masks without the names of photos, paired with them in alphabetical order: \
                        nut/ground_truth/cut/label0.png, nut/ground_truth/cut/label1.png";
        assert_eq!(root.findings(), [expected]);
        fs::remove_dir_all(root.path("nut/ground_truth")).unwrap();
        assert_eq!(root.findings(), ["note     nut: no masks: pixel metrics will be left out"]);
    }
}
