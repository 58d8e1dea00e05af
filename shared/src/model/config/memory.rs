//! Configuration of a detector without training: features of good photos in a memory, and the distance to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::encoder::check_limits;
use super::{EncoderConfig, Taps, is_default};
use crate::maps::score::MapBorder;
use crate::photo::preprocess::Preprocessor;
use crate::{Error, Result};

/// Configuration of encoder, target layers and memory. Serialised as `config.json` of a published model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// The frozen vision transformer.
    pub encoder: EncoderConfig,
    /// Encoder blocks whose outputs are compared, 0-based, ascending. Later blocks are never run.
    pub target_layers: Vec<usize>,
    /// Whether each output passes the encoder's final norm.
    #[serde(default, skip_serializing_if = "is_default")]
    pub final_norm: bool,
    /// Groups of target layers, as indices into `target_layers`. A token's feature is the mean of its unit vectors in the group's
    /// layers. Each group has a memory of its own, and the anomaly map is the mean over groups.
    pub groups: Vec<Vec<usize>>,
    /// Kind and size of the memory.
    pub memory: MemoryKind,
    /// Share of the anomaly map's values, the highest ones, that a photo's score averages.
    pub score_share: f64,
    /// Padding of the anomaly map for its blur.
    #[serde(default, skip_serializing_if = "is_default")]
    pub map_border: MapBorder,
}

/// Kind and size of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MemoryKind {
    /// Unit vectors of good patches (AnomalyDINO, Damm et al. 2024): a patch's distance is 1 - its largest cosine with one of them.
    Bank {
        /// Number of vectors of each group.
        rows: usize,
    },
    /// Unit vectors of good patches at their places (RAD, arXiv 2601.22763): a patch's distance is 1 - its largest cosine with patches
    /// around its place of the photos whose class tokens are nearest to its own photo's.
    Places {
        /// Number of photos, or, where they were thinned, of patches of each place.
        photos: usize,
        /// Side of the grid in patches, that of the geometry.
        grid: usize,
        /// Number of nearest photos; all, if there are no more.
        nearest: usize,
        /// Half side in patches of the square window around a place.
        reach: usize,
    },
    /// Mean and principal directions of good patches (SubspaceAD): a patch's distance is the squared norm of what the directions
    /// leave of it.
    Subspace {
        /// Number of subspaces. Of several, each photo uses the one whose prototype is nearest to its class token.
        subspaces: usize,
    },
}

/// For people.
impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bank { rows } => write!(f, "bank of {rows} patches"),
            Self::Places { photos, grid, nearest, reach } => {
                write!(f, "{photos} patches at each of {grid} × {grid} places, {nearest} nearest photos, reach {reach}")
            }
            Self::Subspace { subspaces: 1 } => write!(f, "subspace"),
            Self::Subspace { subspaces } => write!(f, "{subspaces} subspaces"),
        }
    }
}

impl MemoryConfig {
    /// What is taken from the encoder.
    pub fn taps(&self) -> Taps<'_> {
        Taps { encoder: &self.encoder, layers: &self.target_layers, final_norm: self.final_norm }
    }

    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field that does not.
    pub fn validate(&self) -> Result<()> {
        self.encoder.validate()?;
        self.encoder.check_layers(&self.target_layers)?;
        let layers = self.target_layers.len();
        if self.groups.is_empty() || self.groups.iter().any(Vec::is_empty) {
            return Err(Error::config("groups must not be empty"));
        }
        if let Some(index) = self.groups.iter().flatten().find(|&&i| i >= layers) {
            return Err(Error::config(format!("group index {index} is beyond the {layers} target layers")));
        }
        if !(self.score_share > 0.0 && self.score_share <= 1.0) {
            return Err(Error::config(format!("score_share = {} is outside 0..1", self.score_share)));
        }
        match self.memory {
            MemoryKind::Bank { rows } => check_limits("memory.bank.rows", rows, 1, 1 << 24),
            MemoryKind::Subspace { subspaces } => check_limits("memory.subspace.subspaces", subspaces, 1, 1 << 12),
            MemoryKind::Places { photos, grid, nearest, reach } => {
                check_limits("memory.places.photos", photos, 1, 1 << 20)?;
                check_limits("memory.places.grid", grid, 1, 1 << 12)?;
                check_limits("memory.places.nearest", nearest, 1, 1 << 20)?;
                check_limits("memory.places.reach", reach, 0, 1 << 12)?;
                check_limits("memory.places.photos · grid²", photos.saturating_mul(grid * grid), 1, 1 << 24)
            }
        }
    }

    /// Checks that photos are looked at as the memory needs it: rows at places do not fit tiles, which have places of their own.
    ///
    /// # Errors
    /// [`Error::Config`] if they are not.
    pub fn check_tiles(&self, preprocessor: &Preprocessor) -> Result<()> {
        match self.memory {
            MemoryKind::Places { .. } if preprocessor.tiles.is_some() => Err(Error::config(
                "memory.places compares places of whole photos, and these are looked at in tiles: leave the tiles out, or take a bank",
            )),
            _ => Ok(()),
        }
    }

    /// Checks that the memory fits an input of `grid × grid` patches.
    ///
    /// # Errors
    /// [`Error::Config`] with both grids.
    pub fn check_grid(&self, found: usize) -> Result<()> {
        match self.memory {
            MemoryKind::Places { grid, .. } if grid != found => Err(Error::config(format!(
                "memory.places.grid = {grid} does not fit a geometry of {found} × {found} patches: make the model again at this size"
            ))),
            _ => Ok(()),
        }
    }
}
