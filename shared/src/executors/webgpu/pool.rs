//! Pool of buffers, reused as soon as their tensor is dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::gpu::{Gpu, fault};
use crate::Result;

/// Number of submissions after which an idle buffer is freed: enough for reuse by the next photo, while buffers of an earlier
/// batch size go.
const IDLE_SUBMISSIONS: u64 = 2;

/// Idle buffers by size. A net has few sizes, each used in every block.
///
/// A result may reuse a buffer that earlier recorded commands still read, because a queue keeps their order. An upload may not,
/// because it happens before all commands of the next submission.
pub(super) struct Pool {
    gpu: Rc<Gpu>,
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
    submissions: Cell<u64>,
    buffers: Cell<u64>,
    bytes: Cell<u64>,
}

struct Idle {
    buffer: wgpu::Buffer,
    /// Number of submissions at the time of its return.
    since: u64,
}

/// Buffer in use; returns to its pool on drop.
pub(super) struct Lease {
    pub buffer: wgpu::Buffer,
    pool: Rc<Pool>,
}

impl Pool {
    pub fn new(gpu: Rc<Gpu>) -> Rc<Self> {
        let (idle, zero) = (RefCell::default(), Cell::default);
        Rc::new(Self { gpu, idle, submissions: zero(), buffers: zero(), bytes: zero() })
    }

    /// Buffer of `bytes` for a kernel's result.
    pub fn result(self: &Rc<Self>, bytes: u64) -> Result<Lease> {
        self.take(bytes, |_| true)
    }

    /// Buffer with the given contents, a whole number of words.
    pub fn upload(self: &Rc<Self>, contents: &[u8]) -> Result<Lease> {
        let submissions = self.submissions.get();
        let lease = self.take(contents.len() as u64, |idle| idle.since < submissions)?;
        self.gpu.queue.write_buffer(&lease.buffer, 0, contents);
        Ok(lease)
    }

    /// Counts a submission, and frees buffers that have been idle for long.
    pub fn submitted(&self) {
        let submissions = self.submissions.get() + 1;
        self.submissions.set(submissions);
        self.idle.borrow_mut().retain(|size, buffers| {
            buffers.retain(|idle| {
                let keep = idle.since + IDLE_SUBMISSIONS >= submissions;
                if !keep {
                    // No recorded command uses it any more. A browser would free it only when it collects garbage.
                    idle.buffer.destroy();
                    self.buffers.set(self.buffers.get() - 1);
                    self.bytes.set(self.bytes.get() - size);
                }
                keep
            });
            !buffers.is_empty()
        });
    }

    /// Frees all idle buffers. No recorded command may use them.
    pub fn clear(&self) {
        for (size, buffers) in self.idle.take() {
            for idle in buffers {
                idle.buffer.destroy();
                self.buffers.set(self.buffers.get() - 1);
                self.bytes.set(self.bytes.get() - size);
            }
        }
    }

    /// Number of submissions.
    pub fn submissions(&self) -> u64 {
        self.submissions.get()
    }

    /// Number and total size of all buffers, in use and idle.
    pub fn size(&self) -> (u64, u64) {
        (self.buffers.get(), self.bytes.get())
    }

    fn take(self: &Rc<Self>, bytes: u64, usable: impl Fn(&Idle) -> bool) -> Result<Lease> {
        // Buffers and bindings must not be empty.
        let bytes = bytes.max(16);
        let limit = self.gpu.device.limits().max_storage_buffer_binding_size;
        if bytes > limit {
            return Err(fault(format!(
                "a tensor of {bytes} bytes is larger than the {limit} that every GPU allows: use fewer photos at a time"
            )));
        }
        if let Some(buffers) = self.idle.borrow_mut().get_mut(&bytes)
            && let Some(at) = buffers.iter().rposition(usable)
        {
            return Ok(Lease { buffer: buffers.swap_remove(at).buffer, pool: self.clone() });
        }
        use wgpu::BufferUsages as Usage;
        let buffer = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        self.gpu.check()?;
        self.buffers.set(self.buffers.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        Ok(Lease { buffer, pool: self.clone() })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let idle = Idle { buffer: self.buffer.clone(), since: self.pool.submissions.get() };
        self.pool.idle.borrow_mut().entry(self.buffer.size()).or_default().push(idle);
    }
}
