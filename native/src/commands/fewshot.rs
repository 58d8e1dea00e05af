//! `dinomaly fewshot`: a few photos of good parts → a model, without training.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use dinomaly_core::fewshot::{Made, MemoryChoice, Recipe};
use dinomaly_core::photo::preprocess::Geometry;

use super::options::{DeviceOption, EncoderOption, LayoutOption, TileOption, named, parse_bytes, parse_rate, within};
use crate::dataset::{WindowChoice, counted};
use crate::publish::{self, AddPlan, FewShotPlan};

/// Arguments of `dinomaly fewshot`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data set, one of its class folders, or a folder of photos of good parts
    data: PathBuf,
    /// Folder to write the model to [default with --add: that of the model]
    #[arg(long, value_name = "MODEL", required_unless_present = "add")]
    out: Option<PathBuf>,
    /// Model without training to add the photos to, with its options; its own photos must still be where they were
    #[arg(
        long,
        value_name = "MODEL",
        conflicts_with_all = ["backbone", "memory", "classes", "size", "tile_size", "layers", "bank_size", "nearest", "reach", "variance", "turns", "heads", "origin", "window", "false_alarm_rate"]
    )]
    add: Option<PathBuf>,
    /// Class of added photos, if they are a folder of photos [default: the model's, if it has one]
    #[arg(long, value_name = "CLASS", requires = "add")]
    class: Option<String>,
    /// Pretrained encoder: a file (.pth, .safetensors), or a name from `dinomaly backbone list` [default: the embedded one]
    #[arg(long, value_name = "FILE|NAME")]
    backbone: Option<PathBuf>,
    /// Kind of memory
    #[arg(long, default_value = "subspace", value_parser = named(&MemoryChoice::ALL, MemoryChoice::name, about_memory))]
    memory: MemoryChoice,
    /// Classes [default: all]
    #[arg(long, value_name = "CLASS,…")]
    classes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Side of the square that whole photos are resized to, in pixels [default: 448, 320 for a bank, 224 for the embedded encoder]
    #[arg(long, value_parser = within(1, Geometry::MAX_SIDE), value_name = "PIXELS")]
    size: Option<usize>,
    #[command(flatten)]
    tiles: TileOption,
    /// Encoder blocks to compare, counted from 0 [default: all, every other one for a bank, 3,6,9,11 of 12 for rad]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    layers: Vec<usize>,
    /// Largest size of a bank or of rad's; more patches are thinned to those that cover the others best [default: 64MiB]
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    bank_size: Option<u64>,
    /// Number of the most similar good photos that rad compares a photo with [default: 150]
    #[arg(long, value_parser = within(1_usize, 1 << 20), value_name = "PHOTOS")]
    nearest: Option<usize>,
    /// Number of patches in each direction that rad looks beyond a patch's own place [default: 1]
    #[arg(long, value_parser = within(0_usize, 1 << 12), value_name = "PATCHES")]
    reach: Option<usize>,
    /// Share of the patches' variance that a subspace explains [default: 0.99]
    #[arg(long, value_parser = within(0.01, 0.9999), value_name = "SHARE")]
    variance: Option<f64>,
    /// Also remember each photo in its other quarter turns: for parts that lie in any orientation
    #[arg(long)]
    turns: bool,
    #[command(flatten)]
    encoder: EncoderOption,
    /// Values of 16-bit grey that become black and white: range, percentile, clip or LOW..HIGH
    #[arg(long, default_value_t, value_name = "WINDOW")]
    window: WindowChoice,
    /// Share of good parts that may be called defective [default: 0.01, or as little as so few photos can promise]
    #[arg(long, value_parser = parse_rate, value_name = "SHARE")]
    false_alarm_rate: Option<f64>,
    #[command(flatten)]
    device: DeviceOption,
}

/// Help text of a memory.
fn about_memory(memory: MemoryChoice) -> &'static str {
    match memory {
        MemoryChoice::Subspace => "Principal directions of good patches (SubspaceAD): of one size, however many photos",
        MemoryChoice::Bank => "Good patches themselves (AnomalyDINO): grows with the photos, up to --bank-size",
        MemoryChoice::Places => {
            "Good patches at their places, of the most similar photos (RAD): for parts that lie alike"
        }
    }
}

impl Args {
    /// What the options say of a new model.
    ///
    /// # Errors
    /// If one is of another kind of memory, or the photos are to be added to a model.
    pub(crate) fn plan(&self) -> Result<FewShotPlan> {
        self.check()?;
        let Some(out) = self.out.as_ref().filter(|_| self.add.is_none()) else {
            bail!("--out names no folder for a new model");
        };
        let usual = Recipe::default();
        Ok(FewShotPlan {
            layout: self.layout.layout,
            classes: self.classes.clone(),
            backbone: self.backbone.clone(),
            heads: self.encoder.heads,
            origin: self.encoder.origin,
            recipe: Recipe {
                memory: self.memory,
                layers: self.layers.clone(),
                bank_size: self.bank_size.unwrap_or(usual.bank_size),
                nearest: self.nearest.unwrap_or(usual.nearest),
                reach: self.reach.unwrap_or(usual.reach),
                variance: self.variance.unwrap_or(usual.variance),
                turns: self.turns,
                false_alarm_rate: self.false_alarm_rate,
            },
            side: self.size,
            tile_size: self.tiles.tile_size,
            window: self.window,
            device: self.device.choice(),
            ..FewShotPlan::new(&self.data, out)
        })
    }

    /// Checks that options fit the kind of memory.
    fn check(&self) -> Result<()> {
        let is = |memory: MemoryChoice| self.memory == memory;
        for (option, given, fits, kinds) in [
            ("--variance", self.variance.is_some(), is(MemoryChoice::Subspace), "subspace"),
            ("--bank-size", self.bank_size.is_some(), !is(MemoryChoice::Subspace), "bank or rad"),
            ("--nearest", self.nearest.is_some(), is(MemoryChoice::Places), "rad"),
            ("--reach", self.reach.is_some(), is(MemoryChoice::Places), "rad"),
            ("--turns", self.turns, !is(MemoryChoice::Places), "subspace or bank"),
            ("--tile-size", self.tiles.tile_size.is_some(), !is(MemoryChoice::Places), "subspace or bank"),
        ] {
            if given && !fits {
                bail!("{option} is for --memory {kinds}");
            }
        }
        Ok(())
    }
}

/// Makes a model, or adds to one, and prints its folder.
///
/// # Errors
/// As [`publish::few_shot`] and [`publish::add`].
pub fn run(args: &Args) -> Result<()> {
    let (made, out) = match (&args.add, &args.out) {
        (Some(model), out) => (added(args, model)?, out.as_ref().unwrap_or(model)),
        (None, Some(out)) => (publish::few_shot(&args.plan()?)?, out),
        (None, None) => bail!("--out names no folder for the model"),
    };
    if made.repeated > 0 {
        eprintln!("dinomaly: left out {}, equal to others of the class", counted(made.repeated, "photo", "photos"));
    }
    for (class, doubt) in &made.doubts {
        eprintln!("dinomaly: threshold of {class}: {doubt}");
    }
    println!("{made}, of {}", counted(made.photos, "photo", "photos"));
    println!("model written to {}", out.display());
    Ok(())
}

fn added(args: &Args, model: &Path) -> Result<Made> {
    args.check()?;
    publish::add(&AddPlan {
        model: model.to_owned(),
        data: args.data.clone(),
        out: args.out.clone(),
        layout: args.layout.layout,
        class: args.class.clone(),
        device: args.device.choice(),
    })
}
