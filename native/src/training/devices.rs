//! Devices of a training: one, or several that share every batch.

use anyhow::{Result, bail};
use candle_core::Device;

use super::replicas::Replicas;
use crate::system::device::DeviceChoice;

/// Open devices.
pub enum Devices {
    /// One device.
    One(Device),
    /// Several that share every batch.
    Several(Replicas),
}

impl Devices {
    /// Opens the chosen devices to train on batches of `batch` photos; the processor if none is chosen.
    ///
    /// # Errors
    /// If a device is absent, not supported by this build or named twice, if the kinds differ, or if the batch cannot be split
    /// evenly.
    pub fn open(choices: &[DeviceChoice], batch: usize) -> Result<Self> {
        let count = choices.len();
        let gpu = |choice: &DeviceChoice| match choice {
            DeviceChoice::Cuda(number) => Some(*number),
            _ => None,
        };
        let gpus: Vec<usize> = choices.iter().filter_map(gpu).collect();
        if count > 1 && !batch.is_multiple_of(count) {
            bail!("--batch {batch} cannot be shared evenly by {count} devices: make it a multiple of {count}");
        }
        if let Some(number) =
            gpus.iter().enumerate().find_map(|(i, number)| gpus[..i].contains(number).then_some(number))
        {
            bail!("--devices names GPU {number} twice: each GPU trains on its own part of the batch");
        }
        Ok(match (choices, gpus.len()) {
            ([], _) => Self::One(Device::Cpu),
            ([choice], _) => Self::One(choice.open()?),
            (_, 0) if choices.iter().all(|choice| *choice == DeviceChoice::Cpu) => {
                Self::Several(Replicas::on_processor(count))
            }
            (_, gpus_named) if gpus_named == count => Self::Several(Replicas::on_gpus(&gpus)?),
            _ => bail!("--devices names the processor and GPUs, which would wait for it: name GPUs only"),
        })
    }

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
