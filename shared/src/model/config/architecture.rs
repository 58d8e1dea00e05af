//! Content of `config.json`: the configuration of any kind of detector.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{EncoderConfig, MemoryConfig, ModelConfig, Taps};
use crate::maps::score::{MapBorder, TOP_SHARE};
use crate::photo::preprocess::Preprocessor;
use crate::{Error, Result};

/// Configuration of a detector, by the kind of its head.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Architecture {
    /// Trained bottleneck and decoder.
    Dinomaly(ModelConfig),
    /// Features of good photos.
    Memory(MemoryConfig),
}

impl From<ModelConfig> for Architecture {
    fn from(config: ModelConfig) -> Self {
        Self::Dinomaly(config)
    }
}

impl From<MemoryConfig> for Architecture {
    fn from(config: MemoryConfig) -> Self {
        Self::Memory(config)
    }
}

impl Architecture {
    /// Parses `config.json`. A memory has a field `memory`; Dinomaly, the first kind, has no field that names it.
    ///
    /// # Errors
    /// If the JSON is not valid, or a field is missing or unknown.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Kind {
            memory: Option<IgnoredAny>,
        }
        match serde_json::from_slice::<Kind>(json)?.memory {
            None => serde_json::from_slice(json).map(Self::Dinomaly),
            Some(_) => serde_json::from_slice(json).map(Self::Memory),
        }
    }

    /// The encoder.
    pub fn encoder(&self) -> &EncoderConfig {
        self.taps().encoder
    }

    /// What the head takes from the encoder.
    pub fn taps(&self) -> Taps<'_> {
        match self {
            Self::Dinomaly(config) => config.taps(),
            Self::Memory(config) => config.taps(),
        }
    }

    /// Groups of target layers, as indices into [`Taps::layers`].
    pub fn groups(&self) -> &[Vec<usize>] {
        match self {
            Self::Dinomaly(config) => &config.groups,
            Self::Memory(config) => &config.groups,
        }
    }

    /// Number of distances of a photo before that of the first patch: of class and register tokens.
    pub fn kept_prefix_tokens(&self) -> usize {
        match self {
            Self::Dinomaly(config) => config.kept_prefix_tokens(),
            Self::Memory(config) => config.encoder.prefix_tokens(),
        }
    }

    /// Padding of the anomaly map for its blur.
    pub fn map_border(&self) -> MapBorder {
        match self {
            Self::Dinomaly(config) => config.map_border,
            Self::Memory(config) => config.map_border,
        }
    }

    /// Share of the anomaly map's values, the highest ones, that a photo's score averages.
    pub fn score_share(&self) -> f64 {
        match self {
            Self::Dinomaly(_) => TOP_SHARE,
            Self::Memory(config) => config.score_share,
        }
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field that does not.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Dinomaly(config) => config.validate(),
            Self::Memory(config) => config.validate(),
        }
    }

    /// Checks that the head fits an input of `grid × grid` patches. Dinomaly's fits every one.
    ///
    /// # Errors
    /// As [`MemoryConfig::check_grid`].
    pub fn check_grid(&self, grid: usize) -> Result<()> {
        match self {
            Self::Dinomaly(_) => Ok(()),
            Self::Memory(config) => config.check_grid(grid),
        }
    }

    /// Checks that the head fits what is seen of photos.
    ///
    /// # Errors
    /// As [`MemoryConfig::check_tiles`] and [`MemoryConfig::check_grid`].
    pub fn check_view(&self, preprocessor: &Preprocessor) -> Result<()> {
        if let Self::Memory(config) = self {
            config.check_tiles(preprocessor)?;
        }
        self.check_grid(preprocessor.geometry.grid(self.encoder().patch_size))
    }

    /// The configuration of bottleneck and decoder, for `what` needs them.
    ///
    /// # Errors
    /// [`Error::Config`] for a detector without training.
    pub fn dinomaly(&self, what: &str) -> Result<&ModelConfig> {
        match self {
            Self::Dinomaly(config) => Ok(config),
            Self::Memory(_) => {
                Err(Error::config(format!("{what} needs a trained decoder, and this model was made without training")))
            }
        }
    }
}
