//! Numbers of photos beside those that are published, for the data sets of the paper.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Finding, Severity};
use crate::dataset::published::{Counts, DataSet};
use crate::dataset::{Class, Dataset, Layout, counted};

/// Classes whose numbers of photos differ from the published ones, and the sum of all classes if they are complete. None is an error: a
/// part of a data set is as usable as any photos.
pub(super) fn findings(layout: Layout, dataset: &Dataset) -> Vec<Finding> {
    let Some(set) = DataSet::told(layout, &dataset.classes) else { return Vec::new() };
    let mut found: Vec<Finding> = dataset.classes.iter().flat_map(|class| of_class(set, class)).collect();
    let here = dataset.classes.iter().map(Counts::of).fold(Counts::default(), Counts::plus);
    if dataset.classes.len() == set.classes().len() && here != set.total() {
        let problem = format!("{} has {} as published, here are {here}", set.title(), set.total());
        found.push(Finding { severity: Severity::Note, class: "all classes".into(), problem, files: Vec::new() });
    }
    if set == DataSet::Btad {
        let problem =
            "the training set of BTAD holds anomalous photos, as published (the paper's Appendix D)".to_owned();
        found.push(Finding { severity: Severity::Note, class: "all classes".into(), problem, files: Vec::new() });
    }
    found
}

fn of_class(set: DataSet, class: &Class) -> Vec<Finding> {
    let Some(published) = set.counts(&class.name) else { return Vec::new() };
    let here = Counts::of(class);
    if here == published {
        return Vec::new();
    }
    let note = |problem, files| Finding::of(class, Severity::Note, problem, files);
    let mut found = vec![note(format!("{} has {published} as published, here are {here}", set.title()), Vec::new())];
    // MVTec-AD numbers its photos from 000 on in each folder.
    if set == DataSet::Mvtec {
        let (missing, extra) = numbered(class, published.train);
        if !missing.is_empty() {
            let many = counted(missing.len(), "good photo to train on is", "good photos to train on are");
            found.push(note(format!("{many} missing"), missing));
        }
        if !extra.is_empty() {
            let many = counted(extra.len(), "good photo to train on is", "good photos to train on are");
            found.push(note(format!("{many} beyond the published ones"), extra));
        }
    }
    found
}

/// Photos that a class lacks of those numbered below `count`, and those of other names.
fn numbered(class: &Class, count: usize) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let number = |photo: &PathBuf| photo.file_stem()?.to_str()?.parse::<usize>().ok();
    let present: BTreeSet<usize> = class.train.iter().filter_map(number).collect();
    let folder = class.folder.join("train").join("good");
    let missing = (0..count).filter(|number| !present.contains(number));
    let extra = class.train.iter().filter(|photo| number(photo).is_none_or(|number| number >= count));
    (missing.map(|number| folder.join(format!("{number:03}.png"))).collect(), extra.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::TestPhoto;

    fn class(name: &str, train: impl Iterator<Item = usize>, good: usize, defective: usize) -> Class {
        let folder = PathBuf::from("data").join(name);
        let photo = |number: usize| folder.join("train/good").join(format!("{number:03}.png"));
        let test = |defect: Option<&str>| TestPhoto { defect: defect.map(Into::into), ..TestPhoto::default() };
        let mut labelled = vec![test(None); good];
        labelled.extend(vec![test(Some("cut")); defective]);
        Class { name: name.into(), train: train.map(photo).collect(), folder, test: labelled }
    }

    fn lines(layout: Layout, classes: Vec<Class>) -> Vec<String> {
        findings(layout, &Dataset { classes }).iter().map(Finding::line).collect()
    }

    #[test]
    fn photos_that_are_missing_or_added_are_named() {
        assert!(lines(Layout::Mvtec, vec![class("toothbrush", 0..60, 12, 30)]).is_empty());
        let kept = (0..60).filter(|number| ![3, 59].contains(number)).chain([77]);
        let found = lines(Layout::Mvtec, vec![class("toothbrush", kept, 12, 29)]);
        assert_eq!(
            found,
            [
                "note     toothbrush: MVTec-AD has 60 to train on, 12 good and 30 defective to test as published, here are \
                 59 to train on, 12 good and 29 defective to test",
                "note     toothbrush: 2 good photos to train on are missing: data/toothbrush/train/good/003.png, \
                 data/toothbrush/train/good/059.png",
                "note     toothbrush: 1 good photo to train on is beyond the published ones: data/toothbrush/train/good/077.png",
            ]
        );
        assert!(lines(Layout::Mvtec, vec![class("hinge", 0..3, 1, 1)]).is_empty(), "data of one's own");
    }

    #[test]
    fn the_sum_of_all_classes_is_compared_and_noise_is_said() {
        let classes = |missing: usize| {
            let of = |name: &str| {
                let Counts { train, good, defective } = DataSet::Btad.counts(name).unwrap();
                class(name, 0..train - missing, good, defective)
            };
            DataSet::Btad.classes().into_iter().map(of).collect::<Vec<_>>()
        };
        let found = lines(Layout::Btad, classes(0));
        assert!(found.len() == 1 && found[0].contains("training set of BTAD holds anomalous photos"), "{found:?}");
        let found = lines(Layout::Btad, classes(1));
        let sum =
            "all classes: BTAD has 1799 to train on, 451 good and 290 defective to test as published, here are 1796";
        assert!(found.len() == 5 && found[3].contains(sum), "{found:?}");
    }

    #[test]
    fn of_real_iad_the_sum_alone_is_known() {
        let names = DataSet::RealIad.classes();
        let classes = names.iter().map(|name| class(name, 0..1, 1, 1)).collect();
        let found = lines(Layout::RealIad, classes);
        assert!(
            found.len() == 1 && found[0].contains("36465 to train on, 63256 good and 51329 defective"),
            "{found:?}"
        );
    }
}
