//! What training computes on: one device, or several that share every batch.

use anyhow::{Result, bail};
use candle_core::Device;

use super::replicas::Replicas;
use crate::system::device::Choice;

/// What is open.
pub enum Devices {
    /// One.
    One(Device),
    /// Several.
    Several(Replicas),
}

impl Devices {
    /// Opens what was chosen, to train on batches of so many photos: the processor if that is nothing.
    ///
    /// # Errors
    /// If a device is absent, not in this build or named twice, they are of two kinds, or they cannot share a batch.
    pub fn open(choices: &[Choice], batch: usize) -> Result<Self> {
        let count = choices.len();
        let gpu = |choice: &Choice| match choice {
            Choice::Cuda(number) => Some(*number),
            _ => None,
        };
        let gpus: Vec<usize> = choices.iter().filter_map(gpu).collect();
        if count > 1 && !batch.is_multiple_of(count) {
            bail!("--batch {batch} cannot be shared evenly by {count} devices: make it a multiple of {count}");
        }
        if let Some(number) =
            gpus.iter().enumerate().find_map(|(i, number)| gpus[..i].contains(number).then_some(number))
        {
            bail!("--devices names GPU {number} twice: each trains on a part of the batch of its own");
        }
        Ok(match (choices, gpus.len()) {
            ([], _) => Self::One(Device::Cpu),
            ([choice], _) => Self::One(choice.open()?),
            (_, 0) if choices.iter().all(|choice| *choice == Choice::Cpu) => {
                Self::Several(Replicas::on_processor(count))
            }
            (_, gpus_named) if gpus_named == count => Self::Several(Replicas::on_gpus(&gpus)?),
            _ => bail!("--devices names the processor beside GPUs, which would wait for it: name GPUs only"),
        })
    }

    /// The one, or the first: the one that speaks for all.
    pub fn first(&self) -> &Device {
        match self {
            Self::One(device) => device,
            Self::Several(replicas) => replicas.first(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Several(replicas) => replicas.count(),
        }
    }
}
