//! A large encoder → a small one that imitates it.

pub(crate) mod data_parallel;
pub(crate) mod distill;
pub(crate) mod muon;
mod run;
pub(crate) mod subspace;
mod teacher;

pub use run::{DistillationPlan, distill};
