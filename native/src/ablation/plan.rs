//! The plan of an ablation: a TOML file with options of `train` as keys.
//!
//! ```toml
//! data = "photos"                  # the folder of classes
//! backbone = "deit_tiny.safetensors"
//! iterations = 1000                # options of all variants
//! classes = ["screw", "pcb"]
//! seeds = [1, 2]
//! separate = true                  # a model for each class [default: one for all]
//!
//! [[variant]]
//! name = "default"
//!
//! [[variant]]
//! name = "no noise"
//! dropout = 0                      # an option of this variant only
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use toml::{Table, Value};

use super::Cell;

/// Options that the ablation sets itself, so that a plan cannot give them.
const RESERVED: [&str; 4] = ["out", "seed", "restart", "tensorboard"];

/// Contents of a plan's file.
#[derive(Clone, Debug, Deserialize)]
pub struct AblationPlan {
    data: Option<PathBuf>,
    #[serde(default = "one_seed")]
    seeds: Vec<u64>,
    #[serde(default)]
    separate: bool,
    #[serde(default, rename = "variant")]
    variants: Vec<Variant>,
    /// Options of all variants.
    #[serde(flatten)]
    common: Table,
}

/// A row of the table.
#[derive(Clone, Debug, Deserialize)]
struct Variant {
    name: String,
    /// Options of this variant only.
    #[serde(flatten)]
    options: Table,
}

/// What a command line gives in place of what a plan has for all variants.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Folder of photos.
    pub data: Option<PathBuf>,
    /// Seeds; the plan's if empty.
    pub seeds: Vec<u64>,
    /// Options of `train`, by name.
    pub options: Table,
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

impl AblationPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// If the file cannot be read or is not a plan; the error names file and line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("plan {} cannot be read", path.display()))?;
        let refused = || format!("plan {} cannot be used", path.display());
        Self::parse(&text).with_context(refused)
    }

    fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(String::new(), |span| format!("line {}: ", text[..span.start].lines().count()));
            anyhow::anyhow!("{line}{}", error.message().replace('\n', ", "))
        })?;
        if plan.variants.is_empty() {
            bail!("it holds no [[variant]]");
        }
        if plan.seeds.is_empty() {
            bail!("seeds is empty");
        }
        for (i, variant) in plan.variants.iter().enumerate() {
            if let Some(other) = plan.variants[..i].iter().find(|other| plain(&other.name) == plain(&variant.name)) {
                bail!("variants {} and {} need names that differ in letters or digits", other.name, variant.name);
            }
            if let Some(key) =
                RESERVED.iter().find(|key| variant.options.contains_key(**key) || plan.common.contains_key(**key))
            {
                bail!(
                    "{key} is not an option of a plan: the ablation sets it for each cell (seeds = [1, 2] gives the seeds)"
                );
            }
        }
        Ok(plan)
    }

    /// All cells, ordered by seed, so that every variant has a result early. What is given replaces what the plan has for all variants.
    ///
    /// # Errors
    /// If the folder of photos is not given, a path does not exist, or a value cannot be an option's.
    pub fn cells(&self, given: &Given) -> Result<Vec<Cell>> {
        let data = given.data.as_deref().or(self.data.as_deref());
        let data = data.context("the plan has no data: give the photos with --data")?;
        let data = data.canonicalize().with_context(|| format!("{} cannot be opened", data.display()))?;
        let mut common = self.common.clone();
        common.extend(given.options.clone());
        let seeds = if given.seeds.is_empty() { &self.seeds } else { &given.seeds };
        let cell = |seed, variant: &Variant| -> Result<Cell> {
            let mut table = common.clone();
            table.extend(variant.options.clone());
            let options = table.iter().map(|(key, value)| option(key, value)).collect::<Result<Vec<_>>>();
            let options = options.with_context(|| format!("variant {}", variant.name))?.into_iter().flatten().collect();
            let (variant, separate) = (variant.name.clone(), self.separate);
            Ok(Cell { variant, seed, data: data.clone(), options, separate, stand_in: false, evaluation: None })
        };
        let (cell, variants) = (&cell, &self.variants);
        seeds.iter().flat_map(|&seed| variants.iter().map(move |variant| cell(seed, variant))).collect()
    }
}

/// A key and its value as on the command line: lists with commas, `true` as the bare option, `false` as no option.
pub(crate) fn option(key: &str, value: &Value) -> Result<Option<String>> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    };
    let text = match value {
        Value::Boolean(set) => return Ok(set.then(|| format!("--{key}"))),
        Value::Array(values) => values.iter().map(plain).collect::<Option<Vec<_>>>().map(|values| values.join(",")),
        value => plain(value),
    };
    let text = text.with_context(|| format!("{key} is a {}, expected a value or a list", value.type_str()))?;
    Ok(Some(format!("--{key}={text}")))
}

/// A name for files: lower-case letters, digits and hyphens.
pub fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '-' };
    name.to_lowercase().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "iterations = 5\nclasses = ['a', 'b']\nseeds = [3, 4]\n\
        [[variant]]\nname = 'default'\n\
        [[variant]]\nname = 'bare'\ndropout = 0.5\niterations = 9\nremove-class-token = true\n";

    #[test]
    fn every_variant_with_every_seed_is_a_cell() {
        let given = Given { data: Some(".".into()), ..Given::default() };
        let options = Table::from_iter([("backbone".to_owned(), Value::String("b.pth".into()))]);
        let cells = AblationPlan::parse(PLAN).unwrap().cells(&Given { options, ..given.clone() }).unwrap();
        let names: Vec<_> = cells.iter().map(Cell::file_name).collect();
        assert_eq!(names, ["default-seed-3", "bare-seed-3", "default-seed-4", "bare-seed-4"]);
        assert_eq!(cells[0].options, ["--backbone=b.pth", "--classes=a,b", "--iterations=5"]);
        let bare = ["--backbone=b.pth", "--classes=a,b", "--dropout=0.5", "--iterations=9", "--remove-class-token"];
        assert_eq!(cells[3].options, bare);
        let without = AblationPlan::parse(&PLAN.replace("= true", "= false")).unwrap();
        assert_eq!(without.cells(&given).unwrap()[1].options.len(), 3);
        let seeds: Vec<u64> =
            without.cells(&Given { seeds: vec![8], ..given }).unwrap().iter().map(|c| c.seed).collect();
        assert_eq!(seeds, [8, 8]);
    }

    #[test]
    fn what_is_no_plan_is_named() {
        let refused = |text: &str| {
            format!("{:#}", AblationPlan::parse(text).and_then(|plan| plan.cells(&Given::default())).unwrap_err())
        };
        for (text, expected) in [
            ("seeds = [1]", "no [[variant]]"),
            ("seeds = []\n[[variant]]\nname = 'a'", "seeds is empty"),
            ("[[variant]]\nname = 'a b'\n[[variant]]\nname = 'A-b'", "variants a b and A-b need names that differ"),
            ("[[variant]]\nname = 'a'\nseed = 4", "seed is not an option of a plan"),
            ("[[variant]]\ndropout = 0", "missing field `name`"),
            ("batch = 3\nseeds = 'one'\n[[variant]]\nname = 'a'", "expected a sequence"),
            ("batch = 3\nbatch 4", "line 2: "),
            ("[[variant]]\nname = 'a'", "the plan has no data"),
            ("data = 'nowhere'\n[[variant]]\nname = 'a'", "nowhere cannot be opened"),
            ("data = '.'\n[[variant]]\nname = 'a'\n[variant.dropout]\nrate = 1", "variant a: dropout is a table"),
        ] {
            assert!(refused(text).contains(expected), "{text}: {}", refused(text));
        }
    }
}
