//! What the other rooms need of the machine: whole files, devices, progress, signals, standard output.

// First: its macros are for all that follow.
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
