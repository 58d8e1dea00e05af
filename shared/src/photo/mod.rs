//! A photo's file → the patches that a model sees.

pub mod decode;
mod encode;
pub mod preprocess;
pub mod resize;
