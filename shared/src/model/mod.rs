//! The model: what it is made of, its forward pass over [`crate::ops`], its weights.

pub mod config;
pub mod dinomaly;
pub mod positions;
pub mod vit;
pub mod weights;
