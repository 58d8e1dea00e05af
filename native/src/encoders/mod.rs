//! Pretrained encoders: checkpoints of other projects → the project's own tensors.

pub mod backbone;
pub mod catalogue;
pub mod embedded;
pub mod import;
