//! A photo's file → the patches that a model sees.

pub mod decode;
pub mod preprocess;
pub mod resize;
