//! Every way in which this crate refuses its input: one sentence that names the thing, what was expected and what was found.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an input was refused. `Display` is one clear sentence, fit to be shown to a user as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A picture that cannot be read or used.
    #[error("photo {name}: {reason}")]
    Photo {
        /// File name as the user knows it.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A tensor that a model needs and a file does not hold.
    #[error("tensor {name} is missing: the file holds {found} tensors, none of this name")]
    MissingTensor {
        /// The name looked for.
        name: String,
        /// How many tensors the file holds.
        found: usize,
    },
    /// A tensor of another shape than the model's.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Name of the tensor or of the operand.
        name: String,
        /// Shape that the model asks for.
        expected: Vec<usize>,
        /// Shape that was given.
        found: Vec<usize>,
    },
    /// A tensor of a type that is not understood, or with values that are not numbers.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model description that contradicts itself or asks for something that does not exist.
    #[error("config: {0}")]
    Config(String),
    /// A file of a published model that cannot be used.
    #[error("model file {file}: {reason}")]
    Model {
        /// Name inside the model folder.
        file: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A metric that is not defined for its input.
    #[error("{metric} is undefined: {reason}")]
    Metric {
        /// Name of the metric.
        metric: &'static str,
        /// Why it has no value.
        reason: String,
    },
    /// A device that is absent, was lost, or failed.
    #[error("{executor}: {reason}")]
    Device {
        /// Which executor.
        executor: &'static str,
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// An [`Error::Config`] from anything that can be shown.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Config(reason.into())
    }

    /// The same refusal, naming the model file that it was found in.
    pub fn in_file(self, file: &str) -> Self {
        match self {
            Self::Model { .. } => self,
            other => Self::Model { file: file.into(), reason: other.to_string() },
        }
    }
}
