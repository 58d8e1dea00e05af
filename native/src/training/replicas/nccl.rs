//! Replicas on NVIDIA GPUs, connected by NCCL.
//!
//! An NCCL operation ends on no GPU before it has started on all. So that no GPU waits for ever, replicas meet before and after they
//! queue an operation: either all have it in their queues, or all end. [`super::connection`] says how replicas are freed that wait for
//! a GPU that fails later. It only needs that one thread at a time uses each communicator.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut};
use candle_core::cuda_backend::cudarc::nccl::result::{NcclError, NcclStatus, all_gather, all_reduce};
use candle_core::cuda_backend::cudarc::nccl::result::{comm_abort, comm_init_all};
use candle_core::cuda_backend::cudarc::nccl::sys::{ncclComm_t, ncclDataType_t, ncclRedOp_t};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Result, Storage, Tensor, bail};

use super::connection::Connection;
use super::{Collective, Replicas, Team};
use crate::system::device;

/// A replica's GPU and its connection to the others.
struct Gpu {
    connection: Connection<Communicator>,
    stream: Arc<CudaStream>,
}

/// NCCL's communicator of a GPU. cudarc's own type panics when dropped after its GPU has failed.
struct Communicator(ncclComm_t);

// SAFETY: NCCL lets any thread use a communicator, one at a time; a lock guards it.
#[allow(unsafe_code)]
unsafe impl Send for Communicator {}

impl Communicator {
    /// A communicator for each of these GPUs, all connected.
    fn connect(numbers: &[usize]) -> std::result::Result<Vec<Self>, NcclError> {
        let ordinals: Vec<i32> = numbers.iter().map(|&number| number as i32).collect();
        let mut all = vec![null_mut(); ordinals.len()];
        // SAFETY: both arrays have the given length; NCCL fills the first if it succeeds.
        #[allow(unsafe_code)]
        unsafe {
            comm_init_all(all.as_mut_ptr(), ordinals.len() as i32, ordinals.as_ptr())?;
        }
        Ok(all.into_iter().map(Self).collect())
    }

    /// Ends pending operations on this GPU, and the connection.
    fn abort(self) {
        // SAFETY: NCCL made it, and nothing else uses it any more.
        #[allow(unsafe_code)]
        // Ignored, because NCCL's error only follows from that of the GPU.
        let _ = unsafe { comm_abort(self.0) };
    }
}

/// See [`Replicas::on_gpus`].
pub fn replicas(numbers: &[usize]) -> anyhow::Result<Replicas> {
    let devices = numbers.iter().map(|&number| device::open_cuda(number)).collect::<anyhow::Result<Vec<_>>>()?;
    let streams =
        devices.iter().map(|device| Ok(device.as_cuda_device()?.cuda_stream())).collect::<Result<Vec<_>>>()?;
    let connect = || Communicator::connect(numbers).map_err(|error| format!("NCCL answers {:?}", error.0));
    let communicators = match device::caught(connect) {
        Ok(communicators) => communicators,
        Err(reason) => {
            anyhow::bail!("--devices: the GPUs cannot be connected: {reason}, or use one with --device cuda")
        }
    };
    let (meeting, connections) = Connection::of(communicators, Communicator::abort);
    let gpus = connections.into_iter().zip(streams).map(|(connection, stream)| Gpu { connection, stream });
    let places = devices.into_iter().zip(gpus.map(|gpu| Box::new(gpu) as Team)).collect();
    Ok(Replicas { meeting, places })
}

/// An NCCL operation: from one address on the GPU to another, with a communicator, in a queue.
type Operation<'a> =
    &'a dyn Fn(*const c_void, *mut c_void, &Communicator, &CudaStream) -> std::result::Result<NcclStatus, NcclError>;

impl Gpu {
    /// Queues an operation from `values` to a new tensor of `count` values.
    fn together(&self, values: &Tensor, count: usize, operation: Operation<'_>) -> Result<Tensor> {
        let device = values.device().as_cuda_device()?;
        let values = values.detach().contiguous()?;
        let (storage, layout) = values.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("NCCL needs tensors on its GPU") };
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("NCCL needs contiguous tensors") };
        let from = storage.as_cuda_slice::<f32>()?.slice(start..end);
        let mut to = device.alloc_zeros::<f32>(count)?;
        self.connection.together(|communicator| {
            let (from, _read) = from.device_ptr(&self.stream);
            let (to, _written) = to.device_ptr_mut(&self.stream);
            let answer = operation(from as *const c_void, to as *mut c_void, communicator, &self.stream).err()?;
            Some(format!("NCCL answers {:?}: set NCCL_DEBUG=INFO for its reasons", answer.0))
        })?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(to, device.clone()));
        Ok(Tensor::from_storage(storage, count, BackpropOp::none(), false))
    }
}

impl Collective for Gpu {
    fn rank(&self) -> usize {
        self.connection.member().rank()
    }

    fn replicas(&self) -> usize {
        self.connection.member().replicas()
    }

    fn sum(&self, values: &Tensor) -> Result<Tensor> {
        let count = values.elem_count();
        // SAFETY: `together` allocates room for all values, which stay until the queue is done with them.
        #[allow(unsafe_code)]
        let sum = |from, to, Communicator(all): &Communicator, stream: &CudaStream| unsafe {
            let (kind, operation) = (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclSum);
            all_reduce(from, to, count, kind, operation, *all, stream.cu_stream().cast())
        };
        self.together(values, count, &sum)?.reshape(values.dims())
    }

    fn gather(&self, values: &Tensor) -> Result<Tensor> {
        let count = values.elem_count();
        // SAFETY: as in `sum`, with room for the values of all replicas.
        #[allow(unsafe_code)]
        let gather = |from, to, Communicator(all): &Communicator, stream: &CudaStream| unsafe {
            all_gather(from, to, count, ncclDataType_t::ncclFloat32, *all, stream.cu_stream().cast())
        };
        self.together(values, count * self.replicas(), &gather)
    }

    fn any(&self, asked: bool) -> Result<bool> {
        Ok(self.connection.member().meet(asked)?.contains(&true))
    }

    fn close(&self) -> Result<()> {
        // Pending operations end first, because closing would break them off.
        self.stream.synchronize().w()?;
        self.connection.close();
        Ok(())
    }
}
