//! Page-locked memory, which a GPU reads directly; the driver has to copy ordinary memory first.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor, bail};
use half::bf16;

use super::held::Held;

/// A photo's values `[count]` from this GPU.
///
/// # Errors
/// If there is no page-locked memory left, or the device fails.
pub fn lock(photo: &Tensor, device: &CudaDevice) -> Result<Box<dyn Held>> {
    Ok(match photo.dtype() {
        DType::BF16 => Box::new(Locked::of(&photo.to_vec1::<bf16>()?, device)?),
        _ => Box::new(Locked::of(&photo.to_vec1::<f32>()?, device)?),
    })
}

struct Locked<T> {
    values: PinnedHostSlice<T>,
    stream: Arc<CudaStream>,
}

impl<T: Copy + DeviceRepr + ValidAsZeroBits> Locked<T> {
    fn of(values: &[T], device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        // SAFETY: the next line writes all of it.
        #[allow(unsafe_code)]
        let mut locked = unsafe { stream.context().alloc_pinned::<T>(values.len()) }.w()?;
        locked.as_mut_slice().w()?.copy_from_slice(values);
        Ok(Self { values: locked, stream })
    }
}

impl<T: CudaDType + DeviceRepr + 'static> Held for Locked<T> {
    fn fetch(&self, device: &Device) -> Result<Tensor> {
        let Device::Cuda(device) = device else { bail!("only a GPU fetches page-locked features") };
        // The copy is only queued: the memory must stay until it is done.
        let slice = device.clone_htod(&self.values)?;
        let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
        Ok(Tensor::from_storage(Storage::Cuda(storage), self.values.len(), BackpropOp::none(), false))
    }

    /// Needed, because cudarc only waits for an event that is not recorded if all work is in one queue (see [`crate::system::device`]).
    fn wait(&self) {
        // A failed GPU does not fetch any more.
        let _ = self.stream.synchronize();
    }
}
