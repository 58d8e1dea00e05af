//! Devices: the values of `--device`, and how an NVIDIA GPU is opened.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, anyhow, bail};
use candle_core::{Device, DeviceLocation};

/// Value of `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU of any vendor, through wgpu: runs models, does not train them.
    Gpu,
    /// The NVIDIA GPU with this number.
    Cuda(usize),
    /// The first NVIDIA GPU, or the processor if there is none.
    Auto,
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            "auto" => Self::Auto,
            "cuda" => Self::Cuda(0),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(number)) => Self::Cuda(number),
                _ => bail!("expected cpu, gpu, cuda, cuda:NUMBER or auto"),
            },
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is absent, not supported by this build, or cannot train.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number),
            Self::Auto => Ok(open_any()),
            Self::Gpu => {
                bail!("device gpu only runs models on photos: use cpu, or cuda on an NVIDIA GPU, for this command")
            }
        }
    }
}

/// Opens an NVIDIA GPU.
///
/// # Errors
/// One sentence: what is missing, and what to do.
pub fn open_cuda(number: usize) -> Result<Device> {
    in_words(number, opened(number))
}

fn in_words(number: usize, outcome: Result<Device, String>) -> Result<Device> {
    outcome.map_err(|reason| anyhow!("device cuda:{number} cannot be opened: {reason}, or use --device cpu"))
}

/// The first NVIDIA GPU, or the processor if there is none, with a message on standard error.
pub fn open_any() -> Device {
    opened(0).unwrap_or_else(|reason| {
        eprintln!("dinomaly: computing on the processor, because no NVIDIA GPU can be used: {reason}");
        Device::Cpu
    })
}

/// Name of a device for messages: `the processor`, `cuda:0`.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "the processor".into(),
        DeviceLocation::Cuda { gpu_id } => DeviceChoice::Cuda(gpu_id).to_string(),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Free bytes on a GPU; `None` for the processor.
///
/// # Errors
/// If the driver fails.
pub fn free_memory(device: &Device) -> Result<Option<u64>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        // Freed memory in the pool counts as free.
        give_back(device)?;
        let (free, _total) = device.cuda_stream().context().mem_get_info()?;
        return Ok(Some(free as u64));
    }
    debug_assert!(!device.is_cuda());
    Ok(None)
}

#[cfg(not(feature = "cuda"))]
fn opened(_number: usize) -> Result<Device, String> {
    Err("this program was built without CUDA: build it with native/cuda/build.sh".into())
}

/// The GPU, or the reason why it cannot be used.
#[cfg(feature = "cuda")]
fn opened(number: usize) -> Result<Device, String> {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    // Stays open until the program ends: closing a failed GPU panics, which would hide the error.
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = caught(|| with_one_queue(number).map_err(|error| refused(&error.to_string())))?;
    open.insert(number, device.clone());
    Ok(device)
}

/// Returns the pool's unused memory to the GPU.
#[cfg(feature = "cuda")]
fn give_back(device: &candle_core::CudaDevice) -> Result<()> {
    use candle_core::cuda_backend::cudarc::driver::result::{device::get_default_mem_pool, mem_pool};

    let stream = device.cuda_stream();
    stream.synchronize()?;
    // SAFETY: the device is open, and memory in use stays.
    #[allow(unsafe_code)]
    // If there is no pool, there is nothing to return.
    let _ = unsafe { get_default_mem_pool(stream.context().cu_device()).and_then(|pool| mem_pool::trim_to(pool, 0)) };
    Ok(())
}

/// A GPU with one queue for the work of all threads.
#[cfg(feature = "cuda")]
fn with_one_queue(number: usize) -> candle_core::Result<Device> {
    use candle_core::cuda_backend::cudarc::driver::result::{device::get_default_mem_pool, mem_pool};
    use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;

    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // Freed memory stays in the pool for the next step; by default the pool returns it at each synchronisation.
    let mut threshold = u64::MAX;
    // SAFETY: cudarc synchronises streams by two events per tensor, which one stream does not need. The device is open, and the
    // pool's threshold is read from a 64-bit number.
    #[allow(unsafe_code)]
    unsafe {
        cuda.disable_event_tracking();
        // An error only costs speed.
        let _ = get_default_mem_pool(cuda.cuda_stream().context().cu_device()).and_then(|pool| {
            mem_pool::set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast())
        });
    }
    Ok(device)
}

/// The result of a first call into NVIDIA's libraries. cudarc panics if one is missing
/// (findings/cudarc-nccl-name.sh); here this becomes an error, and no panic
/// message is printed.
#[cfg(feature = "cuda")]
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    use std::panic::{self, AssertUnwindSafe};

    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|panic| Err(missing(panic.downcast_ref::<String>().map_or("", String::as_str))))
}

/// The missing library from a panic message of cudarc: `… load the "cublas" shared library …`.
#[cfg(any(feature = "cuda", test))]
fn missing(panic: &str) -> String {
    match panic.split('"').nth(1) {
        Some("nccl") => {
            "NVIDIA's library libnccl.so was not found: install NCCL and put its folder on LD_LIBRARY_PATH; if it only has libnccl.so.2, link that to libnccl.so".into()
        }
        Some("cuda") => "no NVIDIA driver was found (libcuda): install one of version 580 or newer".into(),
        Some(library) => format!(
            "NVIDIA's library lib{library} was not found: install the CUDA libraries and put their folder on LD_LIBRARY_PATH"
        ),
        None => format!("CUDA failed ({panic}): check the driver with nvidia-smi"),
    }
}

/// An error of the driver, in words that help the user.
#[cfg(any(feature = "cuda", test))]
fn refused(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    match first {
        _ if error.contains("CUDA_ERROR_NO_DEVICE") => {
            "the driver finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES".into()
        }
        _ if error.contains("CUDA_ERROR_INVALID_DEVICE") => {
            "there is no GPU with that number: nvidia-smi lists them, counted from 0".into()
        }
        _ => format!("the driver reports {first}: check it with nvidia-smi"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("gpu", DeviceChoice::Gpu),
            ("auto", DeviceChoice::Auto),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:12", DeviceChoice::Cuda(12)),
        ] {
            assert_eq!((text.parse::<DeviceChoice>().unwrap(), choice.to_string().as_str()), (choice, text));
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for text in ["cuda:", "cuda:x", "cuda:-1", "cuda0", "tpu", ""] {
            assert!(text.parse::<DeviceChoice>().unwrap_err().to_string().contains("cuda:NUMBER"), "{text}");
        }
    }

    #[test]
    fn driver_errors_become_sentences() {
        let panic = |library: &str| format!("Unable to dynamically load the \"{library}\" shared library - searched");
        assert!(missing(&panic("cuda")).contains("no NVIDIA driver"));
        assert!(missing(&panic("cublas")).contains("libcublas was not found"));
        assert!(missing(&panic("nccl")).contains("libnccl.so was not found: install NCCL"));
        assert!(missing("odd").contains("CUDA failed (odd)"));
        assert!(
            refused("DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")").contains("no GPU")
        );
        assert!(refused("DriverError(CUDA_ERROR_INVALID_DEVICE, \"…\")").contains("counted from 0"));
        assert!(refused("DriverError(CUDA_ERROR_OUT_OF_MEMORY)\n 0: backtrace").ends_with("check it with nvidia-smi"));
    }
}
