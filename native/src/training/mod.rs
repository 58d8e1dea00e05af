//! Cached features → a trained head.

pub mod checkpoint;
pub mod devices;
pub mod head;
pub mod loss;
pub mod mining;
pub mod noise;
pub mod optimizer;
mod pipeline;
mod plan;
pub mod preset;
pub mod recipe;
pub mod replicas;
pub mod run;
pub mod schedule;
pub mod tensorboard;
pub mod train;
pub mod variant;
pub mod work_folder;

pub(crate) use pipeline::Encoder;
pub use pipeline::{Trained, train};
pub use plan::TrainingPlan;
