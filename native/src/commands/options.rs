//! Options that several commands share.

use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use dinomaly_core::photo::preprocess::Geometry;

use crate::dataset::Layout;
use crate::dataset::split::FALSE_ALARM_RATE;
use crate::inference::Place;
use crate::system::device::Choice;
use crate::system::precision::TrainingPrecision;

/// How photos lie in the folder of data.
#[derive(Clone, Debug, clap::Args)]
pub struct LayoutOption {
    /// Layout of the data, where it is not to be told from what lies there
    #[arg(
        long,
        value_parser = named(&Layout::ALL, Layout::name, |_| ""),
        hide_possible_values = true,
        value_name = "visa|real-iad|mvtec-loco|btad|mpdd|uni-medical|mvtec|folder"
    )]
    pub layout: Option<Layout>,
}

/// Which part of a photo is looked at.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct GeometryOption {
    /// Side of the square that photos are resized to
    #[arg(long, default_value_t = 448, value_parser = within(1, SIDE))]
    resize: usize,
    /// Side of the centre that is looked at
    #[arg(long, default_value_t = 392, value_parser = within(1, SIDE))]
    crop: usize,
}

/// Pixels a side beyond which no machine has the memory.
const SIDE: usize = 4096;

impl From<GeometryOption> for Geometry {
    fn from(GeometryOption { resize, crop }: GeometryOption) -> Self {
        Self { resize, crop }
    }
}

/// Share of good photos that may be called defective, as an option of commands.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FalseAlarms {
    /// Share of good parts that may be called defective: sets the thresholds
    #[arg(long = "false-alarm-rate", default_value_t = FALSE_ALARM_RATE, value_parser = parse_rate, value_name = "SHARE")]
    pub rate: f64,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| format!("{text} is no number"))?;
    if rate > 0.0 && rate < 1.0 { Ok(rate) } else { Err("it must lie between 0 and 1".into()) }
}

/// Where tensors live.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceOption {
    /// Where to compute: cpu; cuda or cuda:NUMBER, an NVIDIA GPU; auto, the first of them or else the cpu; gpu, one of any maker,
    /// where a model looks at photos
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: Choice,
}

impl DeviceOption {
    /// What was chosen.
    pub fn choice(&self) -> Choice {
        self.device
    }
}

/// `--device`, or `--devices`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevicesOption {
    #[command(flatten)]
    device: DeviceOption,
    /// Several NVIDIA GPUs at once, by number: each trains on its part of every batch, and the result is that of one GPU (cpu,cpu tries
    /// the same on the processor)
    #[arg(long, value_delimiter = ',', conflicts_with = "device", value_parser = parse_device, value_name = "NUMBER,…")]
    devices: Vec<Choice>,
}

impl DevicesOption {
    /// What was chosen.
    pub fn choices(&self) -> Vec<Choice> {
        if self.devices.is_empty() { vec![self.device.choice()] } else { self.devices.clone() }
    }
}

fn parse_device(text: &str) -> Result<Choice> {
    match (text, text.parse()) {
        ("cpu", _) => Ok(Choice::Cpu),
        (_, Ok(number)) => Ok(Choice::Cuda(number)),
        _ => bail!("devices are numbers of NVIDIA GPUs, such as 0,1"),
    }
}

/// What looks at photos.
#[derive(Clone, Debug, clap::Args)]
pub struct LookOption {
    #[command(flatten)]
    device: DeviceOption,
    /// Multiply in eight-bit integers on the processor: about twice as fast, scores differ in the third digit
    #[arg(long)]
    int8: bool,
}

impl LookOption {
    /// The place that was chosen.
    pub fn place(&self) -> Place {
        Place { device: self.device.choice(), int8: self.int8 }
    }
}

/// What `--help` says of a precision.
pub fn about_precision(precision: TrainingPrecision) -> &'static str {
    match precision {
        TrainingPrecision::F32 => "Single precision",
        TrainingPrecision::Tf32 => "Factors rounded to ten bits inside the GPU's tensor cores, of values stored in f32",
        TrainingPrecision::Bf16 => "Factors and activations between products rounded to eight bits",
    }
}

/// Reads one of some values by its name, with a line of help for each.
pub fn named<T>(
    values: &'static [T],
    name: fn(T) -> &'static str,
    about: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let possible = values.iter().map(|&value| PossibleValue::new(name(value)).help(about(value)));
    let find = move |word: String| values.iter().copied().find(|&value| name(value) == word);
    PossibleValuesParser::new(possible).try_map(move |word| find(word).ok_or("no value has this name"))
}

/// Reads a number that lies between two, which both may be.
pub fn within<T>(low: T, high: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Debug + Copy + Send + Sync + 'static,
{
    // No NaN is in a range.
    move |text| match text.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("it must be a number from {low:?} to {high:?}")),
    }
}

/// A size in bytes such as `512MiB`, `4GiB` or a plain number.
///
/// # Errors
/// If the text is not such a size.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim().parse().with_context(|| format!("{text} is not a size such as 512MiB or 4GiB"))?;
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        unit => bail!("{unit} is not a unit of size: use KiB, MiB or GiB"),
    };
    if number < 0.0 {
        bail!("a size cannot be negative: {text}");
    }
    Ok((number * unit) as u64)
}

/// A value for red, green and blue such as `0.5,0.5,0.5`.
///
/// # Errors
/// If the text is not three numbers.
pub fn parse_colours(text: &str) -> Result<[f32; 3]> {
    let values = text.split(',').map(|value| value.trim().parse()).collect::<Result<Vec<f32>, _>>();
    let values = values.ok().filter(|values| values.iter().all(|value| (0.0..=1.0).contains(value)));
    let three = values.and_then(|values| <[f32; 3]>::try_from(values).ok());
    three.with_context(|| {
        format!("{text} is not a number from 0 to 1 for red, green and blue each, such as 0.5,0.5,0.5")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_lies_between_none_and_all() {
        assert_eq!(parse_rate("0.01"), Ok(0.01));
        for bad in ["0", "1", "-0.1", "x", "NaN"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn colours_are_three_numbers() {
        assert_eq!(parse_colours("0.5, 0.25,1").unwrap(), [0.5, 0.25, 1.0]);
        assert!(parse_colours("0.5,0.5").unwrap_err().to_string().contains("red, green and blue"));
        for wrong in ["a,b,c", "nan,0,0", "124,116,104", "0,0,-0.1"] {
            assert!(parse_colours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let rate = within(0.0, 0.5);
        assert_eq!([rate("0"), rate("0.5")], [Ok(0.0), Ok(0.5)]);
        for wrong in ["-1", "0.51", "nan", "1e30", "inf", "x", ""] {
            assert_eq!(rate(wrong), Err("it must be a number from 0.0 to 0.5".into()), "{wrong}");
        }
        assert!(within(1, SIDE)("1000000").is_err());
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_bytes("4GiB").unwrap(), 4 << 30);
        assert_eq!(parse_bytes("1.5 k").unwrap(), 1536);
        assert_eq!(parse_bytes("0").unwrap(), 0);
        assert!(parse_bytes("4 parsecs").unwrap_err().to_string().contains("not a unit"));
        assert!(parse_bytes("many").is_err());
    }
}
