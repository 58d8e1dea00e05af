//! Cached features → a trained head.

pub mod checkpoint;
pub mod head;
pub mod loss;
pub mod mining;
pub mod noise;
pub mod optimizer;
pub mod recipe;
pub mod replicas;
pub mod run;
pub mod schedule;
pub mod tensorboard;
pub mod train;
pub mod work_folder;
