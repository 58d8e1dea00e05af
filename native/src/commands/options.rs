//! Options that several commands share.

use std::ffi::OsString;
use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use dinomaly_core::fewshot::thresholds::FALSE_ALARM_RATE;
use dinomaly_core::photo::preprocess::Geometry;
use dinomaly_core::photo::tiles::Tiles;

use crate::dataset::Layout;
use crate::encoders::backbone::Origin;
use crate::inference::{DetectorDevice, RegionPlan};
use crate::system::device::DeviceChoice;
use crate::system::precision::TrainingPrecision;

/// Layout of a data set.
#[derive(Clone, Debug, clap::Args)]
pub struct LayoutOption {
    /// Layout of the data set [default: detected]
    #[arg(long, value_parser = named(&Layout::ALL, Layout::name, about_layout))]
    pub(crate) layout: Option<Layout>,
}

/// What the file of an encoder does not always say.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct EncoderOption {
    /// Number of the encoder's attention heads [default: that of the files beside it, or of published encoders of its shape]
    #[arg(long, value_name = "N")]
    pub(crate) heads: Option<usize>,
    /// Library whose way to fit the encoder's position table to a grid is taken [default: told by the tensors' names]
    ///
    /// Names are the same in original files and in many of timm's: original is taken then.
    #[arg(long, value_parser = named(&Origin::ALL, Origin::name, about_origin))]
    pub(crate) origin: Option<Origin>,
}

/// Resolution of the input of a model that is to be trained: all of a photo, unless both options say otherwise.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ViewOption {
    /// Side of the square that photos are resized to, in pixels [default: that of --crop]
    #[arg(long, value_parser = within(1, Geometry::MAX_SIDE), value_name = "PIXELS")]
    resize: Option<usize>,
    /// Side of the centre crop that the model sees, in pixels [default: that of --resize, else 392, 224 for the embedded encoder]
    ///
    /// A crop that is smaller than --resize leaves the border of photos unseen, as the presets do.
    #[arg(long, value_parser = within(1, Geometry::MAX_SIDE), value_name = "PIXELS")]
    crop: Option<usize>,
}

impl ViewOption {
    /// What the options say; `None` if neither is given.
    pub fn geometry(self) -> Option<Geometry> {
        let resize = self.resize.or(self.crop)?;
        Some(Geometry { resize, crop: self.crop.unwrap_or(resize) })
    }
}

/// Resolution of an imported model's input.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct GeometryOption {
    /// Side of the square that photos are resized to, in pixels [default: the checkpoint's, else 448]
    #[arg(long, value_parser = within(1, Geometry::MAX_SIDE), value_name = "PIXELS")]
    resize: Option<usize>,
    /// Side of the centre crop that the model sees, in pixels [default: the checkpoint's, else 392]
    #[arg(long, value_parser = within(1, Geometry::MAX_SIDE), value_name = "PIXELS")]
    crop: Option<usize>,
}

impl GeometryOption {
    /// What the options say; `None` if neither is given.
    pub fn geometry(self) -> Option<Geometry> {
        let is_given = self.resize.is_some() || self.crop.is_some();
        is_given.then(|| Geometry { resize: self.resize.unwrap_or(448), crop: self.crop.unwrap_or(392) })
    }
}

/// Tiles of photos.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TileOption {
    /// Side of overlapping tiles that photos are looked at in, in pixels of the photo [default: photos are one square]
    ///
    /// For small defects in large photos: each tile is resized to the model's input. Time grows with the number of tiles.
    #[arg(long, value_parser = within(1, Tiles::MAX_SIZE), value_name = "PIXELS")]
    pub(crate) tile_size: Option<usize>,
}

/// Share of good photos that may be called defective, as an option of commands.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FalseAlarms {
    /// Share of good parts that may be called defective
    #[arg(long = "false-alarm-rate", default_value_t = FALSE_ALARM_RATE, value_parser = parse_rate, value_name = "SHARE")]
    pub rate: f64,
}

pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| format!("{text} is not a number"))?;
    if rate > 0.0 && rate < 1.0 { Ok(rate) } else { Err("it must lie between 0 and 1".into()) }
}

/// The device to compute on.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceOption {
    /// Device: cpu, cuda, cuda:NUMBER, auto, or gpu
    ///
    /// cuda and cuda:NUMBER are NVIDIA GPUs. auto is the first of them, or the cpu if there is none. gpu is a GPU of any vendor,
    /// through WebGPU; it runs models but does not train them.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: DeviceChoice,
}

impl DeviceOption {
    /// The chosen device.
    pub fn choice(&self) -> DeviceChoice {
        self.device
    }
}

/// `--device`, or `--devices`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevicesOption {
    #[command(flatten)]
    device: DeviceOption,
    /// Numbers of several NVIDIA GPUs that share every batch, such as 0,1
    ///
    /// The result is that of one GPU. cpu,cpu does the same on the processor, to try it out.
    #[arg(long, value_delimiter = ',', conflicts_with = "device", value_parser = parse_device, value_name = "NUMBER,…")]
    devices: Vec<DeviceChoice>,
}

impl DevicesOption {
    /// The chosen devices.
    pub fn choices(&self) -> Vec<DeviceChoice> {
        if self.devices.is_empty() { vec![self.device.choice()] } else { self.devices.clone() }
    }

    /// The same choice as words of a command line.
    pub fn words(&self) -> Vec<OsString> {
        if self.devices.is_empty() {
            return vec![format!("--device={}", self.device.choice()).into()];
        }
        let numbers: Vec<String> = self
            .devices
            .iter()
            .map(|device| match device {
                DeviceChoice::Cuda(number) => number.to_string(),
                other => other.to_string(),
            })
            .collect();
        vec![format!("--devices={}", numbers.join(",")).into()]
    }
}

fn parse_device(text: &str) -> Result<DeviceChoice> {
    match (text, text.parse()) {
        ("cpu", _) => Ok(DeviceChoice::Cpu),
        (_, Ok(number)) => Ok(DeviceChoice::Cuda(number)),
        _ => bail!("expected numbers of NVIDIA GPUs, such as 0,1"),
    }
}

/// The device and precision of a detector.
#[derive(Clone, Debug, clap::Args)]
pub struct LookOption {
    #[command(flatten)]
    device: DeviceOption,
    /// Matrix products in int8 on the cpu: about twice as fast, scores differ in the third digit
    #[arg(long)]
    int8: bool,
}

impl LookOption {
    /// The chosen device and precision.
    pub fn place(&self) -> DetectorDevice {
        DetectorDevice { device: self.device.choice(), int8: self.int8 }
    }
}

/// Which regions of photos to find.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RegionOption {
    /// Find the regions of each photo that lie above the pixel threshold, with place, area and outline
    ///
    /// In Parquet they are a column of JSON. CSV has a line for each region, and heatmaps have the outlines.
    #[arg(long)]
    regions: bool,
    /// Least area of a region, in pixels of the photo
    #[arg(long, default_value_t = 0.0, value_parser = within(0.0, 1e12), requires = "regions", value_name = "PIXELS")]
    min_area: f64,
    /// Value of the anomaly map above which a pixel belongs to a region [default: the model's]
    #[arg(long, value_parser = within(1e-6_f32, 1e6), requires = "regions", value_name = "VALUE")]
    pub(crate) pixel_threshold: Option<f32>,
}

impl RegionOption {
    /// The regions to find, if any.
    pub fn plan(self) -> Option<RegionPlan> {
        self.regions.then_some(RegionPlan { pixel_threshold: self.pixel_threshold, min_area: self.min_area })
    }
}

/// Help text of a layout.
fn about_layout(layout: Layout) -> &'static str {
    match layout {
        Layout::Table => "A table of photos, CSV or Parquet: image_path, label_index or label, split, mask_path",
        Layout::Folders => "Folders that folders.toml names: normal_dir, abnormal_dir, normal_test_dir, mask_dir",
        Layout::Kaputt => "Kaputt: datasets/query-train.parquet and query-test.parquet, photos in query-image",
        Layout::KolektorSdd => "KolektorSDD: kos01/NAME.jpg, kos01/NAME_label.bmp",
        Layout::KolektorSdd2 => "KolektorSDD2: train/NAME.png, test/NAME.png, their masks NAME_GT.png beside them",
        Layout::Dagm => "DAGM 2007: CLASS/Train/NAME.PNG, CLASS/Test/NAME.PNG, Label/NAME_label.PNG in each",
        Layout::Bmad => "BMAD: CLASS/train/good, test/good/img, test/Ungood/img, test/Ungood/label",
        Layout::AutoVi => "AutoVI: as MVTec-AD, with AutoVI's six classes, masks in ground_truth/DEFECT/NAME/0000.png",
        Layout::Manta => "MANTA-Tiny: GROUP/CLASS with MVTec-AD's layout",
        Layout::Visa => {
            "VisA as downloaded, with split_csv/1cls.csv (its authors' script converts it to MVTec-AD's layout)"
        }
        Layout::RealIad => {
            "Real-IAD: realiad_jsons/CLASS.json, photos in realiad_1024, 512, 256 or raw; Real-IAD Variety: the same with realiadvariety"
        }
        Layout::MvtecLoco => "MVTec LOCO: test/logical_anomalies, test/structural_anomalies, several masks per photo",
        Layout::Btad => "BTAD: train/ok, test/ok, test/ko",
        Layout::Mpdd => "MPDD: as MVTec-AD, with MPDD's six classes",
        Layout::UniMedical => {
            "Uni-Medical as published by the ADer project: as MVTec-AD, with classes brain, liver, retinal"
        }
        Layout::MvtecAd2 => {
            "MVTec AD 2: CLASS/train/good, test_public/good, test_public/bad, test_public/ground_truth/bad"
        }
        Layout::Mvtec3d => "MVTec 3D-AD: CLASS/train/good/rgb, test/KIND/rgb, test/KIND/gt",
        Layout::Mvtec => "MVTec-AD: CLASS/train/good, test/good, test/DEFECT, ground_truth/DEFECT",
        Layout::Folder => "A plain folder: good photos in it or in good, defective photos in bad, their masks in masks",
    }
}

/// Help text of an origin.
fn about_origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Original => {
            "Bicubic with the offset of a tenth of a patch of DINO and DINOv2, as in the official Dinomaly"
        }
        Origin::Timm => "Bicubic to the exact size, antialiased",
        Origin::Transformers => "Bicubic to the exact size, antialiased if the encoder has registers",
        Origin::Anomalib => "Bicubic to the exact size, as anomalib since 2.5.1 has it",
    }
}

/// Help text of a precision.
pub fn about_precision(precision: TrainingPrecision) -> &'static str {
    match precision {
        TrainingPrecision::F32 => "Single precision",
        TrainingPrecision::Tf32 => {
            "Values are stored in f32; the GPU's tensor cores round factors to a mantissa of ten bits"
        }
        TrainingPrecision::Bf16 => "Factors and the activations between products are rounded to bf16",
    }
}

/// A parser for the names of some values, with a help text for each.
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

/// A parser for numbers from `low` to `high`, both included.
pub fn within<T>(low: T, high: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Debug + Copy + Send + Sync + 'static,
{
    // NaN is in no range.
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
        format!("{text} is not a number from 0 to 1 for each of red, green and blue, such as 0.5,0.5,0.5")
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
        assert!(within(1, Geometry::MAX_SIDE)("1000000").is_err());
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
