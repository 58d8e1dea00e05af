//! Page-locked memory: a GPU fetches from it by itself, where ordinary memory is copied by the driver first.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor, bail};
use half::bf16;

use super::held::Held;

/// The values of a photo `[count]` that lies on this GPU.
///
/// # Errors
/// If there is no such memory left, or the device fails.
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
        // SAFETY: all of it is written in the next line.
        #[allow(unsafe_code)]
        let mut locked = unsafe { stream.context().alloc_pinned::<T>(values.len()) }.w()?;
        locked.as_mut_slice().w()?.copy_from_slice(values);
        Ok(Self { values: locked, stream })
    }
}

impl<T: CudaDType + DeviceRepr + 'static> Held for Locked<T> {
    fn fetch(&self, device: &Device) -> Result<Tensor> {
        let Device::Cuda(device) = device else { bail!("page-locked features are fetched by a GPU") };
        // Queued: the memory must stay until it is done.
        let slice = device.clone_htod(&self.values)?;
        let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
        Ok(Tensor::from_storage(Storage::Cuda(storage), self.values.len(), BackpropOp::none(), false))
    }

    /// Freeing it waits for an event of cudarc, which is not recorded where all work is in one queue (see [`crate::system::device`]).
    fn wait(&self) {
        // A GPU that has failed fetches nothing any more.
        let _ = self.stream.synchronize();
    }
}
