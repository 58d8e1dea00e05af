//! Devices of `train`: one, or several that share every batch.

use anyhow::{Result, bail};
use candle_core::Device;

use super::options::DeviceOption;
use crate::system::device::{Choice, open_cuda};
use crate::training::replicas::Replicas;

/// `--device`, or `--devices`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevicesOption {
    #[command(flatten)]
    device: DeviceOption,
    /// Numbers of several NVIDIA GPUs that share every batch, such as 0,1
    ///
    /// The result is that of one GPU. cpu,cpu does the same on the processor, to try it out.
    #[arg(long, value_delimiter = ',', conflicts_with = "device", value_parser = parse, value_name = "NUMBER,…")]
    devices: Vec<Choice>,
}

/// Open devices.
pub enum Devices {
    /// One device.
    One(Device),
    /// Several that share every batch.
    Several(Replicas),
}

impl Devices {
    /// The only or first device.
    pub fn first(&self) -> &Device {
        match self {
            Self::One(device) => device,
            Self::Several(replicas) => replicas.first(),
        }
    }

    /// Number of devices.
    pub fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Several(replicas) => replicas.count(),
        }
    }
}

fn parse(text: &str) -> Result<Choice> {
    match (text, text.parse()) {
        ("cpu", _) => Ok(Choice::Cpu),
        (_, Ok(number)) => Ok(Choice::Cuda(number)),
        _ => bail!("expected numbers of NVIDIA GPUs, such as 0,1"),
    }
}

impl DevicesOption {
    /// Opens the first device only, to evaluate.
    ///
    /// # Errors
    /// If it is absent or not supported by this build.
    pub fn open_first(&self) -> Result<Device> {
        match self.devices.first() {
            None => self.device.open(),
            Some(Choice::Cuda(number)) => open_cuda(*number),
            Some(_) => Ok(Device::Cpu),
        }
    }

    /// Opens the chosen devices to train on batches of `batch` photos.
    ///
    /// # Errors
    /// If a device is absent, not supported by this build or named twice, if the kinds differ, or if the batch cannot be split
    /// evenly.
    pub fn open(&self, batch: usize) -> Result<Devices> {
        let count = self.devices.len();
        let gpu = |choice: &Choice| match choice {
            Choice::Cuda(number) => Some(*number),
            _ => None,
        };
        let gpus: Vec<usize> = self.devices.iter().filter_map(gpu).collect();
        if count > 1 && !batch.is_multiple_of(count) {
            bail!("--batch {batch} cannot be shared evenly by {count} devices: make it a multiple of {count}");
        }
        if let Some(number) =
            gpus.iter().enumerate().find_map(|(i, number)| gpus[..i].contains(number).then_some(number))
        {
            bail!("--devices names GPU {number} twice: each GPU trains on its own part of the batch");
        }
        Ok(match (self.devices.as_slice(), gpus.len()) {
            ([], _) => Devices::One(self.device.open()?),
            ([Choice::Cpu], _) => Devices::One(Device::Cpu),
            ([_], _) => Devices::One(open_cuda(gpus[0])?),
            (_, 0) => Devices::Several(Replicas::on_processor(count)),
            (_, gpus_named) if gpus_named == count => Devices::Several(Replicas::on_gpus(&gpus)?),
            _ => bail!("--devices names the processor and GPUs, which would wait for it: name GPUs only"),
        })
    }
}
