//! Errors of this crate: one sentence each, which names the item, what was expected and what was found.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Reason why an input was refused. `Display` is one sentence, ready to be shown to a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Picture that cannot be read or used.
    #[error("photo {name}: {reason}")]
    Photo {
        /// File name known to the user.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Mask or polygon of a camera's photos that cannot be used.
    #[error("{name} {reason}")]
    Area {
        /// File name known to the user.
        name: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Tensor of the model that the file does not hold.
    #[error("tensor {name} is missing: the file holds {found} tensors, none of this name")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
        /// Number of tensors in the file.
        found: usize,
    },
    /// Tensor or operand of another shape than expected.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Name of the tensor or of the operand.
        name: String,
        /// Expected shape.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// Tensor of an unknown type, or with values that are not finite.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Model description that is contradictory or asks for something that does not exist.
    #[error("config: {0}")]
    Config(String),
    /// File of a published model that cannot be used.
    #[error("model file {file}: {reason}")]
    Model {
        /// Name inside the model folder.
        file: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Metric that is not defined for its input.
    #[error("{metric} is undefined: {reason}")]
    Metric {
        /// Name of the metric.
        metric: &'static str,
        /// Why it is not defined.
        reason: String,
    },
    /// Device that is absent, was lost, or failed.
    #[error("{executor}: {reason}")]
    Device {
        /// Name of the executor.
        executor: &'static str,
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// Makes an [`Error::Config`].
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Config(reason.into())
    }

    /// The same error, attributed to a model file.
    pub fn in_file(self, file: &str) -> Self {
        match self {
            Self::Model { .. } => self,
            other => Self::Model { file: file.into(), reason: other.to_string() },
        }
    }
}
