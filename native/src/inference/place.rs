//! Where a published model looks at photos.

use anyhow::{Result, bail};
use candle_core::Device;
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::ProcessorPrecision;
use dinomaly_core::executors::webgpu::WebGpu;

use super::detect::PhotoDetector;
use crate::system::device::Choice;

/// Where photos are looked at; by default on the processor, in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Choice,
    /// Multiply in eight-bit integers, which the processor alone does.
    pub int8: bool,
}

/// A model where it looks at photos.
pub enum Looking {
    /// On the processor.
    Processor(Box<PhotoDetector>),
    /// On a GPU of any maker.
    Gpu(Box<PhotoDetector<WebGpu>>),
    /// On an NVIDIA GPU.
    Cuda(Box<PhotoDetector<Candle<'static>>>),
}

impl Looking {
    /// The model in single precision on a device that trains.
    ///
    /// # Errors
    /// If the model's self-test refuses the device.
    pub fn on(model: &Model, device: Device) -> Result<Self> {
        Ok(if device.is_cpu() {
            Self::Processor(Box::new(PhotoDetector::new(model)?))
        } else {
            Self::Cuda(Box::new(PhotoDetector::on_cuda(model, device)?))
        })
    }
}

impl Place {
    /// The model on the device: a GPU of any maker takes the fastest precision that the model's self-test accepts.
    ///
    /// # Errors
    /// If the device is absent or not in this build, the model's self-test refuses it, or a precision was asked for that it does
    /// not have.
    pub fn open(self, model: &Model) -> Result<Looking> {
        if self.device == Choice::Gpu {
            self.refuse_int8("a GPU takes the fastest precision that the model's self-test accepts")?;
            return Ok(Looking::Gpu(Box::new(PhotoDetector::on_gpu(model)?)));
        }
        let device = self.device.open()?;
        if device.is_cpu() && self.int8 {
            return Ok(Looking::Processor(Box::new(PhotoDetector::in_precision(model, ProcessorPrecision::Int8)?)));
        }
        self.refuse_int8("CUDA computes in single precision")?;
        Looking::on(model, device)
    }

    fn refuse_int8(self, instead: &str) -> Result<()> {
        if self.int8 {
            bail!("--int8 is for the processor: {instead}");
        }
        Ok(())
    }
}
