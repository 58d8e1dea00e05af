//! The device and precision of a detector.

use anyhow::{Result, bail};
use candle_core::Device;
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::processor::ProcessorPrecision;
use dinomaly_core::executors::webgpu::WebGpu;

use super::photo_detector::PhotoDetector;
use crate::system::device::DeviceChoice;

/// The device and precision of a detector; by default the processor in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetectorDevice {
    /// The device.
    pub device: DeviceChoice,
    /// Matrix products in int8, on the processor only.
    pub int8: bool,
}

/// A detector on the chosen device.
pub enum AnyDetector {
    /// The processor.
    Processor(Box<PhotoDetector>),
    /// A GPU of any vendor, through WebGPU.
    Gpu(Box<PhotoDetector<WebGpu>>),
    /// An NVIDIA GPU.
    Cuda(Box<PhotoDetector<Candle<'static>>>),
}

impl AnyDetector {
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

impl DetectorDevice {
    /// A detector on the chosen device. WebGPU takes the fastest precision that passes the model's self-test.
    ///
    /// # Errors
    /// If the device is absent, not supported by this build, fails the model's self-test, or lacks the chosen precision.
    pub fn open(self, model: &Model) -> Result<AnyDetector> {
        if self.device == DeviceChoice::Gpu {
            self.refuse_int8("a GPU takes the fastest precision that passes the model's self-test")?;
            return Ok(AnyDetector::Gpu(Box::new(PhotoDetector::on_gpu(model)?)));
        }
        let device = self.device.open()?;
        if device.is_cpu() && self.int8 {
            return Ok(AnyDetector::Processor(Box::new(PhotoDetector::in_precision(model, ProcessorPrecision::Int8)?)));
        }
        self.refuse_int8("CUDA computes in single precision")?;
        AnyDetector::on(model, device)
    }

    fn refuse_int8(self, instead: &str) -> Result<()> {
        if self.int8 {
            bail!("--int8 needs --device cpu: {instead}");
        }
        Ok(())
    }
}
