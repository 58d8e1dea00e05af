//! Options that several commands share.

use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::ProcessorPrecision;
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::photo::preprocess::Geometry;

use crate::dataset::Layout;
use crate::inference::detect::PhotoDetector;
use crate::system::device::{Choice, open_any, open_cuda};

/// Layout of a data set.
#[derive(Clone, Debug, clap::Args)]
pub struct LayoutOption {
    /// Layout of the data set [default: detected]
    #[arg(long, value_enum)]
    pub(crate) layout: Option<Layout>,
}

/// Resolution of the model's input.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct GeometryOption {
    /// Side of the square that photos are resized to, in pixels
    #[arg(long, default_value_t = 448, value_parser = within(1, SIDE), value_name = "PIXELS")]
    resize: usize,
    /// Side of the centre crop that the model sees, in pixels
    #[arg(long, default_value_t = 392, value_parser = within(1, SIDE), value_name = "PIXELS")]
    crop: usize,
}

/// Largest side in pixels: no machine has the memory for more.
const SIDE: usize = 4096;

impl From<GeometryOption> for Geometry {
    fn from(GeometryOption { resize, crop }: GeometryOption) -> Self {
        Self { resize, crop }
    }
}

/// The device to compute on.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceOption {
    /// Device: cpu, cuda, cuda:NUMBER, auto, or gpu
    ///
    /// cuda and cuda:NUMBER are NVIDIA GPUs. auto is the first of them, or the cpu if there is none. gpu is a GPU of any vendor,
    /// through WebGPU; it runs models but does not train them.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: Choice,
}

impl DeviceOption {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is absent, not supported by this build, or cannot train.
    pub fn open(&self) -> Result<Device> {
        match self.device {
            Choice::Cpu => Ok(Device::Cpu),
            Choice::Cuda(number) => open_cuda(number),
            Choice::Auto => Ok(open_any()),
            Choice::Gpu => {
                bail!("device gpu only runs models on photos: use cpu, or cuda on an NVIDIA GPU, for this command")
            }
        }
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

/// A detector on the chosen device.
pub enum Looking {
    /// The processor.
    Processor(Box<PhotoDetector>),
    /// A GPU of any vendor, through WebGPU.
    Gpu(Box<PhotoDetector<WebGpu>>),
    /// An NVIDIA GPU.
    Cuda(Box<PhotoDetector<Candle<'static>>>),
}

impl Looking {
    /// A detector in single precision on a training device.
    ///
    /// # Errors
    /// If the model's self-test fails on the device.
    pub fn on(model: &Model, device: Device) -> Result<Self> {
        Ok(if device.is_cpu() {
            Self::Processor(Box::new(PhotoDetector::new(model)?))
        } else {
            Self::Cuda(Box::new(PhotoDetector::on_cuda(model, device)?))
        })
    }
}

impl LookOption {
    /// A detector on the chosen device. WebGPU takes the fastest precision that passes the model's self-test.
    ///
    /// # Errors
    /// If the device is absent, not supported by this build, fails the model's self-test, or lacks the chosen precision.
    pub fn on(&self, model: &Model) -> Result<Looking> {
        if self.device.device == Choice::Gpu {
            self.refuse_int8("a GPU takes the fastest precision that passes the model's self-test")?;
            return Ok(Looking::Gpu(Box::new(PhotoDetector::on_gpu(model)?)));
        }
        let device = self.device.open()?;
        if device.is_cpu() && self.int8 {
            return Ok(Looking::Processor(Box::new(PhotoDetector::in_precision(model, ProcessorPrecision::Int8)?)));
        }
        self.refuse_int8("CUDA computes in single precision")?;
        Looking::on(model, device)
    }

    fn refuse_int8(&self, instead: &str) -> Result<()> {
        if self.int8 {
            bail!("--int8 needs --device cpu: {instead}");
        }
        Ok(())
    }
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
