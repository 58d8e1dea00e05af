//! Position encodings of an encoder for the grid of a photo: a [`table`], [`rotary`] positions or a [`relative`] bias.

pub mod relative;
pub mod rotary;
pub mod table;

pub use table::interpolate;
