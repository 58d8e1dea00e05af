//! Checks of masks: missing, not fitting their photo, empty, or without a photo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Files, Finding, Severity};
use crate::dataset::{Class, Layout, TestPhoto, photos};

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
        let is_black = |mask: &PathBuf| files[mask].picture.as_ref().is_ok_and(|picture| picture.black);
        let empty = defective.iter().filter(|photo| !photo.masks.is_empty() && photo.masks.iter().all(is_black));
        let empty: Vec<PathBuf> = empty.map(|photo| photo.masks[0].clone()).collect();
        if !empty.is_empty() {
            say(Severity::Warning, "masks that show no defect".into(), empty);
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
    let [shown, photographed] = match (&files[mask].picture, &files[&photo.path].picture) {
        (Ok(mask), Ok(photo)) => [mask.size, photo.size],
        (Err(problem), _) => return Some(format!("mask: {problem}")),
        // The error of the photo is reported already.
        (Ok(_), Err(_)) => return None,
    };
    let [[width, height], [w, h]] = [shown, photographed];
    (shown != photographed)
        .then(|| format!("mask {} is {width} × {height} pixels, its photo {w} × {h}", mask.display()))
}

/// Whether the name of the mask or its folder starts with the photo's name.
fn is_named_after(mask: &Path, photo: &TestPhoto) -> bool {
    let stem = photo.path.file_stem().unwrap_or_default().to_string_lossy();
    let names = [mask.file_stem(), mask.parent().and_then(Path::file_name)];
    names.into_iter().flatten().any(|name| name.to_string_lossy().starts_with(&*stem))
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
        let is_good = |path: &Path| ["good", "ok"].iter().any(|good| path.ends_with(good));
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
