//! `dinomaly generate`: a data set of generated products, with defects and masks.

use std::path::PathBuf;

use anyhow::Result;

use crate::dataset::{Dataset, counted};
use crate::synth::dataset::GenerationPlan;
use crate::synth::{Class, baseline};
use crate::system::interrupt::{Interrupt, Stopped};
use crate::system::progress::Progress;

/// Arguments of `dinomaly generate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder to write the data set to (MVTec-AD layout); must be new or empty
    out: PathBuf,
    /// Classes to generate: blister, board, fabric, gear [default: all]
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…", value_parser = parse_class)]
    classes: Vec<Class>,
    /// Side of the photos, in pixels
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(32..=2048),
        value_name = "PIXELS"
    )]
    size: u32,
    /// Number of training photos per class
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    train: u32,
    /// Number of good test photos per class
    #[arg(long, default_value_t = 40, value_name = "N")]
    good: u32,
    /// Number of test photos per kind of defect
    #[arg(long, default_value_t = 10, value_name = "N")]
    defective: u32,
    /// Seed of the photos, which are the same on every machine
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Print metrics of trivial detectors, which see single pixels, on the new data set
    #[arg(long)]
    baseline: bool,
}

fn parse_class(name: &str) -> Result<Class, String> {
    let known = || Class::ALL.map(Class::name).join(", ");
    Class::ALL
        .into_iter()
        .find(|c| c.name() == name)
        .ok_or_else(|| format!("there is no class {name}: choose from {}", known()))
}

/// Writes the data set.
///
/// # Errors
/// If the folder is not empty or cannot be written, or after Ctrl-C. Nothing is left behind then.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::listen("removing the unfinished data set")?;
    let mut classes = if args.classes.is_empty() { Class::ALL.to_vec() } else { args.classes.clone() };
    classes.sort_by_key(|class| class.name());
    classes.dedup();
    let plan = GenerationPlan {
        classes,
        size: args.size as usize,
        seed: args.seed,
        train: args.train as usize,
        good: args.good as usize,
        defective: args.defective as usize,
    };
    let progress = Progress::new("drawing", plan.photos(), "photos");
    plan.write(&args.out, || {
        progress.advance(1, String::new);
        if interrupt.asked() {
            return Err(Stopped(format!("stopped: nothing was written to {}", args.out.display())).into());
        }
        Ok(())
    })?;
    progress.finish();
    let classes = counted(plan.classes.len(), "class", "classes");
    println!("{} of {classes} in {}", counted(plan.photos(), "photo", "photos"), args.out.display());
    if args.baseline {
        for class in Dataset::open(&args.out, &[])?.classes {
            println!("\n{:42} I-AUROC  P-AUROC", class.name);
            for found in baseline::measure_class(&class)? {
                println!("{:42} {:7.1}  {:7.1}", found.detector.name(), 100.0 * found.image, 100.0 * found.pixel);
            }
        }
    }
    Ok(())
}
