//! What is made of good photos, and how.

use serde::{Deserialize, Serialize};

use super::thresholds::FALSE_ALARM_RATE;
use crate::maps::score::MapBorder;
use crate::model::config::{EncoderConfig, MemoryConfig, MemoryKind};
use crate::{Error, Result};

/// Share of a map that a photo's score averages: small defects count more than with Dinomaly's hundredth.
const SCORE_SHARE: f64 = 0.003;

/// Memory of good photos to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryChoice {
    /// Principal directions of patches: small and fast, however many photos there are.
    #[default]
    Subspace,
    /// The patches themselves.
    Bank,
    /// The patches at their places, of the photos that are alike (RAD).
    #[serde(rename = "rad")]
    Places,
}

impl MemoryChoice {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Subspace, Self::Bank, Self::Places];

    /// Name for options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subspace => "subspace",
            Self::Bank => "bank",
            Self::Places => "rad",
        }
    }

    /// Encoder blocks that are compared by default, 0-based: all by subspaces, every other one by a bank, the last one included; at
    /// their places those of RAD, 3, 6, 9 and 11 of 12. The others were chosen with [`MemoryChoice::side`] on photos of two products
    /// (`tests/BENCHMARKS.md`).
    pub fn layers(self, depth: usize) -> Vec<usize> {
        match self {
            Self::Subspace => (0..depth).collect(),
            Self::Bank => (0..depth).filter(|layer| (depth - layer) % 2 == 1).collect(),
            Self::Places => {
                let mut layers: Vec<usize> =
                    (1..4).map(|quarter| quarter * depth / 4).chain(depth.checked_sub(1)).collect();
                layers.dedup();
                layers
            }
        }
    }

    /// Side of the square that whole photos are resized to by default.
    pub fn side(self) -> usize {
        match self {
            Self::Subspace | Self::Places => 448,
            Self::Bank => 320,
        }
    }
}

/// How a detector is made of good photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Kind of memory.
    pub memory: MemoryChoice,
    /// Encoder blocks to compare, 0-based; if empty, those of [`MemoryChoice::layers`].
    pub layers: Vec<usize>,
    /// Largest size of a bank in bytes, also of one at places.
    pub bank_size: u64,
    /// Number of nearest photos whose patches are compared at their places.
    #[serde(default)]
    pub nearest: usize,
    /// Half side in patches of the square window around a place.
    #[serde(default)]
    pub reach: usize,
    /// Share of the patches' variance that a subspace explains.
    pub variance: f64,
    /// Whether the memory also holds each photo in its other quarter turns: for parts that lie in any orientation.
    #[serde(default)]
    pub turns: bool,
    /// Share of good photos that the thresholds may call defective; if omitted, 1 %, or as little as so few photos can promise.
    pub false_alarm_rate: Option<f64>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            memory: MemoryChoice::default(),
            layers: Vec::new(),
            bank_size: 64 << 20,
            // RAD's for MVTec-AD.
            nearest: 150,
            reach: 1,
            variance: 0.99,
            turns: false,
            false_alarm_rate: None,
        }
    }
}

impl Recipe {
    /// The detector's configuration on the first `blocks` blocks of an encoder, but for the memory's size, which the photos decide.
    ///
    /// # Errors
    /// [`Error::Config`] if a share is outside its range, or a layer is not there.
    pub fn config(&self, encoder: EncoderConfig, blocks: usize) -> Result<MemoryConfig> {
        let rate = self.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE);
        for (name, share) in [("variance", self.variance), ("false-alarm rate", rate)] {
            if !(share > 0.0 && share < 1.0) {
                return Err(Error::config(format!("a {name} of {share} is outside 0..1")));
            }
        }
        if self.turns && self.memory == MemoryChoice::Places {
            return Err(Error::config(
                "turned photos lie at other places: take a subspace or a bank for parts in any orientation",
            ));
        }
        let mut layers = if self.layers.is_empty() { self.memory.layers(blocks) } else { self.layers.clone() };
        layers.sort_unstable();
        layers.dedup();
        if let Some(layer) = layers.iter().find(|&&layer| layer >= blocks) {
            return Err(Error::config(format!(
                "layer {layer} is not there: the encoder has blocks 0 to {}",
                blocks - 1
            )));
        }
        Ok(MemoryConfig {
            encoder,
            final_norm: self.memory == MemoryChoice::Places,
            groups: (0..layers.len()).map(|layer| vec![layer]).collect(),
            target_layers: layers,
            memory: match self.memory {
                MemoryChoice::Subspace => MemoryKind::Subspace { subspaces: 1 },
                MemoryChoice::Bank => MemoryKind::Bank { rows: 1 },
                MemoryChoice::Places => {
                    MemoryKind::Places { photos: 1, grid: 1, nearest: self.nearest, reach: self.reach }
                }
            },
            score_share: SCORE_SHARE,
            map_border: MapBorder::Zero,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_is_compared_by_default() {
        assert_eq!(MemoryChoice::Bank.layers(12), [1, 3, 5, 7, 9, 11]);
        assert_eq!(MemoryChoice::Bank.layers(5), [0, 2, 4]);
        assert_eq!(MemoryChoice::Subspace.layers(3), [0, 1, 2]);
        assert_eq!(MemoryChoice::Places.layers(12), [3, 6, 9, 11], "RAD's");
        assert_eq!(MemoryChoice::Places.layers(24), [6, 12, 18, 23]);
        for depth in 1..50 {
            let layers = MemoryChoice::Places.layers(depth);
            assert!(layers.is_sorted_by(|a, b| a < b) && layers.last() == Some(&(depth - 1)), "{layers:?}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let refusal = |recipe: Recipe| recipe.config(EncoderConfig::tiny(), 4).unwrap_err().to_string();
        let recipe = Recipe::default();
        assert!(
            refusal(Recipe { layers: vec![2, 4], ..recipe.clone() }).contains("layer 4 is not there: the encoder has")
        );
        assert!(refusal(Recipe { variance: 1.5, ..recipe.clone() }).contains("a variance of 1.5 is outside 0..1"));
        assert!(
            refusal(Recipe { false_alarm_rate: Some(f64::NAN), ..recipe.clone() })
                .contains("a false-alarm rate of NaN")
        );
        let turned = Recipe { memory: MemoryChoice::Places, turns: true, ..recipe.clone() };
        assert!(refusal(turned).contains("turned photos lie at other places"));
        let config = Recipe { layers: vec![3, 1, 3], ..recipe }.config(EncoderConfig::tiny(), 4).unwrap();
        assert_eq!((config.target_layers, config.groups), (vec![1, 3], vec![vec![0], vec![1]]));
    }
}
