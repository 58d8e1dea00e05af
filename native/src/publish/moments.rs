//! Good photos → mean and second moments of every linear layer's inputs, which weight the rounding errors of quantization.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor, TensorId};
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::watched::{Seen, Watched};
use dinomaly_core::model::network::Network;
use dinomaly_core::ops::Ops;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::quant::InputMoments;
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::is_linear_weight;
use rayon::prelude::*;

use crate::dataset::{Dataset, read_photo};
use crate::synth::scrap;
use crate::system::progress::Progress;

/// Photos per batch.
const BATCH: usize = 8;

/// Seed of generated pictures.
const SEED: u64 = 1;

/// Chooses `count` training photos of a data set, equally many of each class if possible, evenly spaced in each.
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
/// If a photo cannot be read; the error names it.
pub fn of_photos(model: &Model, photos: &[PathBuf]) -> Result<InputMoments> {
    moments(model, photos.len(), |i| read_photo(&photos[i], model.preprocessor.window))
}

/// Second moments on generated pictures, if there are no photos.
///
/// # Errors
/// If the model contradicts itself.
pub fn of_generated(model: &Model, count: usize) -> Result<InputMoments> {
    let side = model.preprocessor.geometry.resize;
    moments(model, count, |i| {
        let (width, height) = (side as u32, side as u32);
        Ok(Photo { width, height, rgb: scrap(SEED, i as u64, side).into_raw() })
    })
}

/// By the weight's name: the number of input rows, and the sum of `xᵀx` over the rows with a 1 appended.
type Sums = HashMap<String, (usize, Tensor)>;

/// Runs `count` pictures through a model.
///
/// # Errors
/// Those of `picture`.
fn moments(model: &Model, count: usize, picture: impl Fn(usize) -> Result<Photo> + Sync) -> Result<InputMoments> {
    let (patch, grid) = (model.config.encoder().patch_size, model.grid());
    let (names, sums) = (RefCell::<HashMap<TensorId, String>>::default(), RefCell::<Sums>::default());
    let candle = Watched::new(Candle::infer(Device::Cpu), |seen| match seen {
        Seen::Linear { x, weight } => {
            names.borrow().get(&weight.id()).map_or(Ok(()), |name| add(&mut sums.borrow_mut(), name, x))
        }
        _ => Ok(()),
    });
    let encoder = model.weights.encoder_values(model.config.taps(), grid)?;
    let network = Network::load(&model.config, grid, &mut |name, shape| {
        let tensor = match encoder.get(name) {
            Some(tensor) => tensor,
            None => model.weights.get(name, shape)?,
        };
        let uploaded = candle.upload(tensor)?;
        if is_linear_weight(name, shape) {
            names.borrow_mut().insert(uploaded.id(), name.to_owned());
        }
        Ok(uploaded)
    })?;
    let progress = Progress::new("measuring activations", count, "pictures");
    for begin in (0..count).step_by(BATCH) {
        let batch = begin..count.min(begin + BATCH);
        let rows = batch.clone().into_par_iter().map(|i| Ok(model.preprocessor.patches(&picture(i)?, patch)));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let shape = [batch.len(), grid * grid, 3 * patch * patch];
        network.distances(&candle, &candle.upload(&HostTensor::f32(shape, rows.concat())?)?)?;
        progress.advance(batch.len(), String::new);
    }
    progress.finish();
    let mean = |(name, (rows, sum)): (String, (usize, Tensor))| {
        let values = (sum / rows as f64)?.flatten_all()?.to_vec1()?;
        let side = values.len().isqrt();
        Ok((name, HostTensor::f32([side, side], values)?))
    };
    sums.take().into_iter().map(mean).collect()
}

/// Adds the rows of `x [batch, tokens, in]` with a 1 appended to each.
fn add(sums: &mut Sums, name: &str, x: &Tensor) -> dinomaly_core::Result<()> {
    let rows = x.flatten_to(1)?;
    let mut count = rows.dim(0)?;
    let rows = Tensor::cat(&[&rows, &Tensor::ones((count, 1), rows.dtype(), rows.device())?], 1)?;
    let mut sum = rows.t()?.matmul(&rows)?;
    if let Some((earlier, sum_before)) = sums.get(name) {
        count += earlier;
        sum = (sum + sum_before)?;
    }
    sums.insert(name.to_owned(), (count, sum));
    Ok(())
}
