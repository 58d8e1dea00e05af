//! The model: configuration, forward pass over [`crate::ops`], weights.

pub mod config;
pub(crate) mod descriptor;
pub mod dinomaly;
pub mod encoder;
pub mod memory;
pub mod network;
pub mod positions;
pub mod vit;
pub mod weights;
