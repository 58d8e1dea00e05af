//! The command line: all commands, each with an example that `--help` shows.

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
    /// Train a model on photos of good parts
    ///
    /// Example: dinomaly train photos --backbone dinov2-reg-base --out model
    #[cfg(feature = "trainer")]
    Train(Box<commands::train::Args>),
    /// Make a model of a few photos of good parts, without training
    ///
    /// Example: dinomaly fewshot photos --out model
    #[cfg(feature = "trainer")]
    Fewshot(commands::fewshot::Args),
    /// Compute a model's seven metrics on labelled photos
    ///
    /// Example: dinomaly evaluate model photos --report report.html
    #[cfg(feature = "trainer")]
    Evaluate(commands::evaluate::Args),
    /// Train and evaluate variants with several seeds, and compare them in a table
    ///
    /// Example: dinomaly ablate plan.toml --out results
    #[cfg(feature = "trainer")]
    Ablate(commands::ablate::Args),
    /// Check a data set before training
    #[cfg(feature = "trainer")]
    Data(commands::data::Args),
    /// Find defects in photos: scores as CSV or JSON, heatmaps as PNG
    ///
    /// Example: dinomaly detect model photo.jpg --heatmaps heatmaps
    #[cfg(feature = "trainer")]
    Detect(commands::detect::Args),
    /// Set a model's thresholds again, from photos of good parts
    ///
    /// Example: dinomaly calibrate model photos --out model-calibrated
    #[cfg(feature = "trainer")]
    Calibrate(commands::calibrate::Args),
    /// Convert a checkpoint of the official implementation or of anomalib to a model
    ///
    /// Example: dinomaly import checkpoint.pth --data photos --out model
    #[cfg(feature = "trainer")]
    Import(commands::import::Args),
    /// Draw the decoder's attention on a photo
    ///
    /// Example: dinomaly attention model photo.jpg --out attention
    #[cfg(feature = "trainer")]
    Attention(commands::attention::Args),
    /// Quantize a model's weights to int8, int4 or f16
    ///
    /// Example: dinomaly quantize model --out model-int8
    #[cfg(feature = "trainer")]
    Quantize(commands::quantize::Args),
    /// Write a model as ONNX, for ONNX Runtime, OpenVINO and others
    ///
    /// Example: dinomaly export model --out model.onnx --check
    #[cfg(feature = "trainer")]
    Export(commands::export::Args),
    /// List and download pretrained encoders
    #[cfg(feature = "trainer")]
    Backbone(commands::backbone::Args),
    /// Train a small encoder to imitate a large one
    ///
    /// Example: dinomaly distill --teacher large.safetensors --student small.safetensors
    #[cfg(feature = "trainer")]
    Distill(commands::distill::Args),
    /// Generate a data set of drawn products, with defects and masks
    ///
    /// Example: dinomaly generate photos --classes gear
    #[cfg(feature = "trainer")]
    Generate(commands::generate::Args),
    /// Show a model's architecture, size, cost per photo and thresholds
    ///
    /// Example: dinomaly inspect model
    #[cfg(feature = "trainer")]
    Inspect(commands::inspect::Args),
    /// Measure the time per photo on this machine's processor or GPU
    ///
    /// Example: dinomaly bench model --device gpu
    #[cfg(feature = "trainer")]
    Bench(commands::bench::Args),
    /// Write a web page with models: static files for any web server
    ///
    /// Example: dinomaly site model --out public
    Site(commands::site::Args),
    /// Serve a page made by `dinomaly site`
    ///
    /// Example: dinomaly serve public
    Serve(commands::serve::Args),
    /// Build, write and serve the page with the embedded model
    ///
    /// Example: dinomaly demo
    Demo(commands::demo::Args),
}

impl Cli {
    /// Runs the chosen command.
    ///
    /// # Errors
    /// Those of the command, in one sentence.
    pub fn run(self) -> Result<()> {
        match self.command {
            #[cfg(feature = "trainer")]
            Command::Train(args) => commands::train::run(&args),
            #[cfg(feature = "trainer")]
            Command::Fewshot(args) => commands::fewshot::run(&args),
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
            Command::Export(args) => commands::export::run(&args),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The commands that do something, with those below `data` and `backbone`.
    fn leaves(command: clap::Command) -> Vec<clap::Command> {
        match command.has_subcommands() {
            true => command.get_subcommands().cloned().flat_map(leaves).collect(),
            false => vec![command],
        }
    }

    #[test]
    fn every_command_has_an_example_that_it_accepts() {
        let commands = leaves(Cli::command());
        assert!(commands.len() > 2, "{commands:?}");
        for command in commands {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let example = about.lines().find_map(|line| line.strip_prefix("Example: "));
            let example = example.unwrap_or_else(|| panic!("{} has no example", command.get_name()));
            assert!(example.contains(command.get_name()), "{example}");
            Cli::try_parse_from(example.split_whitespace()).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }

    #[test]
    fn the_options_of_every_command_are_consistent() {
        Cli::command().debug_assert();
    }
}
