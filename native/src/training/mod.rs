//! Photos and an encoder → a trained head: [`train()`] does what a [`TrainingPlan`] says.

pub(crate) mod checkpoint;
pub(crate) mod devices;
#[doc(hidden)]
pub mod head;
#[doc(hidden)]
pub mod loss;
#[doc(hidden)]
pub mod mining;
#[doc(hidden)]
pub mod noise;
#[doc(hidden)]
pub mod optimizer;
mod pipeline;
mod plan;
mod preset;
pub(crate) mod recipe;
pub(crate) mod replicas;
pub(crate) mod run;
#[doc(hidden)]
pub mod schedule;
#[doc(hidden)]
pub mod tensorboard;
#[doc(hidden)]
pub mod train;
mod variant;
pub(crate) mod work_folder;

pub use checkpoint::Interval;
pub(crate) use pipeline::Encoder;
pub use pipeline::{Trained, train};
pub use plan::TrainingPlan;
pub use preset::{Preset, PresetChoice};
pub use variant::{Decoder, Groups, Variant};
