//! Replicas on NVIDIA GPUs, which NCCL connects.
//!
//! An operation of NCCL ends on no GPU before it has begun on all. So that no GPU waits in vain, replicas meet before they put one
//! into their queues, and after it: either all have it there, or all end. Their threads wait for each other, not for their GPUs.

use std::cell::Cell;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::cuda_backend::cudarc::nccl::{Comm, ReduceOp, result::NcclError};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Result, Storage, Tensor, bail};

use super::meeting::{Meeting, Member};
use super::{Collective, Replicas, Team};
use crate::device;

/// A replica's connection to the others.
struct Gpu {
    connection: Connection,
    member: Member,
    /// Whether operations were queued, all of them on all GPUs: then they end by themselves.
    under_way: Cell<bool>,
}

impl Drop for Gpu {
    /// Closing a connection breaks off what is under way: it waits until that has ended on all GPUs.
    fn drop(&mut self) {
        // Replicas that never began are dropped by one thread, one after the other: none of them may wait.
        if self.under_way.get() {
            // A GPU that failed has nothing under way.
            let _ = self.connection.0.stream().synchronize();
            self.member.close();
        }
    }
}

struct Connection(Comm);

// SAFETY: a communicator is a pointer to what NCCL lets any thread use, one at a time: it is moved to its replica's thread once.
#[allow(unsafe_code)]
unsafe impl Send for Connection {}

/// See [`Replicas::on_gpus`].
pub fn replicas(numbers: &[usize]) -> anyhow::Result<Replicas> {
    let devices = numbers.iter().map(|&number| device::open_cuda(number)).collect::<anyhow::Result<Vec<_>>>()?;
    let streams =
        devices.iter().map(|device| Ok(device.as_cuda_device()?.cuda_stream())).collect::<Result<Vec<_>>>()?;
    let connect = || Comm::from_devices(streams).map_err(|error| format!("NCCL answers {:?}", error.0));
    let connections = match device::caught(connect) {
        Ok(connections) => connections,
        Err(reason) => {
            anyhow::bail!("--devices: the GPUs cannot be connected: {reason}, or use one with --device cuda")
        }
    };
    let (meeting, members) = Meeting::of(numbers.len());
    let teams = connections.into_iter().zip(members);
    let teams = teams.map(|(comm, member)| {
        Box::new(Gpu { connection: Connection(comm), member, under_way: Cell::new(false) }) as Team
    });
    Ok(Replicas { meeting, places: devices.into_iter().zip(teams).collect() })
}

impl Gpu {
    /// Queues an operation from `values` to a new tensor of `count` of them.
    fn together(
        &self,
        values: &Tensor,
        count: usize,
        queue: impl FnOnce(&Comm, &CudaView<'_, f32>, &mut CudaSlice<f32>) -> std::result::Result<(), NcclError>,
    ) -> Result<Tensor> {
        let device = values.device().as_cuda_device()?;
        let values = values.detach().contiguous()?;
        let (storage, layout) = values.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("NCCL takes tensors on its GPU") };
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("NCCL takes contiguous tensors") };
        let from = storage.as_cuda_slice::<f32>()?.slice(start..end);
        let mut to = device.alloc_zeros::<f32>(count)?;
        self.member.meet(())?;
        self.under_way.set(true);
        let failed = queue(&self.connection.0, &from, &mut to).err().map(|error| format!("{:?}", error.0));
        if let Some(answer) = self.member.meet(failed)?.into_iter().flatten().next() {
            // One GPU lacks it, for which the others would wait.
            self.under_way.set(false);
            bail!("NCCL answers {answer}: set NCCL_DEBUG=INFO for its reasons");
        }
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(to, device.clone()));
        Ok(Tensor::from_storage(storage, count, BackpropOp::none(), false))
    }
}

impl Collective for Gpu {
    fn rank(&self) -> usize {
        self.member.rank()
    }

    fn replicas(&self) -> usize {
        self.member.replicas()
    }

    fn sum(&self, values: &Tensor) -> Result<Tensor> {
        let sum = |comm: &Comm, from: &CudaView<'_, f32>, to: &mut CudaSlice<f32>| {
            comm.all_reduce(from, to, &ReduceOp::Sum).map(drop)
        };
        self.together(values, values.elem_count(), sum)?.reshape(values.dims())
    }

    fn gather(&self, values: &Tensor) -> Result<Tensor> {
        self.together(values, values.elem_count() * self.replicas(), |comm, from, to| {
            comm.all_gather(from, to).map(drop)
        })
    }

    fn any(&self, asked: bool) -> Result<bool> {
        Ok(self.member.meet(asked)?.contains(&true))
    }
}
