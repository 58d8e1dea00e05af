//! An encoder for detectors that visitors of a page make: the model of a generated picture, whose head nobody needs.

use std::path::Path;

use anyhow::{Context, Result};

use super::few_shot::{FewShotPlan, few_shot};
use crate::synth::Class;

/// Name of the embedded encoder.
const EMBEDDED: &str = "embedded";

/// Seed and side in pixels of the generated picture.
const PICTURE: (u64, usize) = (1, 256);

/// Writes a model folder that has this encoder, by file or name, as far as detectors without training need it. It is complete: its
/// head, thresholds and self-test are of a generated picture.
///
/// # Errors
/// If the encoder cannot be read, or the folder cannot be written.
pub fn encoder(given: &Path, out: &Path) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let (seed, side) = PICTURE;
    let picture = Class::Gear.good(seed, "encoder", 0, side);
    picture.save(temporary.path().join("generated.png"))?;
    if let Some(parent) = out.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    }
    let backbone = (given != Path::new(EMBEDDED)).then(|| given.to_owned());
    let plan = FewShotPlan { backbone, ..FewShotPlan::new(temporary.path(), out) };
    few_shot(&plan).with_context(|| format!("encoder {} cannot be offered", given.display()))?;
    Ok(())
}
