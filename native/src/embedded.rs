//! The encoder that the program carries. How it was made: `assets/README.md`.

/// The encoder's file: int8, 12 blocks.
pub const ENCODER: &[u8] = include_bytes!("../assets/small-encoder.safetensors");
