//! What the other rooms need of the machine: whole files, devices, progress, signals, standard output.

// First: its macros are for all that follow.
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
