//! The command line: all commands, each with an example that `--help` shows.

use std::ffi::OsString;

use anyhow::Result;
#[cfg(feature = "trainer")]
use clap::CommandFactory;
use clap::{Parser, Subcommand};

use crate::commands;
use crate::system::interrupt::{self, Stopped};
use crate::system::output::{self, Lost};
use crate::system::{allocator, environment};

/// Runs the program with these words, the first of which is its own name, and returns its exit status. It is to be the first that a process
/// does, before other threads exist.
pub fn run_program(words: impl IntoIterator<Item = OsString>) -> u8 {
    allocator::keep_freed_memory();
    environment::set_defaults();
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        // Help and version, too.
        Err(error) => {
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    match interrupt::clean_up_at_signals().and_then(|()| cli.run()).and_then(|()| Ok(output::check()?)) {
        Ok(()) => 0,
        // No message, and the exit status of a program that SIGPIPE ended.
        Err(error) if error.downcast_ref().is_some_and(Lost::is_closed) => 128 + 13,
        Err(error) => {
            // All causes in one line, outermost first: "photo a.png cannot be read: No such file".
            output::print_error(format_args!("dinomaly: {error:#}\n"));
            if error.is::<Stopped>() { interrupt::STATUS } else { 1 }
        }
    }
}

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
    /// Train and evaluate the rows of the paper's tables, beside the published figures
    ///
    /// Example: dinomaly reproduce 3 --data mvtec --out results
    #[cfg(feature = "trainer")]
    Reproduce(commands::reproduce::Args),
    /// Compare a model's metrics with the paper's figures by class
    ///
    /// Example: dinomaly verify-model model --data mvtec
    #[cfg(feature = "trainer")]
    VerifyModel(commands::verify_model::Args),
    /// Check a data set before training
    #[cfg(feature = "trainer")]
    Data(commands::data::Args),
    /// Find defects in photos: scores as CSV or JSON, heatmaps as PNG
    ///
    /// Example: dinomaly detect model photo.jpg --heatmaps heatmaps
    #[cfg(feature = "trainer")]
    Detect(commands::detect::Args),
    /// Score photos in a bucket or folder, shared by many machines: verdicts as Parquet
    ///
    /// Example: dinomaly score model --from s3://photos/july --to s3://results/july --shard 0/4
    #[cfg(feature = "score")]
    Score(commands::score::Args),
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
    /// Publish a model, or a page, on the Hugging Face Hub
    ///
    /// Example: dinomaly publish model hf:me/screws
    #[cfg(feature = "trainer")]
    Publish(commands::publish::Args),
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
    /// Print what a shell completes: for bash, zsh, fish, PowerShell or elvish
    ///
    /// Example: dinomaly completions bash
    #[cfg(feature = "trainer")]
    Completions(commands::completions::Args),
    /// Write manual pages of all commands
    ///
    /// Example: dinomaly man --out man
    #[cfg(feature = "trainer")]
    Man(commands::man::Args),
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
            Command::Reproduce(args) => commands::reproduce::run(&args),
            #[cfg(feature = "trainer")]
            Command::VerifyModel(args) => commands::verify_model::run(&args),
            #[cfg(feature = "trainer")]
            Command::Data(args) => commands::data::run(&args),
            #[cfg(feature = "trainer")]
            Command::Detect(args) => commands::detect::run(&args),
            #[cfg(feature = "score")]
            Command::Score(args) => commands::score::run(&args),
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
            Command::Publish(args) => commands::publish::run(&args),
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
            #[cfg(feature = "trainer")]
            Command::Completions(args) => commands::completions::run(&args, Self::command()),
            #[cfg(feature = "trainer")]
            Command::Man(args) => commands::man::run(&args, Self::command()),
        }
    }
}

/// Arguments of a command alone, for programs that have them otherwise than in a command line.
#[cfg(feature = "trainer")]
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Options<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

#[cfg(feature = "trainer")]
impl<A: clap::Args> Options<A> {
    /// # Errors
    /// clap's first sentence.
    fn parse(words: &[String]) -> Result<A> {
        let sentence = |error: clap::Error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            anyhow::anyhow!("{}", first.strip_prefix("error: ").unwrap_or(first).to_owned())
        };
        Ok(Self::try_parse_from(words).map_err(sentence)?.args)
    }
}

/// What the words after `dinomaly train` say.
///
/// # Errors
/// If an option or value does not exist, in one sentence.
#[cfg(feature = "trainer")]
pub fn training_plan(words: &[String]) -> Result<crate::training::TrainingPlan> {
    Ok(Options::<commands::train::Args>::parse(words)?.plan())
}

/// What the words after `dinomaly fewshot` say, of which `--out` is one.
///
/// # Errors
/// As [`training_plan`], and if an option does not fit the kind of memory.
#[cfg(feature = "trainer")]
pub fn few_shot_plan(words: &[String]) -> Result<crate::publish::FewShotPlan> {
    Options::<commands::fewshot::Args>::parse(words)?.plan()
}

#[cfg(test)]
mod tests {
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
    fn the_words_of_a_command_alone_make_its_plan() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let plan = training_plan(&words("photos --out model --iterations 7 --dropout 0.3")).unwrap();
        assert_eq!((plan.data.to_str(), plan.iterations, plan.variant.dropout), (Some("photos"), 7, 0.3));
        let refused = |line: &str| training_plan(&words(line)).unwrap_err().to_string();
        assert_eq!(refused("photos --out model --iteration 7"), "unexpected argument '--iteration' found");
        let found = refused("photos --out model --holdout 0.9");
        assert_eq!(found, "invalid value '0.9' for '--holdout <SHARE>': it must be a number from 0.0 to 0.5");
        assert!(refused("photos --out model --help").contains("--help"));

        let plan = few_shot_plan(&words("photos --out model --size 224")).unwrap();
        assert_eq!((plan.out.to_str(), plan.side), (Some("model"), Some(224)));
        let refused = few_shot_plan(&words("photos --out model --reach 1")).unwrap_err().to_string();
        assert_eq!(refused, "--reach is for --memory rad");
        let refused = few_shot_plan(&words("photos --add model")).unwrap_err().to_string();
        assert!(refused.contains("--out"), "{refused}");
    }

    #[test]
    fn the_options_of_every_command_are_consistent() {
        Cli::command().debug_assert();
    }
}
