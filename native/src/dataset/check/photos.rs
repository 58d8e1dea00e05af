//! Checks of photos: unreadable, left out, different from the others, or too few.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Colours, Examined, Files, Finding, Purpose, Severity, Sizes, photos_for, pictures};
use crate::dataset::split::HELD_OUT;
use crate::dataset::{Class, Layout, MASKS, left_out, masks_beside};

/// If at least this share of photos has one size, another size looks like a mistake.
const NEARLY_ALL: f64 = 0.9;

/// Checks the photos of one class.
pub(super) fn findings(layout: Layout, class: &Class, files: &Files, purpose: Purpose) -> Vec<Finding> {
    let found = [counts(layout, class, purpose), unreadable(class, files), not_listed(layout, class, purpose)];
    [found.concat(), defects_to_train_on(class, purpose), sizes(class, files), colours(class, files)].concat()
}

/// Folders of the photos that are used for a purpose.
fn folders(class: &Class, purpose: Purpose) -> BTreeSet<&Path> {
    photos_for(purpose, class).filter_map(|path| path.parent()).collect()
}

/// Files that are ignored.
fn not_listed(layout: Layout, class: &Class, purpose: Purpose) -> Vec<Finding> {
    // Subfolders of a plain folder hold its other photos and masks.
    let test = class.test.iter().flat_map(|photo| std::iter::once(&photo.path).chain(&photo.masks));
    let listed: BTreeSet<&PathBuf> = class.train.iter().chain(test).collect();
    // The folders may hold photos that a list leaves out, and their masks.
    let masks = masks_beside(photos_for(purpose, class));
    let mut found: BTreeMap<_, Vec<PathBuf>> = BTreeMap::new();
    for (why, paths) in folders(class, purpose).into_iter().filter_map(|folder| left_out(folder).ok()).flatten() {
        let is_missed =
            |path: &PathBuf| !listed.contains(path) && !layout.is_mask(path) && (why != MASKS || masks.contains(path));
        let paths = paths.into_iter().filter(is_missed);
        found.entry(why).or_default().extend(paths);
    }
    found.retain(|_, paths| !paths.is_empty());
    let finding = |(why, paths): (&str, Vec<PathBuf>)| {
        Finding::of(class, Severity::Warning, format!("ignored: {} {why}", paths.len()), paths)
    };
    found.into_iter().map(finding).collect()
}

/// Photos to train on beside which a mask shows a defect.
fn defects_to_train_on(class: &Class, purpose: Purpose) -> Vec<Finding> {
    if purpose == Purpose::Evaluation {
        return Vec::new();
    }
    let shows_defect = |mask: &PathBuf| {
        Examined::whole(mask).picture.is_ok_and(|picture| picture.mask.is_some_and(|mask| mask.defect > 0.0))
    };
    let found: Vec<PathBuf> = masks_beside(&class.train).into_iter().filter(shows_defect).collect();
    match found.is_empty() {
        true => Vec::new(),
        false => {
            let problem = format!("photos to train on whose masks show a defect: {}", found.len());
            vec![Finding::of(class, Severity::Error, problem, found)]
        }
    }
}

fn counts(layout: Layout, class: &Class, purpose: Purpose) -> Vec<Finding> {
    let least = 2 * HELD_OUT;
    let training = match class.train.len() {
        0 => Some(format!("no good photos to train on, expected in {}", layout.good_photos(class))),
        few if few < least => Some(format!(
            "good photos to train on: {few}; with {least} or more, {HELD_OUT} can be held out for a threshold"
        )),
        _ => None,
    };
    let defective = class.test.iter().filter(|photo| photo.defect.is_some()).count();
    let (severity, testing) = match (class.test.len() - defective, defective) {
        (0, 0) => (Severity::Note, Some("no labelled photos: for training only, not for evaluation")),
        (0, _) => (Severity::Warning, Some("no good photos among the labelled ones: I-AUROC will be undefined")),
        (_, 0) => {
            (Severity::Warning, Some("no defective photos among the labelled ones: every metric will be undefined"))
        }
        _ => (Severity::Note, None),
    };
    let training = training.filter(|_| purpose != Purpose::Evaluation).map(|problem| (Severity::Warning, problem));
    let testing = testing.filter(|_| purpose != Purpose::Training);
    let found = training.into_iter().chain(testing.map(|problem| (severity, problem.to_owned())));
    found.map(|(severity, problem)| Finding::of(class, severity, problem, Vec::new())).collect()
}

fn unreadable(class: &Class, files: &Files) -> Vec<Finding> {
    let photos = class.train.iter().chain(class.test.iter().map(|photo| &photo.path));
    photos
        .filter_map(|path| files.get(path)?.picture.clone().err())
        .map(|problem| Finding::of(class, Severity::Error, problem, Vec::new()))
        .collect()
}

fn sizes(class: &Class, files: &Files) -> Vec<Finding> {
    let Some(sizes) = Sizes::of(pictures(class, files).map(|(_, picture)| picture.size)) else { return Vec::new() };
    let [width, height] = sizes.most_common;
    let others = pictures(class, files).filter(|(_, picture)| picture.size != sizes.most_common);
    let others: Vec<PathBuf> = others.map(|(path, _)| path.clone()).collect();
    let all = pictures(class, files).count();
    if others.is_empty() {
        return Vec::new();
    }
    if (all - others.len()) as f64 >= NEARLY_ALL * all as f64 {
        let problem = format!("{} of {all} photos: not {width} × {height} pixels as the others", others.len());
        return vec![Finding::of(class, Severity::Warning, problem, others)];
    }
    let problem = format!("photos of {} sizes, {}: all are resized to the same square", sizes.distinct, sizes.range());
    vec![Finding::of(class, Severity::Note, problem, Vec::new())]
}

fn colours(class: &Class, files: &Files) -> Vec<Finding> {
    let mut by_colours: BTreeMap<Colours, Vec<PathBuf>> = BTreeMap::new();
    for (path, picture) in pictures(class, files) {
        by_colours.entry(picture.colours).or_default().push(path.clone());
    }
    let kinds = by_colours.len();
    let all = by_colours.values().map(Vec::len).sum::<usize>();
    let finding = |(colours, paths): (Colours, Vec<PathBuf>)| {
        let (severity, remark) = match colours {
            Colours::Rgb => return None,
            Colours::Grey if kinds == 1 => return None,
            Colours::Grey => (Severity::Warning, "the others are not"),
            Colours::Grey16 => (Severity::Note, "training chooses which values become black and white (--window)"),
            Colours::Deep => (Severity::Note, "read as 8 bits"),
            Colours::Alpha => (Severity::Note, "transparency is ignored"),
            Colours::Cmyk => (Severity::Note, "converted from Adobe's CMYK, without a colour profile"),
        };
        let problem = format!("{} of {all} photos: {colours}, {remark}", paths.len());
        Some(Finding::of(class, severity, problem, if kinds == 1 { Vec::new() } else { paths }))
    };
    by_colours.into_iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{DynamicImage, GrayImage, RgbImage};

    use super::super::Purpose;
    use super::super::testing::Root;

    #[test]
    fn a_photo_that_is_cut_off_or_gone_is_an_error() {
        let root = Root::new();
        let bytes = fs::read(root.path("nut/train/good/3.png")).unwrap();
        fs::write(root.path("nut/train/good/3.png"), &bytes[..bytes.len() / 2]).unwrap();
        fs::write(root.path("nut/test/good/0.png"), "hello").unwrap();
        let findings = root.findings();
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(
            findings[0].starts_with("error    nut: photo nut/train/good/3.png: the Png file is cut off"),
            "{findings:?}"
        );
        assert!(findings[1].contains("nut/test/good/0.png: not a PNG, JPEG"), "{findings:?}");
    }

    #[test]
    fn what_is_not_looked_at_is_counted() {
        let root = Root::new();
        fs::write(root.path("nut/train/good/3.HEIC"), "").unwrap();
        fs::write(root.path("nut/train/good/notes.txt"), "").unwrap();
        root.photo("nut/train/good/more/9.png", 99); // belongs to them
        root.photo("nut/train/good/9.png", 98);
        root.mask("nut/train/good/9_mask.png", (16, 12), 0);
        let mut expected = vec![
            "warning  nut: ignored: 1 of an unsupported format: nut/train/good/3.HEIC",
            "warning  nut: ignored: 1 that are masks of others: nut/train/good/9_mask.png",
        ];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere.png", root.path("nut/test/good/9.png")).unwrap();
            expected.insert(0, "warning  nut: ignored: 1 broken links: nut/test/good/9.png");
        }
        assert_eq!(root.findings(), expected);
    }

    #[test]
    fn only_masks_of_photos_to_train_on_speak_against_them() {
        let root = Root::new();
        // VisA's list trains on ten of the twelve photos, tests one and leaves one out.
        let photo = |split: &str, i: usize| format!("nut,{split},normal,nut/train/good/{i}.png,\n");
        let rows: String = (0..10).map(|i| photo("train", i)).chain([photo("test", 10)]).collect();
        fs::create_dir(root.path("split_csv")).unwrap();
        fs::write(root.path("split_csv/1cls.csv"), format!("object,split,label,image,mask\n{rows}")).unwrap();
        for i in [10, 11] {
            root.mask(&format!("nut/train/good/{i}_mask.png"), (16, 12), 255);
        }
        assert_eq!(root.check_for(Purpose::Training), [""; 0]);
        let expected = [
            "warning  nut: no defective photos among the labelled ones: every metric will be undefined",
            "warning  nut: ignored: 1 that are masks of others: nut/train/good/10_mask.png",
        ];
        assert_eq!(root.findings(), expected);
        root.mask("nut/train/good/9_mask.png", (16, 12), 255);
        assert_eq!(
            root.check_for(Purpose::Training),
            [
                "error    nut: photos to train on whose masks show a defect: 1: nut/train/good/9_mask.png",
                "warning  nut: ignored: 1 that are masks of others: nut/train/good/9_mask.png"
            ]
        );
    }

    #[test]
    fn one_odd_size_is_a_warning_and_many_are_a_note() {
        let root = Root::new();
        root.save("nut/train/good/3.png", RgbImage::new(12, 16));
        let expected = ["warning  nut: 1 of 16 photos: not 16 × 12 pixels as the others: nut/train/good/3.png"];
        assert_eq!(root.findings(), expected);
        for i in 4..8 {
            root.save(&format!("nut/train/good/{i}.png"), RgbImage::new(20 + i, 16));
        }
        let expected = ["note     nut: photos of 6 sizes, 12 × 16 to 27 × 16: all are resized to the same square"];
        assert_eq!(root.findings(), expected);
    }

    #[test]
    fn odd_colours_are_named() {
        let root = Root::new();
        root.save("nut/train/good/3.png", GrayImage::new(16, 12));
        root.save("nut/train/good/4.png", DynamicImage::new_luma16(16, 12));
        root.save("nut/train/good/5.png", DynamicImage::new_rgba8(16, 12));
        let findings = root.findings();
        let starts = [
            "warning  nut: 1 of 16 photos: grey, the others are not: nut/train/good/3.png",
            "note     nut: 1 of 16 photos: 16-bit grey, training chooses which values become black",
            "note     nut: 1 of 16 photos: transparent, transparency is ignored: nut/train/good/5.png",
        ];
        for (finding, start) in findings.iter().zip(starts) {
            assert!(finding.starts_with(start), "{findings:?}");
        }
        assert_eq!(findings.len(), starts.len());
    }

    #[test]
    fn too_few_photos_are_counted() {
        let root = Root::new();
        for i in 4..12 {
            fs::remove_file(root.path(&format!("nut/train/good/{i}.png"))).unwrap();
        }
        fs::remove_dir_all(root.path("nut/test/good")).unwrap();
        assert_eq!(
            root.findings(),
            [
                "warning  nut: good photos to train on: 4; with 10 or more, 5 can be held out for a threshold",
                "warning  nut: no good photos among the labelled ones: I-AUROC will be undefined"
            ]
        );
        fs::remove_dir_all(root.path("nut/test")).unwrap();
        fs::remove_dir_all(root.path("nut/train/good")).unwrap();
        assert_eq!(
            root.findings(),
            [
                "warning  nut: no good photos to train on, expected in nut/train/good",
                "warning  nut: masks that belong to no photo: nut/ground_truth/cut/0_mask.png, nut/ground_truth/cut/1_mask.png",
                "note     nut: no labelled photos: for training only, not for evaluation",
            ]
        );
    }
}
