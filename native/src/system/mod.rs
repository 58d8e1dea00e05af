//! Services of the machine: atomic files, devices, progress, signals, standard output.

// First, because all others use its macros.
#[macro_use]
pub mod output;

pub mod allocator;
pub mod atomic;
pub mod background_job;
pub mod batch_size;
pub mod device;
pub mod environment;
pub mod interrupt;
pub mod ownership;
pub mod precision;
pub mod prefetch;
pub mod progress;
