//! The frozen encoder's group means, computed once for each photo: all that the bottleneck and the loss need.
//!
//! The bottleneck's input is the mean of all target layers. Where the groups partition them equally it is the mean of the
//! group means; elsewhere it is cached beside them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use dinomaly_core::config::{BottleneckInput, Comparison, ModelConfig};
use dinomaly_core::dinomaly::{Encoded, Encoder, encoded};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::ops::Ops;

/// What the encoder says about a batch of photos.
pub type Features = Encoded<Tensor>;

/// Runs the encoder on `patches [batch, grid², 3·patch²]`.
///
/// # Errors
/// If the device fails.
pub fn encode(
    ops: &Candle<'_>,
    encoder: &Encoder<Tensor>,
    config: &ModelConfig,
    patches: &Tensor,
) -> dinomaly_core::Result<Features> {
    encoded(ops, &encoder.forward(ops, patches, &mut |_, _| {})?, config)
}

/// Whether the bottleneck's input is the mean of the groups.
fn fused_is_mean_of_groups(config: &ModelConfig) -> bool {
    let mut layers: Vec<usize> = config.groups.concat();
    layers.sort_unstable();
    config.comparison == Comparison::Mean
        && config.bottleneck_input == BottleneckInput::Mean
        && layers.iter().copied().eq(0..config.target_layers.len())
        && config.groups.iter().all(|group| group.len() == config.groups[0].len())
}

/// Features of many photos, in memory up to a limit and beyond it in a file that is removed with the cache. Values are
/// the same bytes wherever they lie.
pub struct FeatureCache {
    tokens: usize,
    /// Channels of each group, and of the bottleneck's input where it is stored.
    channels: Vec<usize>,
    fused_stored: bool,
    in_memory: Vec<Vec<f32>>,
    capacity: usize,
    spilled: usize,
    file: Mutex<File>,
}

impl FeatureCache {
    /// An empty cache for photos of `tokens` tokens; what exceeds `memory_limit` bytes goes to a file in `folder`.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn new(config: &ModelConfig, tokens: usize, memory_limit: u64, folder: &Path) -> Result<Self> {
        let width = config.encoder.hidden_size;
        let mut channels: Vec<usize> = match config.comparison {
            Comparison::Mean => vec![width; config.groups.len()],
            Comparison::Concatenated => vec![width * config.groups[0].len()],
        };
        let fused_stored = !fused_is_mean_of_groups(config);
        if fused_stored {
            channels.push(width);
        }
        let mut cache = Self {
            tokens,
            channels,
            fused_stored,
            in_memory: Vec::new(),
            capacity: 0,
            spilled: 0,
            file: Mutex::new(
                tempfile::tempfile_in(folder)
                    .with_context(|| format!("the feature cache cannot be created in {}", folder.display()))?,
            ),
        };
        cache.capacity = (memory_limit / cache.photo_bytes()) as usize;
        Ok(cache)
    }

    /// Bytes that one photo takes.
    pub fn photo_bytes(&self) -> u64 {
        4 * self.photo_values() as u64
    }

    /// Photos in the cache.
    pub fn len(&self) -> usize {
        self.in_memory.len() + self.spilled
    }

    /// Whether nothing is cached yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that lie in the file.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled as u64 * self.photo_bytes()
    }

    fn photo_values(&self) -> usize {
        self.tokens * self.channels.iter().sum::<usize>()
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// If the shape is another than the cache's, or the disk is full.
    pub fn push(&mut self, features: &Features) -> Result<()> {
        let mut parts: Vec<&Tensor> = features.groups.iter().collect();
        if self.fused_stored {
            parts.push(&features.fused);
        }
        let expected = self.channels.iter().map(|&channels| [self.tokens, channels]);
        if !parts.iter().map(|part| &part.dims()[1..]).eq(expected) {
            let shapes: Vec<&[usize]> = parts.iter().map(|part| part.dims()).collect();
            bail!("features of shapes {shapes:?} do not fit the cache");
        }
        let rows = parts.iter().map(|part| part.flatten_from(1)).collect::<candle_core::Result<Vec<_>>>()?;
        for photo in Tensor::cat(&rows, 1)?.to_vec2::<f32>()? {
            if self.in_memory.len() < self.capacity {
                self.in_memory.push(photo);
            } else {
                let mut file = self.file.lock().expect("no thread panics while it holds the file");
                file.seek(SeekFrom::Start(self.spilled as u64 * self.photo_bytes()))?;
                file.write_all(bytemuck::cast_slice(&photo)).with_context(|| {
                    format!(
                        "the feature cache is full after {} photos: free disk space or raise --cache-memory",
                        self.len()
                    )
                })?;
                self.spilled += 1;
            }
        }
        Ok(())
    }

    /// The features of the photos with these indices.
    ///
    /// # Errors
    /// If the file or the device fails.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Result<Features> {
        let mut values = Vec::with_capacity(indices.len() * self.photo_values());
        for &index in indices {
            if let Some(photo) = self.in_memory.get(index) {
                values.extend_from_slice(photo);
            } else {
                let mut photo = vec![0f32; self.photo_values()];
                let mut file = self.file.lock().expect("no thread panics while it holds the file");
                file.seek(SeekFrom::Start((index - self.in_memory.len()) as u64 * self.photo_bytes()))?;
                file.read_exact(bytemuck::cast_slice_mut(&mut photo)).context("the feature cache cannot be read")?;
                values.extend(photo);
            }
        }
        let batch = Tensor::from_vec(values, (indices.len(), self.photo_values()), device)?;
        let (mut groups, mut begin) = (Vec::new(), 0);
        for &channels in &self.channels {
            let part = batch.narrow(1, begin, self.tokens * channels)?.contiguous()?;
            groups.push(part.reshape((indices.len(), self.tokens, channels))?);
            begin += self.tokens * channels;
        }
        let fused = match self.fused_stored {
            true => groups.pop().context("the bottleneck's input is stored last")?,
            false => Candle::infer(device.clone()).mean(&groups)?,
        };
        Ok(Features { groups, fused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(groups: Vec<Vec<usize>>) -> ModelConfig {
        let encoder = serde_json::from_value(serde_json::json!({
            "name": "test", "hidden_size": 4, "num_attention_heads": 1, "num_hidden_layers": 12, "intermediate_size": 8,
            "patch_size": 2, "num_register_tokens": 0, "position_grid": 2, "layer_norm_eps": 1e-6
        }))
        .unwrap();
        ModelConfig { groups, ..ModelConfig::published(encoder).unwrap() }
    }

    #[test]
    fn gives_the_same_bytes_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        for groups in [vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]], vec![vec![0, 1], vec![2, 3, 4, 5, 6, 7]]] {
            let config = config(groups);
            let random = |seed: usize| {
                let values: Vec<f32> = (0..3 * 5 * 4).map(|i| ((i * 37 + seed * 101) % 97) as f32 / 7.0).collect();
                Tensor::from_vec(values, (3, 5, 4), &Device::Cpu).unwrap()
            };
            let features = Features { groups: vec![random(1), random(2)], fused: random(3) };
            let read = |limit: u64| {
                let mut cache = FeatureCache::new(&config, 5, limit, folder.path()).unwrap();
                cache.push(&features).unwrap();
                assert_eq!(cache.spilled_bytes() > 0, limit < 1000, "{limit}");
                let batch = cache.batch(&[2, 0], &Device::Cpu).unwrap();
                let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                (values(&batch.groups[0]), values(&batch.groups[1]), values(&batch.fused))
            };
            let disk = read(0);
            assert_eq!(read(1 << 20), disk);
            assert_eq!(read(cache_limit_for_one()), disk);
            let expected = features.groups[1].to_vec3::<f32>().unwrap();
            assert_eq!(disk.1, [expected[2].concat(), expected[0].concat()].concat());
        }
    }

    fn cache_limit_for_one() -> u64 {
        4 * 2 * 5 * 4
    }
}
