//! Adapter, device, and the device's errors.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

/// GPU that the kernels run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Name of the device. Browsers hide it, and give its architecture at best.
    pub name: String,
    /// Name of the maker.
    pub vendor: String,
    /// API behind WebGPU: `vulkan`, `metal`, `dx12`, or `webgpu` in a browser.
    pub backend: String,
    /// Whether the GPU is emulated by the processor, which is slower than the executors for processors. Asking a
    /// browser for a real one is no way: findings/wgpu-web-fallback-adapter.sh.
    pub is_software: bool,
    /// Whether kernels may use integer dot products (WGSL's `dot4I8Packed`, which browsers before 2024 lack).
    pub integer_dot: bool,
}

const NO_GPU: &str = if cfg!(target_arch = "wasm32") {
    "no GPU was found: this browser has no WebGPU, or it is switched off"
} else {
    "no GPU was found: install a Vulkan, Metal or DirectX 12 driver, or use an executor on the processor"
};

/// Device and queue. The first error is stored and returned by every later call.
pub(super) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: Adapter,
    fault: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens the fastest adapter with WebGPU's default limits, so that what runs here runs in every browser.
    pub async fn open() -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        // The cause is dropped: it would list the backends that this build does not have.
        let adapter = instance.request_adapter(&options).await.map_err(|_| fault(NO_GPU))?;
        let wanted = wgpu::DeviceDescriptor {
            // Optional, for profiles only.
            required_features: adapter.features() & wgpu::Features::TIMESTAMP_QUERY,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&wanted).await.map_err(|cause| {
            fault(format!(
                "the GPU {} cannot be used ({cause}): use an executor on the processor",
                adapter.get_info().name
            ))
        })?;
        let integer_dot =
            instance.wgsl_language_features().contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
        let adapter = describe(&adapter.get_info(), &device, integer_dot);

        let first = Arc::new(Mutex::new(None));
        let record = |what: String, first: &Mutex<Option<String>>| {
            first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        };
        let kept = first.clone();
        device.on_uncaptured_error(Arc::new(move |error| record(sentence(&error), &kept)));
        let kept = first.clone();
        device.set_device_lost_callback(move |reason, message| {
            let cause = if message.is_empty() { format!("{reason:?}").to_lowercase() } else { message };
            record(
                format!("the GPU was lost ({cause}): load the model again, or use an executor on the processor"),
                &kept,
            );
        });
        Ok(Self { device, queue, adapter, fault: first })
    }

    /// Returns the stored error, if there is one.
    pub fn check(&self) -> Result<()> {
        let kept = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().map_or(Ok(()), |reason| Err(fault(reason)))
    }

    /// Waits for all submitted commands. Browsers have no such call and need none: their event loop goes on.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        // wgpu panics if the device is lost during the wait.
        let poll = || self.device.poll(wgpu::PollType::wait_indefinitely());
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)) {
            Ok(Ok(_)) => self.check(),
            Ok(Err(cause)) => Err(fault(format!("waiting for the GPU failed: {cause}"))),
            Err(_) => self.check().and(Err(fault("the GPU was lost while it computed"))),
        }
    }
}

/// Makes an error of this executor.
pub(super) fn fault(reason: impl Into<String>) -> Error {
    Error::Device { executor: "webgpu", reason: reason.into() }
}

fn sentence(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            "the GPU is out of memory: use fewer photos at a time, or an executor on the processor".into()
        }
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            format!("the GPU refused a command: {}", description.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn describe(info: &wgpu::AdapterInfo, _: &wgpu::Device, integer_dot: bool) -> Adapter {
    // PCI identifiers, and those of Khronos for makers that have none.
    let vendor = match info.vendor {
        0x1002 => "AMD".into(),
        0x106b => "Apple".into(),
        0x10de => "NVIDIA".into(),
        0x13b5 => "Arm".into(),
        0x5143 => "Qualcomm".into(),
        0x8086 => "Intel".into(),
        0x10005 => "Mesa".into(),
        other => format!("{other:#06x}"),
    };
    Adapter {
        name: info.name.clone(),
        vendor,
        backend: info.backend.to_str().into(),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
        integer_dot,
    }
}

#[cfg(target_arch = "wasm32")]
fn describe(info: &wgpu::AdapterInfo, device: &wgpu::Device, integer_dot: bool) -> Adapter {
    let (vendor, architecture) = device
        .as_webgpu()
        .map(|device| (device.adapter_info().vendor(), device.adapter_info().architecture()))
        .unwrap_or_default();
    Adapter {
        name: if info.name.is_empty() { architecture } else { info.name.clone() },
        vendor,
        backend: "webgpu".into(),
        is_software: info.device_type == wgpu::DeviceType::Cpu,
        integer_dot,
    }
}
