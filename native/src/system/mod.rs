//! Services of the machine: atomic files, devices, progress and who listens to it, signals, standard output.

// First, because all others use its macros.
#[macro_use]
#[doc(hidden)]
pub mod output;

#[doc(hidden)]
pub mod allocator;
pub(crate) mod atomic;
#[cfg(feature = "trainer")]
pub(crate) mod background_job;
#[cfg(feature = "trainer")]
pub(crate) mod batch_size;
#[cfg(feature = "trainer")]
pub mod device;
#[doc(hidden)]
pub mod environment;
pub mod interrupt;
pub mod listener;
#[cfg(feature = "trainer")]
pub(crate) mod lock;
pub(crate) mod ownership;
#[cfg(feature = "trainer")]
pub mod precision;
#[cfg(feature = "trainer")]
pub(crate) mod prefetch;
#[cfg(feature = "trainer")]
pub(crate) mod progress;
pub(crate) mod shown;
#[cfg(feature = "trainer")]
pub(crate) mod table;
pub(crate) mod words;
