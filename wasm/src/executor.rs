//! Which device runs the model.

use std::str::FromStr;

use candle_core::Device;
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::{Detection, Detector};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::webgpu::{self as gpu, Adapter, Precision, WebGpu};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::Photo;
use dinomaly_core::{Error, Result};

/// What the page asks for.
#[derive(Clone, Copy)]
pub enum Choice {
    /// The GPU where there is a real one that passes the self-test, else the processor.
    Auto,
    /// The GPU, even one that is emulated.
    WebGpu,
    /// The processor.
    Wasm,
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "webgpu" => Ok(Self::WebGpu),
            "wasm" => Ok(Self::Wasm),
            other => Err(Error::config(format!("device {other} is not known: choose auto, webgpu or wasm"))),
        }
    }
}

/// A model on the device that was chosen.
pub enum Executor {
    /// On the GPU.
    WebGpu(Box<Detector<WebGpu>>),
    /// On the processor.
    Wasm(Box<Detector<Candle<'static>>>),
}

/// An executor, and how it came to be chosen.
pub struct Opened {
    pub executor: Executor,
    /// Why the processor had to be taken, in one sentence.
    pub fallback: Option<String>,
}

impl Executor {
    /// The GPU, where it is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        match self {
            Self::WebGpu(detector) => Some(detector.ops().adapter()),
            Self::Wasm(_) => None,
        }
    }

    /// What linear layers are computed in.
    pub fn precision(&self) -> Precision {
        match self {
            Self::WebGpu(detector) => detector.ops().precision(),
            Self::Wasm(_) => Precision::F32,
        }
    }

    /// Looks at one photo.
    pub async fn detect(&self, photo: &Photo) -> Result<Detection> {
        let photo = std::slice::from_ref(photo);
        let mut detections = match self {
            Self::WebGpu(detector) => detector.detect(photo).await,
            Self::Wasm(detector) => detector.detect(photo).await,
        }?;
        Ok(detections.remove(0))
    }
}

/// Opens the device of choice; what is returned has passed the model's self-test.
pub async fn open(choice: Choice, model: &Model) -> Result<Opened> {
    let fallback = match choice {
        Choice::Wasm => None,
        Choice::WebGpu => {
            let gpu::Opened { detector, .. } = WebGpu::new().await?.open_model(model).await?;
            return Ok(Opened { executor: Executor::WebGpu(Box::new(detector)), fallback: None });
        }
        Choice::Auto => match real_gpu(model).await {
            Ok(detector) => return Ok(Opened { executor: Executor::WebGpu(Box::new(detector)), fallback: None }),
            // The page says itself that it is about the GPU.
            Err(Error::Device { reason, .. }) => Some(reason),
            Err(error) => Some(error.to_string()),
        },
    };
    let detector = tested("candle", Candle::infer(Device::Cpu), model).await?;
    Ok(Opened { executor: Executor::Wasm(Box::new(detector)), fallback })
}

/// A GPU that is worth using.
async fn real_gpu(model: &Model) -> Result<Detector<WebGpu>> {
    let gpu = WebGpu::new().await?;
    if gpu.adapter().is_software {
        let reason = "the browser only emulates a GPU, which is slower than the processor itself".into();
        return Err(Error::Device { executor: "webgpu", reason });
    }
    Ok(gpu.open_model(model).await?.detector)
}

async fn tested<O: Read>(name: &'static str, ops: O, model: &Model) -> Result<Detector<O>> {
    let detector = Detector::new(ops, model)?;
    if let Some(self_test) = &model.self_test {
        detector.verify(name, self_test).await?;
    }
    Ok(detector)
}
