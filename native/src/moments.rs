//! Good photos → second moments of every linear layer's inputs: what rounding errors are weighed with.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor, TensorId};
use dinomaly_core::bundle::Model;
use dinomaly_core::dinomaly::Dinomaly;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::ops::{Linear, Neighbours, Norm, Ops, Then};
use dinomaly_core::photo::Photo;
use dinomaly_core::quant::{Moments, is_linear_weight};
use dinomaly_core::tensor::HostTensor;
use rayon::prelude::*;

use crate::dataset::{Dataset, read_photo};
use crate::progress::Progress;
use crate::synth::scrap;

/// Photos that go through the model at once.
const BATCH: usize = 8;

/// Seed of generated pictures.
const SEED: u64 = 1;

/// So many photos of a data set to train on, as many of each class as there can be, evenly over each.
pub fn choose(dataset: &Dataset, count: usize) -> Vec<PathBuf> {
    let share = count.div_ceil(dataset.classes.len());
    let of_class = |photos: &[PathBuf]| {
        let chosen = share.min(photos.len());
        (0..chosen).map(|i| photos[i * photos.len() / chosen].clone()).collect::<Vec<_>>()
    };
    dataset.classes.iter().flat_map(|class| of_class(&class.train)).collect()
}

/// Second moments on photos.
///
/// # Errors
/// A photo that cannot be read, by name.
pub fn of_photos(model: &Model, photos: &[PathBuf]) -> Result<Moments> {
    moments(model, photos.len(), |i| read_photo(&photos[i]))
}

/// Second moments on generated pictures of anything: where there are no photos.
///
/// # Errors
/// None beyond those of a model that contradicts itself.
pub fn of_generated(model: &Model, count: usize) -> Result<Moments> {
    let side = model.preprocessor.geometry.resize;
    moments(model, count, |i| {
        let (width, height) = (side as u32, side as u32);
        Ok(Photo { width, height, rgb: scrap(SEED, i as u64, side).into_raw() })
    })
}

/// Runs `count` pictures through a model.
///
/// # Errors
/// Whatever `picture` refuses.
fn moments(model: &Model, count: usize, picture: impl Fn(usize) -> Result<Photo> + Sync) -> Result<Moments> {
    let (patch, grid) = (model.config.encoder.patch_size, model.grid());
    let recorder = Recorder { ops: Candle::infer(Device::Cpu), weights: RefCell::default(), sums: RefCell::default() };
    let encoder = model.weights.encoder_values(&model.config, grid)?;
    let network = Dinomaly::load(&model.config, grid, &mut |name, shape| {
        let tensor = match encoder.get(name) {
            Some(tensor) => tensor,
            None => model.weights.get(name, shape)?,
        };
        let uploaded = recorder.upload(tensor)?;
        if is_linear_weight(name, shape) {
            recorder.weights.borrow_mut().insert(uploaded.id(), name.to_owned());
        }
        Ok(uploaded)
    })?;
    let progress = Progress::new("looking at pictures", count, "pictures");
    for begin in (0..count).step_by(BATCH) {
        let batch = begin..count.min(begin + BATCH);
        let rows = batch.clone().into_par_iter().map(|i| Ok(model.preprocessor.patches(&picture(i)?, patch)));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let shape = [batch.len(), grid * grid, 3 * patch * patch];
        network.distances(&recorder, &recorder.upload(&HostTensor::f32(shape, rows.concat())?)?)?;
        progress.advance(batch.len(), String::new);
    }
    progress.finish();
    recorder.moments()
}

/// candle, noting what goes into linear layers.
struct Recorder {
    ops: Candle<'static>,
    /// Names of the layers' weights.
    weights: RefCell<HashMap<TensorId, String>>,
    /// Rows that were seen, and the sum of `xᵀx` over them.
    sums: RefCell<HashMap<String, (usize, Tensor)>>,
}

impl Recorder {
    fn note(&self, x: &Tensor, weight: &Tensor) -> dinomaly_core::Result<()> {
        let weights = self.weights.borrow();
        let Some(name) = weights.get(&weight.id()) else { return Ok(()) };
        let (batch, tokens, inputs) = x.dims3()?;
        let rows = x.reshape((batch * tokens, inputs))?;
        let mut sum = rows.t()?.matmul(&rows)?;
        let mut count = batch * tokens;
        let mut sums = self.sums.borrow_mut();
        if let Some((earlier, sum_before)) = sums.get(name) {
            count += earlier;
            sum = (sum + sum_before)?;
        }
        sums.insert(name.clone(), (count, sum));
        Ok(())
    }

    fn moments(self) -> Result<Moments> {
        let mean = |(name, (rows, sum)): (String, (usize, Tensor))| {
            let values = (sum / rows as f64)?.flatten_all()?.to_vec1()?;
            let inputs = values.len().isqrt();
            Ok((name, HostTensor::f32([inputs, inputs], values)?))
        };
        self.sums.into_inner().into_iter().map(mean).collect()
    }
}

impl Ops for Recorder {
    type Tensor = Tensor;

    fn linear(&self, x: &Tensor, layer: &Linear<Tensor>, then: Then<'_, Tensor>) -> dinomaly_core::Result<Tensor> {
        self.note(x, &layer.weight)?;
        self.ops.linear(x, layer, then)
    }

    fn upload(&self, tensor: &HostTensor) -> dinomaly_core::Result<Tensor> {
        self.ops.upload(tensor)
    }

    fn layer_norm(&self, x: &Tensor, norm: &Norm<Tensor>) -> dinomaly_core::Result<Tensor> {
        self.ops.layer_norm(x, norm)
    }

    fn attention(
        &self,
        qkv: &Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
        bias: Option<&Tensor>,
    ) -> dinomaly_core::Result<Tensor> {
        self.ops.attention(qkv, heads, hidden, bias)
    }

    fn rotate(&self, qkv: &Tensor, heads: usize, rotation: &Tensor) -> dinomaly_core::Result<Tensor> {
        self.ops.rotate(qkv, heads, rotation)
    }

    fn swiglu(&self, x: &Tensor) -> dinomaly_core::Result<Tensor> {
        self.ops.swiglu(x)
    }

    fn linear_attention(
        &self,
        qkv: &Tensor,
        heads: usize,
        hidden: Option<Neighbours>,
    ) -> dinomaly_core::Result<Tensor> {
        self.ops.linear_attention(qkv, heads, hidden)
    }

    fn depthwise_conv(&self, x: &Tensor, weight: &Tensor) -> dinomaly_core::Result<Tensor> {
        self.ops.depthwise_conv(x, weight)
    }

    fn embed(&self, patches: &Tensor, prefix: &Tensor, positions: &Tensor) -> dinomaly_core::Result<Tensor> {
        self.ops.embed(patches, prefix, positions)
    }

    fn drop_tokens(&self, x: &Tensor, first: usize) -> dinomaly_core::Result<Tensor> {
        self.ops.drop_tokens(x, first)
    }

    fn concatenate(&self, xs: &[Tensor]) -> dinomaly_core::Result<Tensor> {
        self.ops.concatenate(xs)
    }

    fn mean(&self, xs: &[Tensor]) -> dinomaly_core::Result<Tensor> {
        self.ops.mean(xs)
    }

    fn cosine_distance(&self, a: &Tensor, b: &Tensor) -> dinomaly_core::Result<Tensor> {
        self.ops.cosine_distance(a, b)
    }
}
