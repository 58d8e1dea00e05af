//! The report on a data set, as text and as JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Files, pictures};
use crate::dataset::{Class, few};
use crate::system::table::align;

/// Number of findings that a command shows before its own work.
const SHOWN: usize = 6;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training or evaluation will fail, or its metrics will be worthless.
    Error,
    /// Probably a mistake.
    Warning,
    /// Worth knowing.
    Note,
}

/// A finding about a class.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// Name of the class.
    pub class: String,
    /// The problem, in a sentence.
    pub problem: String,
    /// Files with the problem that the sentence does not name; copies of one file as `A = B`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Name of the layout.
    pub layout: String,
    /// Contents of each class.
    pub classes: Vec<ClassReport>,
    /// Findings, the worst first.
    pub findings: Vec<Finding>,
}

/// Contents of a class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Good photos to train on.
    pub train: usize,
    /// Good photos to test.
    pub good: usize,
    /// Defective photos by kind of defect.
    pub defects: BTreeMap<String, usize>,
    /// Masks of defective photos.
    pub masks: usize,
    /// Number of parts, if there are several photos of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<usize>,
    /// Sizes of the photos; `None` if none can be read.
    pub sizes: Option<Sizes>,
    /// Photos by file format.
    pub formats: BTreeMap<String, usize>,
    /// Photos by colour format.
    pub colours: BTreeMap<String, usize>,
}

/// Widths and heights of photos.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizes {
    /// The size of the fewest pixels.
    pub smallest: [u32; 2],
    /// The size of the most pixels.
    pub largest: [u32; 2],
    /// The size of the most photos.
    pub most_common: [u32; 2],
    /// Number of different sizes.
    pub distinct: usize,
}

impl Sizes {
    pub(super) fn of(sizes: impl Iterator<Item = [u32; 2]>) -> Option<Self> {
        let mut count: BTreeMap<[u32; 2], usize> = BTreeMap::new();
        sizes.for_each(|size| *count.entry(size).or_default() += 1);
        let pixels = |size: &&[u32; 2]| u64::from(size[0]) * u64::from(size[1]);
        Some(Self {
            smallest: *count.keys().min_by_key(pixels)?,
            largest: *count.keys().max_by_key(pixels)?,
            most_common: *count.iter().max_by_key(|(_, count)| **count)?.0,
            distinct: count.len(),
        })
    }

    /// `64 × 64`, or `64 × 64 to 80 × 90`.
    pub(super) fn range(&self) -> String {
        let show = |[width, height]: [u32; 2]| format!("{width} × {height}");
        match self.distinct {
            1 => show(self.smallest),
            _ => format!("{} to {}", show(self.smallest), show(self.largest)),
        }
    }
}

impl Finding {
    pub(super) fn of(class: &Class, severity: Severity, problem: String, files: Vec<PathBuf>) -> Self {
        Self { severity, class: class.name.clone(), problem, files }
    }

    /// One line, with the names of the first files.
    pub fn line(&self) -> String {
        let severity = format!("{:?}", self.severity).to_lowercase();
        let files: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
        let files = if files.is_empty() { String::new() } else { format!(": {}", few(&files)) };
        format!("{severity:<8} {}: {}{files}", self.class, self.problem)
    }
}

impl ClassReport {
    pub(super) fn of(class: &Class, files: &Files) -> Self {
        let mut defects: BTreeMap<String, usize> = BTreeMap::new();
        let kinds = class.test.iter().filter_map(|photo| photo.defect.clone());
        kinds.for_each(|kind| *defects.entry(kind).or_default() += 1);
        let (mut formats, mut colours) = (BTreeMap::new(), BTreeMap::new());
        for (_, picture) in pictures(class, files) {
            *formats.entry(picture.format.clone()).or_default() += 1;
            *colours.entry(picture.colours.to_string()).or_default() += 1;
        }
        let mut parts: Vec<&String> = class.test.iter().filter_map(|photo| photo.sample.as_ref()).collect();
        parts.sort();
        parts.dedup();
        Self {
            class: class.name.clone(),
            train: class.train.len(),
            good: class.test.iter().filter(|photo| photo.defect.is_none()).count(),
            defects,
            masks: class.test.iter().map(|photo| photo.masks.len()).sum(),
            parts: (!parts.is_empty()).then_some(parts.len()),
            sizes: Sizes::of(pictures(class, files).map(|(_, picture)| picture.size)),
            formats,
            colours,
        }
    }
}

impl CheckReport {
    /// Number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The first errors and warnings, and where the others are; empty if there are none.
    pub fn brief(&self, data: &Path) -> String {
        let found: Vec<&Finding> = self.findings.iter().filter(|found| found.severity != Severity::Note).collect();
        let mut text: String = found.iter().take(SHOWN).map(|finding| finding.line() + "\n").collect();
        if !found.is_empty() {
            let more = found.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!("{more} more: ") } else { "all about these photos: ".into() };
            text += &format!("{more}dinomaly data check {}\n", data.display());
        }
        text
    }

    /// A table of the classes, a line per finding, and the number of findings.
    pub fn text(&self) -> String {
        let heads = ["class", "train", "test good", "defective", "parts", "pixels", "files", "colours", "defects"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        let list = |counts: &BTreeMap<String, usize>| match counts.len() {
            0 => "–".to_owned(),
            1 => counts.keys().next().expect("one").clone(),
            _ => counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", "),
        };
        for class in &self.classes {
            rows.push(vec![
                class.class.clone(),
                class.train.to_string(),
                class.good.to_string(),
                class.defects.values().sum::<usize>().to_string(),
                class.parts.map_or("–".into(), |parts| parts.to_string()),
                class.sizes.as_ref().map_or("–".into(), Sizes::range),
                list(&class.formats),
                list(&class.colours),
                list(&class.defects),
            ]);
        }
        let mut text = format!("layout {}\n\n{}", self.layout, align(&rows));
        if !self.findings.is_empty() {
            text.push('\n');
        }
        self.findings.iter().for_each(|finding| text += &format!("{}\n", finding.line()));
        let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(|s| self.count(s));
        text + &format!("\nerrors: {errors}, warnings: {warnings}, notes: {notes}\n")
    }
}
