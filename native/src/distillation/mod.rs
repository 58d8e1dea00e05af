//! A large encoder → a small one that imitates it.

pub mod data_parallel;
pub mod distill;
pub mod muon;
mod run;
pub mod subspace;
mod teacher;

pub use run::{DistillationPlan, distill};
