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
    Train(Box<commands::train::Args>),
    /// Compute the seven metrics of a model on labelled photos
    Evaluate(commands::evaluate::Args),
    /// Train and evaluate variants with several seeds, and print their table
    Ablate(commands::ablate::Args),
    /// Look at a data set before training on it
    Data(commands::data::Args),
    /// Find defects on photos: scores as CSV or JSON, heatmaps as PNG
    Detect(commands::detect::Args),
    /// Set a model's thresholds again, from photos of good parts
    Calibrate(commands::calibrate::Args),
    /// Make a model of a checkpoint of the official implementation or of anomalib
    Import(commands::import::Args),
    /// Draw where a decoder's patches look on a photo
    Attention(commands::attention::Args),
    /// Make a model smaller: int8, int4 or f16 weights
    Quantize(commands::quantize::Args),
    /// Show the encoders that are known by name, and download one
    Backbone(commands::backbone::Args),
    /// Make a small encoder that imitates a large one
    Distill(commands::distill::Args),
    /// Draw photo-like products with defects and masks, from a seed
    Generate(commands::generate::Args),
    /// Show what a model is, its size and the work of a photo
    Inspect(commands::inspect::Args),
    /// Measure what a photo costs on this machine's processor or GPU
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
            Command::Train(args) => commands::train::run(&args),
            Command::Evaluate(args) => commands::evaluate::run(&args),
            Command::Ablate(args) => commands::ablate::run(&args),
            Command::Data(args) => commands::data::run(&args),
            Command::Detect(args) => commands::detect::run(&args),
            Command::Calibrate(args) => commands::calibrate::run(&args),
            Command::Import(args) => commands::import::run(&args),
            Command::Attention(args) => commands::attention::run(&args),
            Command::Quantize(args) => commands::quantize::run(&args),
            Command::Backbone(args) => commands::backbone::run(&args),
            Command::Distill(args) => commands::distill::run(&args),
            Command::Generate(args) => commands::generate::run(&args),
            Command::Inspect(args) => commands::inspect::run(&args),
            Command::Bench(args) => commands::bench::run(&args),
            Command::Site(args) => commands::site::run(&args),
            Command::Serve(args) => commands::serve::run(&args),
            Command::Demo(args) => commands::demo::run(&args),
        }
    }
}
