//! `train --preset`: the hyper-parameters of the paper by data set, as defaults of other options. Whatever is given on the command
//! line wins.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches};

use super::options::named;
use crate::training::{Preset, PresetChoice};

/// The option itself. Flattened into a command before all others, whose defaults then depend on it.
#[derive(Clone, Debug, Default)]
pub struct PresetOption {
    /// What was chosen, and what was given instead of its values.
    pub choice: Option<PresetChoice>,
    /// Whether neither a preset nor an option says which part of a photo is looked at.
    pub default_geometry: bool,
}

/// What `--help` says of a preset.
fn about(preset: Preset) -> &'static str {
    match preset {
        Preset::Mvtec => "MVTec-AD, all classes in one model",
        Preset::Visa => "VisA, all classes in one model",
        Preset::RealIad => "Real-IAD, all classes in one model: 50,000 iterations, more dropout",
        Preset::Mpdd => "MPDD, all classes in one model",
        Preset::Btad => "BTAD, all classes in one model",
        Preset::UniMedical => "Uni-Medical, all classes in one model",
        Preset::MvtecSeparate => "MVTec-AD, one model a class",
        Preset::VisaSeparate => "VisA, one model a class",
        Preset::RealIadSeparate => "Real-IAD, one model a class",
        Preset::MpddSeparate => "MPDD, one model a class",
        Preset::Vitad => {
            "ViTAD, which the paper compares its parts with: a softmax decoder of nine blocks from the last encoder layer, layer to layer"
        }
    }
}

impl clap::Args for PresetOption {
    fn augment_args(command: Command) -> Command {
        let option = Arg::new("preset")
            .long("preset")
            .value_name("NAME")
            .value_parser(named(&Preset::ALL, Preset::name, about))
            .help("Hyper-parameters of the paper for a data set; options that are given, too, win");
        // The options that presets set are not there yet.
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
        let is_default = |option| matches.value_source(option) == Some(ValueSource::DefaultValue);
        let default_geometry = preset.is_none() && is_default("resize") && is_default("crop");
        Ok(Self { choice: preset.map(|preset| PresetChoice { preset, given }), default_geometry })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
