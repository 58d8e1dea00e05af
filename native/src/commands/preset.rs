//! `train --preset`: the paper's hyper-parameters for a data set, as defaults of other options. Options on the command line win.
//!
//! The values are those of the official scripts, where they differ from the paper's text, too: `docs/paper.md` lists the differences.

use clap::builder::TypedValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::options::named;
use crate::training::{Preset, PresetChoice};

/// The option `--preset`. It is flattened into a command before all others, because their defaults depend on it.
#[derive(Clone, Debug, Default)]
pub struct PresetOption {
    /// What was chosen, and what was given instead of its values.
    pub choice: Option<PresetChoice>,
}

/// Description of a preset in `--help`.
fn about(preset: Preset) -> &'static str {
    match preset {
        Preset::Mvtec => "MVTec-AD, all classes in one model",
        Preset::Visa => "VisA, all classes in one model",
        Preset::RealIad => "Real-IAD, all classes in one model: 50,000 iterations, more dropout",
        Preset::Mpdd => "MPDD, all classes in one model",
        Preset::Btad => "BTAD, all classes in one model",
        Preset::UniMedical => "Uni-Medical, all classes in one model: more dropout",
        Preset::MvtecSeparate => "MVTec-AD, one model per class",
        Preset::VisaSeparate => "VisA, one model per class",
        Preset::RealIadSeparate => "Real-IAD, one model per class",
        Preset::MpddSeparate => "MPDD, one model per class",
        Preset::Vitad => {
            "ViTAD, the paper's baseline: nine softmax decoder blocks on the last encoder layer, compared layer by layer"
        }
        Preset::Dinomaly2 => {
            "Dinomaly2, all classes in one model: other bottleneck, target and schedule, 40,000 iterations"
        }
    }
}

/// A parser for a preset's name.
pub(super) fn parser() -> impl TypedValueParser<Value = Preset> {
    named(&Preset::ALL, Preset::name, about)
}

impl clap::Args for PresetOption {
    fn augment_args(command: Command) -> Command {
        let option = Arg::new("preset")
            .long("preset")
            .value_name("NAME")
            .value_parser(parser())
            .hide_short_help(true)
            .help("Paper's hyper-parameters for a data set; other options override them");
        // Deferred, because the options that presets set do not exist yet.
        command.arg(option).defer(set_defaults)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn set_defaults(mut command: Command) -> Command {
    for preset in Preset::ALL {
        for (option, value) in preset.settings() {
            command = command.mut_arg(option, |arg| arg.default_value_if("preset", preset.name(), value));
        }
    }
    command
}

impl FromArgMatches for PresetOption {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let preset: Option<Preset> = matches.get_one("preset").copied();
        let is_given = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        let options = preset.map(Preset::settings).unwrap_or_default().into_iter().map(|(option, _)| option);
        let given = options.filter(is_given).collect();
        Ok(Self { choice: preset.map(|preset| PresetChoice { preset, given }) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
