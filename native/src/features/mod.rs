//! The frozen encoder's group means, computed once per photo: the input of the bottleneck and the loss.
//!
//! The bottleneck's input is the mean of all target layers. If the groups are of equal size and hold each layer once, and are not
//! recentred, this is the mean of the group means; otherwise it is cached as well.

pub mod augmentation;
pub(crate) mod good_photos;
mod held;
mod memory;
#[cfg(feature = "cuda")]
mod page_locked;
pub mod photo_encoder;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::candle::kernels::Element;
use dinomaly_core::model::config::{BottleneckInput, Comparison, ModelConfig, Recentring};
use dinomaly_core::model::dinomaly::{Encoded, encoded};
use dinomaly_core::model::encoder::Encoder;
use dinomaly_core::ops::Ops;
use half::bf16;

use self::held::Held;
use self::memory::Memory;

/// Features of a batch of photos.
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

/// Batches of features, one after the other.
///
/// # Errors
/// The first of `batches`.
fn joined(batches: impl Iterator<Item = Result<Features>>) -> Result<Features> {
    let batches = batches.collect::<Result<Vec<_>>>()?;
    let part = |of: &dyn Fn(&Features) -> Tensor| -> candle_core::Result<Tensor> {
        Tensor::cat(&batches.iter().map(of).collect::<Vec<_>>(), 0)?.to_dtype(DType::F32)
    };
    let groups = batches.first().map_or(0, |features| features.groups.len());
    Ok(Features {
        groups: (0..groups)
            .map(|j| part(&|features| features.groups[j].clone()))
            .collect::<candle_core::Result<_>>()?,
        fused: part(&|features| features.fused.clone())?,
    })
}

/// Whether the bottleneck's input is the mean of the groups.
fn fused_is_mean_of_groups(config: &ModelConfig) -> bool {
    let mut layers: Vec<usize> = config.groups.concat();
    layers.sort_unstable();
    config.comparison == Comparison::Mean
        && config.recentring != Recentring::Target
        && config.bottleneck_input == BottleneckInput::Mean
        && layers.iter().copied().eq(0..config.target_layers.len())
        && config.groups.iter().all(|group| group.len() == config.groups[0].len())
}

/// Bytes that the cache may take in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// On the training device; 0 if that is the processor.
    pub device: u64,
    /// In memory, which is page-locked if a GPU trains.
    pub memory: u64,
}

/// Features of many photos: on the device up to a limit, in memory up to another, and the rest in a file that is removed with the
/// cache. The values do not depend on the place: they are f32, or rounded to bf16 as soon as they are made.
pub struct FeatureCache {
    tokens: usize,
    /// Channels of each group, and of the bottleneck's input if that is stored.
    channels: Vec<usize>,
    fused_stored: bool,
    dtype: DType,
    limits: Limits,
    photos: Vec<KeptIn>,
    /// Number of photos on the device, in memory, in the file.
    places: [usize; 3],
    memory: Memory,
    file: Mutex<File>,
}

/// Where the features of a photo are.
enum KeptIn {
    Device(Tensor),
    Memory(Box<dyn Held>),
    /// In the file, from this byte on.
    File(u64),
}

impl FeatureCache {
    /// An empty cache for photos of `tokens` tokens. Photos beyond the limits go to a file in `folder`.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn new(config: &ModelConfig, tokens: usize, element: Element, limits: Limits, folder: &Path) -> Result<Self> {
        let width = config.encoder.hidden_size;
        let mut channels: Vec<usize> = match config.comparison {
            Comparison::Mean => vec![width; config.groups.len()],
            Comparison::Concatenated => vec![width * config.groups[0].len()],
        };
        let fused_stored = !fused_is_mean_of_groups(config);
        if fused_stored {
            channels.push(width);
        }
        let file = tempfile::tempfile_in(folder)
            .with_context(|| format!("the feature cache cannot be created in {}", folder.display()))?;
        Ok(Self {
            tokens,
            channels,
            fused_stored,
            dtype: element.dtype(),
            limits,
            photos: Vec::new(),
            places: [0; 3],
            memory: Memory::default(),
            file: Mutex::new(file),
        })
    }

    /// Bytes per photo.
    pub fn photo_bytes(&self) -> u64 {
        (self.dtype.size_in_bytes() * self.photo_values()) as u64
    }

    /// A sentence on the size and place of so many photos or tiles; `what` names them.
    pub fn plan(&self, photos: usize, what: &str) -> String {
        let mebibytes = |photos: u64| (photos * self.photo_bytes()) as f64 / f64::from(1 << 20);
        let mut left = photos as u64;
        let [device, memory] = [self.limits.device, self.limits.memory].map(|limit| {
            let taken = left.min(limit / self.photo_bytes());
            left -= taken;
            taken
        });
        let places = [(device, "on the GPU"), (memory, "in memory"), (left, "in a file")];
        let places = places.iter().filter(|(photos, _)| *photos > 0);
        let places: Vec<String> =
            places.map(|&(photos, place)| format!("{:.0} MiB {place}", mebibytes(photos))).collect();
        let kind = if self.dtype == DType::BF16 { " in bf16" } else { "" };
        format!("features{kind}: {:.0} MiB for {photos} {what}: {}", mebibytes(photos as u64), places.join(", "))
    }

    /// Number of photos in the cache.
    pub fn len(&self) -> usize {
        self.photos.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.photos.is_empty()
    }

    /// Numbers of photos on the device, in memory, in the file.
    pub fn places(&self) -> [usize; 3] {
        self.places
    }

    fn photo_values(&self) -> usize {
        self.tokens * self.channels.iter().sum::<usize>()
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// If the shape is not the cache's, or the disk is full.
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
        let rows = Tensor::cat(&rows, 1)?.to_dtype(self.dtype)?;
        for photo in 0..rows.dim(0)? {
            // A copy, because a view would keep the whole batch, and copy all of it to the host.
            let place = self.place(&rows.get(photo)?.force_contiguous()?)?;
            let kind = match place {
                KeptIn::Device(_) => 0,
                KeptIn::Memory(_) => 1,
                KeptIn::File(_) => 2,
            };
            self.places[kind] += 1;
            self.photos.push(place);
        }
        Ok(())
    }

    fn place(&mut self, photo: &Tensor) -> Result<KeptIn> {
        let (size, [on_device, in_memory, in_file]) = (self.photo_bytes(), self.places.map(|count| count as u64));
        if (on_device + 1) * size <= self.limits.device {
            return Ok(KeptIn::Device(photo.clone()));
        }
        if (in_memory + 1) * size <= self.limits.memory {
            return Ok(KeptIn::Memory(self.memory.keep(photo)?));
        }
        let bytes = bytes(photo)?;
        let begin = in_file * size;
        let mut file = self.file.lock().expect("no thread panics while it holds the file");
        file.seek(SeekFrom::Start(begin))?;
        file.write_all(&bytes).with_context(|| {
            format!("the feature cache is full after {} photos: free disk space or raise --cache-memory", self.len())
        })?;
        Ok(KeptIn::File(begin))
    }

    /// The features of the photos with these indices, in f32.
    ///
    /// # Errors
    /// If the file or the device fails.
    pub fn batch(&self, indices: &[usize], device: &Device) -> Result<Features> {
        let row = |&index: &usize| -> Result<Tensor> {
            Ok(match &self.photos[index] {
                KeptIn::Device(photo) => photo.clone(),
                KeptIn::Memory(held) => held.fetch(device)?,
                KeptIn::File(begin) => {
                    let mut bytes = vec![0; self.photo_bytes() as usize];
                    let mut file = self.file.lock().expect("no thread panics while it holds the file");
                    file.seek(SeekFrom::Start(*begin))?;
                    file.read_exact(&mut bytes).context("the feature cache cannot be read")?;
                    Tensor::from_raw_buffer(&bytes, self.dtype, &[self.photo_values()], device)?
                }
            })
        };
        let rows = indices.iter().map(row).collect::<Result<Vec<_>>>()?;
        let batch = Tensor::stack(&rows, 0)?.to_dtype(DType::F32)?;
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

impl Drop for FeatureCache {
    /// Waits for the GPU, which may still fetch from the memory.
    fn drop(&mut self) {
        for photo in &self.photos {
            if let KeptIn::Memory(held) = photo {
                held.wait();
            }
        }
    }
}

/// A photo's values as bytes.
fn bytes(photo: &Tensor) -> candle_core::Result<Vec<u8>> {
    Ok(match photo.dtype() {
        DType::BF16 => bytemuck::cast_slice(&photo.to_vec1::<bf16>()?).to_vec(),
        _ => bytemuck::cast_slice(&photo.to_vec1::<f32>()?).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use candle_core::{CpuStorage, Storage};
    use dinomaly_core::model::config::EncoderConfig;

    use super::*;

    fn config(groups: Vec<Vec<usize>>) -> ModelConfig {
        ModelConfig { groups, ..ModelConfig::published(EncoderConfig::tiny()).unwrap() }
    }

    #[test]
    fn gives_the_same_values_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let sixths = [vec![0, 1], vec![2, 3, 4, 5, 6, 7]];
        let halves = [vec![0, 1, 2, 3], vec![4, 5, 6, 7]];
        for (groups, element) in [(&halves, Element::F32), (&sixths, Element::F32), (&halves, Element::Bf16)] {
            let config = config(groups.to_vec());
            let random = |seed: usize| {
                let values: Vec<f32> = (0..3 * 5 * 4).map(|i| ((i * 37 + seed * 101) % 97) as f32 / 7.0).collect();
                Tensor::from_vec(values, (3, 5, 4), &Device::Cpu).unwrap()
            };
            let features = Features { groups: vec![random(1), random(2)], fused: random(3) };
            let read = |device: u64, memory: u64, places: [usize; 3]| {
                let empty = |limits| FeatureCache::new(&config, 5, element, limits, folder.path()).unwrap();
                let size = empty(Limits { device: 0, memory: 0 }).photo_bytes();
                let mut cache = empty(Limits { device: device * size, memory: memory * size });
                cache.push(&features).unwrap();
                assert_eq!(cache.places(), places);
                let batch = cache.batch(&[2, 0, 1], &Device::Cpu).unwrap();
                let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                (values(&batch.groups[0]), values(&batch.groups[1]), values(&batch.fused))
            };
            let disk = read(0, 0, [0, 0, 3]);
            for (device, memory, places) in [(0, 9, [0, 3, 0]), (9, 0, [3, 0, 0]), (1, 1, [1, 1, 1]), (0, 1, [0, 1, 2])]
            {
                assert_eq!(read(device, memory, places), disk);
            }
            let stored = features.groups[1].to_dtype(element.dtype()).unwrap().to_dtype(DType::F32).unwrap();
            let expected = stored.to_vec3::<f32>().unwrap();
            assert_eq!(disk.1, [expected[2].concat(), expected[0].concat(), expected[1].concat()].concat());
        }
    }

    #[test]
    fn a_photo_on_the_device_takes_no_more_than_its_own_values() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        let limits = Limits { device: 1 << 20, memory: 0 };
        for element in [Element::F32, Element::Bf16] {
            let mut cache = FeatureCache::new(&config, 5, element, limits, folder.path()).unwrap();
            let batch = Tensor::ones((3, 5, 4), DType::F32, &Device::Cpu).unwrap();
            cache.push(&Features { groups: vec![batch.clone(), batch.clone()], fused: batch }).unwrap();
            for photo in &cache.photos {
                let KeptIn::Device(photo) = photo else { panic!("there is room for it") };
                let (storage, _) = photo.storage_and_layout();
                let held = match &*storage {
                    Storage::Cpu(CpuStorage::F32(values)) => values.len(),
                    Storage::Cpu(CpuStorage::BF16(values)) => values.len(),
                    _ => panic!("features are f32 or bf16"),
                };
                assert_eq!(held, 2 * 5 * 4);
            }
        }
    }

    #[test]
    fn memory_is_freed_only_when_nothing_fetches_from_it() {
        static WAITED: AtomicUsize = AtomicUsize::new(0);
        static FREED_AFTER: AtomicUsize = AtomicUsize::new(0);
        struct Fetched;
        impl Held for Fetched {
            fn fetch(&self, device: &Device) -> candle_core::Result<Tensor> {
                Tensor::new(&[0f32], device)
            }

            fn wait(&self) {
                WAITED.fetch_add(1, Ordering::SeqCst);
            }
        }
        impl Drop for Fetched {
            fn drop(&mut self) {
                FREED_AFTER.fetch_add(WAITED.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let (config, limits) = (config(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]), Limits { device: 0, memory: 0 });
        let mut cache = FeatureCache::new(&config, 5, Element::F32, limits, folder.path()).unwrap();
        cache.photos.extend([(); 2].map(|()| KeptIn::Memory(Box::new(Fetched))));
        drop(cache);
        assert_eq!(FREED_AFTER.load(Ordering::SeqCst), 4, "both are waited for before each is freed");
    }

    #[test]
    fn the_plan_says_what_goes_where() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        // 65,536 tokens of two groups of four channels: 2 MiB per photo in f32, 1 MiB in bf16.
        let plan = |element, device: u64, memory: u64| {
            let limits = Limits { device: device << 20, memory: memory << 20 };
            FeatureCache::new(&config, 65_536, element, limits, folder.path()).unwrap().plan(10, "photos")
        };
        assert_eq!(plan(Element::F32, 0, 99), "features: 20 MiB for 10 photos: 20 MiB in memory");
        assert_eq!(
            plan(Element::Bf16, 3, 5),
            "features in bf16: 10 MiB for 10 photos: 3 MiB on the GPU, 5 MiB in memory, 2 MiB in a file"
        );
    }
}
