//! Detectors without training: a handful of good photos → a memory of their patches.
//!
//! [`FeatureEncoder`] gives the [`Features`] of photos on any executor, and [`make`] turns them into the parts of a published model
//! after a [`Recipe`]: a [`Memory`](crate::model::memory::Memory) by [`bank`], [`places`] or [`subspace`], and [`thresholds`] from the scores that
//! [`leave_one_out`] gives each photo with a memory of all others.

pub mod bank;
pub mod descriptors;
mod encoder;
mod features;
pub mod leave_one_out;
mod made;
mod measured;
pub mod places;
mod recipe;
mod student;
pub mod subspace;
pub mod thresholds;

pub use encoder::FeatureEncoder;
pub use features::{Features, PreparedPhoto};
pub use made::{GoodPhotos, Made, make};
pub use measured::Measured;
pub use recipe::{MemoryChoice, Recipe};

#[cfg(test)]
mod tests;
