//! How long each kernel runs, by the GPU's own clock.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::WebGpu;
use super::gpu::{Gpu, fault};
use crate::Result;

/// Dispatches that are timed between two readbacks; what a query set holds at most, halved for begin and end.
const DISPATCHES: u32 = 2048;

/// What the dispatches of a kernel took together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTime {
    /// Name of the kernel, one of [`super::kernel_sources`].
    pub kernel: String,
    /// Its dispatches.
    pub count: u64,
    /// Nanoseconds on the GPU.
    pub nanoseconds: u64,
}

impl WebGpu {
    /// Times every kernel from now on. Each then runs in a pass of its own, which takes somewhat longer altogether.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the adapter has no clock that programs may read.
    pub fn start_profile(&self) -> Result<()> {
        if !self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(fault("this GPU, or its driver, offers no timestamps: kernels cannot be timed one by one"));
        }
        self.kernels.time(Clock::new(&self.gpu));
        Ok(())
    }

    /// What kernels took since the profile was started or last asked for, the longest first. Counts what was read back, and
    /// no more than 2048 dispatches of each readback; nothing before [`WebGpu::start_profile`].
    pub fn profile(&self) -> Vec<KernelTime> {
        self.kernels.clock().map_or_else(Vec::new, Clock::take)
    }
}

/// Timestamps of the dispatches recorded since the last submission, and the sums of those before.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Nanoseconds of a tick.
    period: f32,
    /// The kernels of the dispatches.
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

    /// A pass for one dispatch of `kernel`.
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

    /// Bytes of timestamps to read back.
    pub fn bytes(&self) -> u64 {
        16 * self.recorded.borrow().len() as u64
    }

    /// Records copying the timestamps to a place in `staging`, and gives the kernels that they are of: the next photo may be
    /// recorded before they are read back.
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer, at: u64) -> Vec<String> {
        let bytes = self.bytes();
        let kernels = self.recorded.take();
        if bytes > 0 {
            encoder.resolve_query_set(&self.queries, 0..2 * kernels.len() as u32, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, staging, at, Some(bytes));
        }
        kernels
    }

    /// Adds up the timestamps of these kernels, as they were read back; two for each dispatch.
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
