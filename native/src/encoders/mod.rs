//! Pretrained encoders: checkpoints of other projects → this project's tensors.

pub mod anomalib;
pub mod backbone;
pub mod catalogue;
pub mod embedded;
pub mod import;
pub(crate) mod opened;
