//! WGSL kernels on wgpu: the browser's GPU, or any GPU natively.
//!
//! Operations are recorded into one command encoder. [`WebGpu::read`] submits it and copies the result to the host: one submission
//! and one readback per photo. A read blocks natively, and awaits the event loop in a browser.

mod gpu;
mod kernel;
mod linear;
mod maps;
mod ops;
mod pool;
mod precision;
mod profile;
mod tensor;
mod tuning;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use futures_channel::oneshot;

pub use gpu::Adapter;
pub use kernel::kernel_sources;
pub use linear::Tile;
pub use precision::GpuPrecision;
pub use profile::KernelTime;
pub use tensor::GpuTensor;

use crate::Result;
use crate::maps::score::MapLayout;
use gpu::{Gpu, fault};
use kernel::Kernels;
use pool::Pool;
use profile::Clock;

/// Executor on a GPU.
///
/// After the device was lost, ran out of memory or refused a command, every call returns that error: create a new executor and
/// upload the model again.
pub struct WebGpu {
    gpu: Rc<Gpu>,
    pool: Rc<Pool>,
    kernels: Kernels,
    precision: GpuPrecision,
    tile: Tile,
    /// Matrices of [`MapLayout::axis`] by layout. A model has one.
    axes: RefCell<HashMap<MapLayout, GpuTensor>>,
}

/// Resources of an executor, for tests and diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Number of command submissions.
    pub submissions: u64,
    /// Number of buffers in GPU memory, those of weights and idle ones included.
    pub buffers: u64,
    /// Total size of the buffers.
    pub bytes: u64,
}

impl WebGpu {
    /// Opens the fastest GPU. On first use, unless its tuning was [restored](Self::restore), it is measured, which takes at most a
    /// few hundred milliseconds.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no GPU with WebGPU's default limits.
    pub async fn new() -> Result<Self> {
        let gpu = Rc::new(Gpu::open().await?);
        // The measuring executor is dropped, and its buffers and pipelines with it.
        let tile = Self::on(gpu.clone(), Tile::Registers).fastest_tile().await?;
        Ok(Self::on(gpu, tile))
    }

    fn on(gpu: Rc<Gpu>, tile: Tile) -> Self {
        let (pool, kernels) = (Pool::new(gpu.clone()), Kernels::new(gpu.clone()));
        Self { gpu, pool, kernels, precision: GpuPrecision::default(), tile, axes: RefCell::default() }
    }

    /// The same GPU with another precision, for weights uploaded from now on. Idle memory of an earlier model is freed at once.
    #[must_use]
    pub fn with_precision(self, precision: GpuPrecision) -> Self {
        // Submits everything that was recorded.
        self.gpu.queue.submit([self.kernels.finish().finish()]);
        self.pool.clear();
        Self { precision, ..self }
    }

    /// The same GPU with the given tile for linear layers, instead of the fastest one.
    #[must_use]
    pub fn with_tile(self, tile: Tile) -> Self {
        Self { tile, ..self }
    }

    /// Precision of linear layers.
    pub fn precision(&self) -> GpuPrecision {
        self.precision
    }

    /// GPU that the kernels run on.
    pub fn adapter(&self) -> &Adapter {
        &self.gpu.adapter
    }

    /// Checks that the device still works.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if it failed.
    pub fn check(&self) -> Result<()> {
        self.gpu.check()
    }

    /// Resources of this executor.
    pub fn usage(&self) -> Usage {
        let (buffers, bytes) = self.pool.size();
        Usage { submissions: self.pool.submissions(), buffers, bytes }
    }

    /// Submits all recorded commands and copies a tensor to the host.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device fails, [`crate::Error::Tensor`] if the tensor is a weight that is not f32.
    pub async fn read(&self, tensor: &GpuTensor) -> Result<Vec<f32>> {
        Ok(self.read_all(&[tensor]).await?.remove(0))
    }

    /// Submits all recorded commands and copies several tensors to the host, in one submission and one readback.
    ///
    /// # Errors
    /// As [`WebGpu::read`].
    pub async fn read_all(&self, tensors: &[&GpuTensor]) -> Result<Vec<Vec<f32>>> {
        self.gpu.check()?;
        let buffers = tensors.iter().map(|tensor| tensor.buffer("result")).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.padded_len()).collect();
        let values = 4 * lengths.iter().sum::<usize>();
        let clock = self.kernels.clock();
        let bytes = values as u64 + clock.map_or(0, Clock::bytes);
        let limit = self.gpu.device.limits().max_buffer_size;
        if bytes > limit {
            return Err(fault(format!(
                "reading {bytes} bytes back, at most {limit} are allowed: read fewer tensors at a time"
            )));
        }
        let staging = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.max(4),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.kernels.finish();
        let mut at = 0;
        for (buffer, length) in buffers.into_iter().zip(&lengths) {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, Some(4 * *length as u64));
            at += 4 * *length as u64;
        }
        let timed = clock.map(|clock| (clock, clock.copy(&mut encoder, &staging, at)));
        self.gpu.queue.submit([encoder.finish()]);
        self.pool.submitted();

        let (mapped, ready) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |outcome| {
            // The receiver is gone if the read was cancelled.
            let _ = mapped.send(outcome);
        });
        #[cfg(not(target_arch = "wasm32"))]
        self.gpu.wait()?;
        let outcome = ready.await;
        self.gpu.check()?;
        if !matches!(outcome, Ok(Ok(()))) {
            return Err(fault("the result could not be read back"));
        }
        let view =
            staging.get_mapped_range(..).map_err(|cause| fault(format!("the result could not be read: {cause}")))?;
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(&view[..values]);
        if let Some((clock, kernels)) = timed {
            clock.note(kernels, &bytemuck::pod_collect_to_vec(&view[values..bytes as usize]));
        }
        drop(view);
        // Frees the memory at once, not when a browser collects garbage.
        staging.destroy();
        let mut rest = all.as_slice();
        let parts = tensors.iter().zip(lengths).map(|(tensor, length)| {
            let (part, after) = rest.split_at(length);
            rest = after;
            tensor.strip(part)
        });
        Ok(parts.collect())
    }

    /// Destroys the device, like a driver update or a crash: every later call returns an error. For tests.
    pub fn lose_device(&self) {
        self.gpu.device.destroy();
        // Natively the loss is reported by the next wait.
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.gpu.wait();
    }
}
