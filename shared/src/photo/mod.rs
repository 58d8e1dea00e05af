//! Photo file → patches, the model's input.

pub mod decode;
mod encode;
pub mod preprocess;
mod preprocessor_config;
pub mod resize;
pub mod tiles;
pub mod window;
