//! Dinomaly's model, numerics and published-model format.
//!
//! Photo → heatmap, in the order of the files: [`photo::decode`] decodes, [`photo::preprocess`] makes patches, [`model::vit`] and
//! [`model::dinomaly`] turn them into distance maps through an executor of [`ops`], [`maps::score`] makes the anomaly map
//! and the score, [`maps::heatmap`] draws it on the photo. Nothing here touches files or the network.

pub mod bundle;
pub mod detector;
pub mod error;
pub mod executors;
pub mod maps;
pub mod model;
pub mod ops;
pub mod photo;
pub mod quant;
pub mod tensor;

pub use error::{Error, Result};
