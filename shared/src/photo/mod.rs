//! Photo file → patches, the model's input.

pub mod decode;
pub mod preprocess;
pub mod resize;
