//! The command line: what exists, and which file does it.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::commands;

/// Train, evaluate, quantize and publish Dinomaly anomaly detectors.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model from photos of good parts of one or many products
    #[cfg(feature = "trainer")]
    Train(Box<commands::train::Args>),
    /// Compute the seven metrics of a model on labelled photos
    #[cfg(feature = "trainer")]
    Evaluate(commands::evaluate::Args),
    /// Train and evaluate variants with several seeds, and print their table
    #[cfg(feature = "trainer")]
    Ablate(commands::ablate::Args),
    /// Look at a data set before training on it
    #[cfg(feature = "trainer")]
    Data(commands::data::Args),
    /// Find defects on photos: scores as CSV or JSON, heatmaps as PNG
    #[cfg(feature = "trainer")]
    Detect(commands::detect::Args),
    /// Set a model's thresholds again, from photos of good parts
    #[cfg(feature = "trainer")]
    Calibrate(commands::calibrate::Args),
    /// Make a model of a checkpoint of the official implementation or of anomalib
    #[cfg(feature = "trainer")]
    Import(commands::import::Args),
    /// Draw where a decoder's patches look on a photo
    #[cfg(feature = "trainer")]
    Attention(commands::attention::Args),
    /// Make a model smaller: int8, int4 or f16 weights
    #[cfg(feature = "trainer")]
    Quantize(commands::quantize::Args),
    /// Show the encoders that are known by name, and download one
    #[cfg(feature = "trainer")]
    Backbone(commands::backbone::Args),
    /// Make a small encoder that imitates a large one
    #[cfg(feature = "trainer")]
    Distill(commands::distill::Args),
    /// Draw photo-like products with defects and masks, from a seed
    #[cfg(feature = "trainer")]
    Generate(commands::generate::Args),
    /// Show what a model is, its size and the work of a photo
    #[cfg(feature = "trainer")]
    Inspect(commands::inspect::Args),
    /// Measure what a photo costs on this machine's processor or GPU
    #[cfg(feature = "trainer")]
    Bench(commands::bench::Args),
    /// Write a web page with models: a folder of static files for any web server
    Site(commands::site::Args),
    /// Serve such a folder on this machine
    Serve(commands::serve::Args),
    /// Show the page with the embedded model: builds, writes and serves a site
    Demo(commands::demo::Args),
}

impl Cli {
    /// Runs the chosen command.
    ///
    /// # Errors
    /// The command's own, in one sentence.
    pub fn run(self) -> Result<()> {
        match self.command {
            #[cfg(feature = "trainer")]
            Command::Train(args) => commands::train::run(&args),
            #[cfg(feature = "trainer")]
            Command::Evaluate(args) => commands::evaluate::run(&args),
            #[cfg(feature = "trainer")]
            Command::Ablate(args) => commands::ablate::run(&args),
            #[cfg(feature = "trainer")]
            Command::Data(args) => commands::data::run(&args),
            #[cfg(feature = "trainer")]
            Command::Detect(args) => commands::detect::run(&args),
            #[cfg(feature = "trainer")]
            Command::Calibrate(args) => commands::calibrate::run(&args),
            #[cfg(feature = "trainer")]
            Command::Import(args) => commands::import::run(&args),
            #[cfg(feature = "trainer")]
            Command::Attention(args) => commands::attention::run(&args),
            #[cfg(feature = "trainer")]
            Command::Quantize(args) => commands::quantize::run(&args),
            #[cfg(feature = "trainer")]
            Command::Backbone(args) => commands::backbone::run(&args),
            #[cfg(feature = "trainer")]
            Command::Distill(args) => commands::distill::run(&args),
            #[cfg(feature = "trainer")]
            Command::Generate(args) => commands::generate::run(&args),
            #[cfg(feature = "trainer")]
            Command::Inspect(args) => commands::inspect::run(&args),
            #[cfg(feature = "trainer")]
            Command::Bench(args) => commands::bench::run(&args),
            Command::Site(args) => commands::site::run(&args),
            Command::Serve(args) => commands::serve::run(&args),
            Command::Demo(args) => commands::demo::run(&args),
        }
    }
}
