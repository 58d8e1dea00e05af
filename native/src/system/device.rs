//! Where to compute: what the option's words mean, and how an NVIDIA GPU is opened.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, anyhow, bail};
use candle_core::{Device, DeviceLocation};

/// What `--device` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU of any maker, through wgpu: looks at photos, does not train.
    Gpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// The first NVIDIA GPU, or else the processor.
    Auto,
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            "auto" => Self::Auto,
            "cuda" => Self::Cuda(0),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(number)) => Self::Cuda(number),
                _ => bail!("a device is cpu, gpu, cuda, cuda:NUMBER or auto"),
            },
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl Choice {
    /// Opens the device.
    ///
    /// # Errors
    /// If it is absent, not in this build, or only looks at photos.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number),
            Self::Auto => Ok(open_any()),
            Self::Gpu => {
                bail!("device gpu looks at photos only: use cpu, or cuda on an NVIDIA GPU, for everything else")
            }
        }
    }
}

/// Opens an NVIDIA GPU.
///
/// # Errors
/// One sentence that says what is missing and what to do about it.
pub fn open_cuda(number: usize) -> Result<Device> {
    in_words(number, opened(number))
}

fn in_words(number: usize, outcome: Result<Device, String>) -> Result<Device> {
    outcome.map_err(|reason| anyhow!("device cuda:{number} cannot be opened: {reason}, or use --device cpu"))
}

/// The first NVIDIA GPU, or else the processor, which standard error then says.
pub fn open_any() -> Device {
    opened(0).unwrap_or_else(|reason| {
        eprintln!("dinomaly: computing on the processor, because no NVIDIA GPU can be used: {reason}");
        Device::Cpu
    })
}

/// A device in words: `the processor`, `cuda:0`.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "the processor".into(),
        DeviceLocation::Cuda { gpu_id } => Choice::Cuda(gpu_id).to_string(),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Bytes that are free on a GPU; `None` for the processor.
///
/// # Errors
/// If the driver does not say.
pub fn free_memory(device: &Device) -> Result<Option<u64>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        // What was freed on it counts, too.
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

/// The GPU, or what was found and what to do.
#[cfg(feature = "cuda")]
fn opened(number: usize) -> Result<Device, String> {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    // Open until the program ends: closing a GPU that has failed panics, and its reason would be lost.
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = caught(|| with_one_queue(number).map_err(|error| refused(&error.to_string())))?;
    open.insert(number, device.clone());
    Ok(device)
}

/// Has the pool give back what nothing on the GPU needs any more.
#[cfg(feature = "cuda")]
fn give_back(device: &candle_core::CudaDevice) -> Result<()> {
    use candle_core::cuda_backend::cudarc::driver::result::{device::get_default_mem_pool, mem_pool};

    let stream = device.cuda_stream();
    stream.synchronize()?;
    // SAFETY: the device is open, and what is in use stays.
    #[allow(unsafe_code)]
    // Without a pool there is nothing to give back.
    let _ = unsafe { get_default_mem_pool(stream.context().cu_device()).and_then(|pool| mem_pool::trim_to(pool, 0)) };
    Ok(())
}

/// A GPU with all of its work in one queue, whichever thread asks for it.
#[cfg(feature = "cuda")]
fn with_one_queue(number: usize) -> candle_core::Result<Device> {
    use candle_core::cuda_backend::cudarc::driver::result::{device::get_default_mem_pool, mem_pool};
    use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;

    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // What is freed stays at hand for the next step; by itself the pool gives it back at each wait for the GPU.
    let mut threshold = u64::MAX;
    // SAFETY: cudarc has streams wait for each other by events, of which it makes two for each tensor; here all work is in one
    // stream. The device is open, and the pool's threshold is read from a number of 64 bits.
    #[allow(unsafe_code)]
    unsafe {
        cuda.disable_event_tracking();
        // Without a pool it is slower and nothing else.
        let _ = get_default_mem_pool(cuda.cuda_stream().context().cu_device()).and_then(|pool| {
            mem_pool::set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast())
        });
    }
    Ok(device)
}

/// What comes of a first call into NVIDIA's libraries. Where one is missing, what opens it panics: that is an answer like any other
/// here, and must not be printed as a fault of the program.
#[cfg(feature = "cuda")]
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    use std::panic::{self, AssertUnwindSafe};

    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(call));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|panic| Err(missing(panic.downcast_ref::<String>().map_or("", String::as_str))))
}

/// What a panic of cudarc says is missing: `… load the "cublas" shared library …`.
#[cfg(any(feature = "cuda", test))]
fn missing(panic: &str) -> String {
    match panic.split('"').nth(1) {
        Some("nccl") => {
            "NVIDIA's library libnccl.so was not found: install NCCL, put its folder on LD_LIBRARY_PATH, and where it has libnccl.so.2 alone link that to libnccl.so".into()
        }
        Some("cuda") => "no NVIDIA driver was found (libcuda): install one of version 580 or newer".into(),
        Some(library) => format!(
            "NVIDIA's library lib{library} was not found: install the CUDA libraries and put their folder on LD_LIBRARY_PATH"
        ),
        None => format!("CUDA failed ({panic}): check the driver with nvidia-smi"),
    }
}

/// What the driver answers, in words of the one who asked.
#[cfg(any(feature = "cuda", test))]
fn refused(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    match first {
        _ if error.contains("CUDA_ERROR_NO_DEVICE") => {
            "the driver finds no GPU: check it with nvidia-smi, and what CUDA_VISIBLE_DEVICES says".into()
        }
        _ if error.contains("CUDA_ERROR_INVALID_DEVICE") => {
            "there is no GPU of that number: nvidia-smi lists them, and they are counted from 0".into()
        }
        _ => format!("the driver answers {first}: check it with nvidia-smi"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, choice) in [
            ("cpu", Choice::Cpu),
            ("gpu", Choice::Gpu),
            ("auto", Choice::Auto),
            ("cuda:0", Choice::Cuda(0)),
            ("cuda:12", Choice::Cuda(12)),
        ] {
            assert_eq!((text.parse::<Choice>().unwrap(), choice.to_string().as_str()), (choice, text));
        }
        assert_eq!("cuda".parse::<Choice>().unwrap(), Choice::Cuda(0));
        for text in ["cuda:", "cuda:x", "cuda:-1", "cuda0", "tpu", ""] {
            assert!(text.parse::<Choice>().unwrap_err().to_string().contains("cuda:NUMBER"), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said_in_words() {
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
