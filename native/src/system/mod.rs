//! What the other rooms need of the machine: whole files, devices, progress, signals, standard output.

// First: its macros are for all that follow.
#[macro_use]
#[doc(hidden)]
pub mod output;

#[doc(hidden)]
pub mod allocator;
pub(crate) mod atomic;
pub(crate) mod background_job;
pub(crate) mod batch_size;
pub mod device;
#[doc(hidden)]
pub mod environment;
pub mod interrupt;
pub(crate) mod ownership;
pub mod precision;
pub(crate) mod prefetch;
pub(crate) mod progress;
