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
mod plan;
mod preset;
mod recent_losses;
pub(crate) mod recipe;
pub(crate) mod replicas;
pub(crate) mod run;
#[doc(hidden)]
pub mod schedule;
#[doc(hidden)]
pub mod tensorboard;
mod train;
#[doc(hidden)]
pub mod trainer;
mod variant;
pub(crate) mod work_folder;

pub use checkpoint::Interval;
pub use plan::TrainingPlan;
pub use preset::{Preset, PresetChoice};
pub use recent_losses::RecentLosses;
pub use train::{Trained, train};
pub use variant::{Decoder, Groups, MASKED_SHARES, RECENTRINGS, Variant, masked_share_name, recentring_name};
