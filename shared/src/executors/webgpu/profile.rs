//! Run time of each kernel by the GPU's clock.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::WebGpu;
use super::gpu::{Gpu, fault};
use crate::Result;

/// Largest number of dispatches timed between two readbacks: half of what a query set holds, because each has begin and end.
const DISPATCHES: u32 = 2048;

/// Total run time of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTime {
    /// Name of the kernel, one of [`super::kernel_sources`].
    pub kernel: String,
    /// Number of dispatches.
    pub count: u64,
    /// Nanoseconds on the GPU.
    pub nanoseconds: u64,
}

impl WebGpu {
    /// Times every kernel from now on. Each then runs in a pass of its own, which takes a little longer.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the adapter does not support timestamps.
    pub fn start_profile(&self) -> Result<()> {
        if !self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(fault("this GPU, or its driver, offers no timestamps: kernels cannot be timed one by one"));
        }
        self.kernels.time(Clock::new(&self.gpu));
        Ok(())
    }

    /// Run times since the start of the profile or the last call, the longest first. Counts at most 2048 dispatches per readback, none
    /// before [`WebGpu::start_profile`].
    pub fn profile(&self) -> Vec<KernelTime> {
        self.kernels.clock().map_or_else(Vec::new, Clock::take)
    }
}

/// Timestamps of dispatches since the last submission, and sums of earlier ones.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Nanoseconds per tick.
    period: f32,
    /// Kernel of each dispatch.
    recorded: RefCell<Vec<String>>,
    totals: RefCell<BTreeMap<String, (u64, u64)>>,
}

impl Clock {
    fn new(gpu: &Gpu) -> Self {
        let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2 * DISPATCHES,
        });
        let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 16 * u64::from(DISPATCHES),
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let period = gpu.queue.get_timestamp_period();
        Self { queries, resolved, period, recorded: RefCell::default(), totals: RefCell::default() }
    }

    /// Pass for one dispatch of `kernel`.
    pub fn pass(&self, encoder: &mut wgpu::CommandEncoder, kernel: String) -> wgpu::ComputePass<'static> {
        let mut recorded = self.recorded.borrow_mut();
        let first = 2 * recorded.len() as u32;
        let writes = (first < 2 * DISPATCHES).then(|| {
            recorded.push(kernel);
            wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(first),
                end_of_pass_write_index: Some(first + 1),
            }
        });
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: writes };
        encoder.begin_compute_pass(&descriptor).forget_lifetime()
    }

    /// Size in bytes of the timestamps to read back.
    pub fn bytes(&self) -> u64 {
        16 * self.recorded.borrow().len() as u64
    }

    /// Records a copy of the timestamps to `staging`, and returns their kernels, because the next photo may be recorded before they
    /// are read back.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer, at: u64) -> Vec<String> {
        let bytes = self.bytes();
        let kernels = self.recorded.take();
        if bytes > 0 {
            encoder.resolve_query_set(&self.queries, 0..2 * kernels.len() as u32, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, staging, at, Some(bytes));
        }
        kernels
    }

    /// Adds timestamps that were read back, two per dispatch, to the sums of their kernels.
    pub fn note(&self, kernels: Vec<String>, ticks: &[u64]) {
        let mut totals = self.totals.borrow_mut();
        for (kernel, ticks) in kernels.into_iter().zip(ticks.chunks_exact(2)) {
            let (count, nanoseconds) = totals.entry(kernel).or_default();
            *count += 1;
            *nanoseconds += (ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.period)) as u64;
        }
    }

    fn take(&self) -> Vec<KernelTime> {
        let totals = self.totals.take().into_iter();
        let mut all: Vec<_> =
            totals.map(|(kernel, (count, nanoseconds))| KernelTime { kernel, count, nanoseconds }).collect();
        all.sort_by_key(|time| std::cmp::Reverse(time.nanoseconds));
        all
    }
}
