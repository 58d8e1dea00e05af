//! Services of the machine: atomic files, devices, progress, signals, standard output.

// First, because all others use its macros.
#[macro_use]
pub mod output;

pub mod allocator;
pub mod atomic;
#[cfg(feature = "trainer")]
pub mod background_job;
#[cfg(feature = "trainer")]
pub mod batch_size;
#[cfg(feature = "trainer")]
pub mod device;
pub mod environment;
pub mod interrupt;
pub mod ownership;
#[cfg(feature = "trainer")]
pub mod precision;
#[cfg(feature = "trainer")]
pub mod prefetch;
#[cfg(feature = "trainer")]
pub mod progress;
