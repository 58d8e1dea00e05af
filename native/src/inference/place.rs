//! The device and precision of a detector.

use anyhow::{Result, bail};
use candle_core::Device;
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::ProcessorPrecision;
use dinomaly_core::executors::webgpu::WebGpu;

use super::detect::PhotoDetector;
use crate::system::device::Choice;

/// The device and precision of a detector; by default the processor in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: Choice,
    /// Matrix products in int8, on the processor only.
    pub int8: bool,
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

impl Place {
    /// A detector on the chosen device. WebGPU takes the fastest precision that passes the model's self-test.
    ///
    /// # Errors
    /// If the device is absent, not supported by this build, fails the model's self-test, or lacks the chosen precision.
    pub fn open(self, model: &Model) -> Result<Looking> {
        if self.device == Choice::Gpu {
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

    fn refuse_int8(self, instead: &str) -> Result<()> {
        if self.int8 {
            bail!("--int8 needs --device cpu: {instead}");
        }
        Ok(())
    }
}
