//! Score of each good photo by a memory of all others: what the next good photo may score.

use super::bank::Bank;
use super::subspace::{Residual, Subspaces};
use super::{FeatureEncoder, Features};
use crate::Result;
use crate::maps::score::mean_of_highest;
use crate::ops::{Linear, Ops, Read, Then};
use crate::tensor::{Data, HostTensor};

/// Number of subspaces that are made of a class's photos to score them. With more photos, each leaves out several of them.
const FOLDS: usize = 16;

/// Scores of a bank's photos, each by the patches of all others. `done` is called after each photo.
///
/// # Errors
/// If the executor fails.
pub async fn of_bank<O: Read>(
    encoder: &FeatureEncoder<O>,
    photos: &[&Features],
    bank: &Bank,
    mut done: impl FnMut(),
) -> Result<Vec<f32>> {
    let (ops, width, groups) = (encoder.ops(), encoder.config.encoder.hidden_size, encoder.config.groups.len());
    let piece = |group: usize, photo: usize| -> Result<Option<Linear<O::Tensor>>> {
        let values = bank.rows(group, photo, photos[photo], width);
        if values.is_empty() {
            return Ok(None);
        }
        let tensor = HostTensor { shape: vec![values.len() / width, width], data: Data::F16(values) };
        Ok(Some(Linear { weight: ops.upload_weight(&tensor)?, bias: None }))
    };
    let pieces = (0..groups).map(|group| (0..photos.len()).map(|photo| piece(group, photo)).collect());
    let pieces = pieces.collect::<Result<Vec<Vec<_>>>>()?;
    let mut scores = Vec::with_capacity(photos.len());
    for (i, photo) in photos.iter().enumerate() {
        let mut distances = Vec::new();
        for (group, pieces) in pieces.iter().enumerate() {
            let x = upload(ops, photo.own(group), width)?;
            let mut nearest = None;
            for piece in pieces.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, piece)| piece.as_ref()) {
                let cosines = ops.linear(&x, piece, Then::Store)?;
                nearest = Some(ops.nearest(&cosines, nearest.as_ref())?);
            }
            distances.extend(nearest);
        }
        if distances.len() == groups {
            scores.push(score(encoder, &distances).await?);
        }
        done();
    }
    Ok(scores)
}

/// Scores of a class's photos, each by a subspace that was made without it. `done` is called after each photo.
///
/// # Errors
/// If the executor fails, or a feature is not finite.
pub async fn of_subspace<O: Read>(
    encoder: &FeatureEncoder<O>,
    photos: &[&Features],
    subspaces: &Subspaces,
    mut done: impl FnMut(),
) -> Result<Vec<f32>> {
    if photos.len() < 2 {
        return Ok(Vec::new());
    }
    let (ops, width) = (encoder.ops(), encoder.config.encoder.hidden_size);
    let all = subspaces.sums(photos.iter().copied());
    let folds = photos.len().min(FOLDS);
    let mut scores = vec![0.0; photos.len()];
    for fold in 0..folds {
        let own: Vec<usize> = (fold..photos.len()).step_by(folds).collect();
        let without = subspaces.sums(own.iter().map(|&i| photos[i]));
        let rest: Vec<_> = all.iter().zip(&without).map(|(all, own)| all.clone().without(own)).collect();
        let mut residuals = Vec::new();
        for Residual { weight, bias, .. } in subspaces.residuals(&rest)? {
            residuals.push(Linear {
                weight: ops.upload_weight(&HostTensor::f32([width, width], weight)?)?,
                bias: Some(ops.upload(&HostTensor::f32([width], bias)?)?),
            });
        }
        for i in own {
            let distance = |(group, residual): (usize, &Linear<O::Tensor>)| {
                ops.squared_norms(&ops.linear(&upload(ops, photos[i].own(group), width)?, residual, Then::Store)?, 1)
            };
            let distances = residuals.iter().enumerate().map(distance).collect::<Result<Vec<_>>>()?;
            scores[i] = score(encoder, &distances).await?;
            done();
        }
    }
    Ok(scores)
}

fn upload<O: Ops>(ops: &O, patches: &[f32], width: usize) -> Result<O::Tensor> {
    ops.upload(&HostTensor::f32([1, patches.len() / width, width], patches.to_vec())?)
}

/// Score of a photo with these distances of its patches.
async fn score<O: Read>(encoder: &FeatureEncoder<O>, distances: &[O::Tensor]) -> Result<f32> {
    let maps = encoder.ops().read_maps(distances, 1, &encoder.layout(0)).await?;
    Ok(maps.first().map_or(0.0, |map| mean_of_highest(map, encoder.config.score_share)))
}

/// Copies of a prepared photo `[side, side, 3]`, moved by `step` pixels in both directions, its border repeated: all that one photo
/// has to say about the next one.
pub(super) fn moved(cut: &[u8], side: usize, step: usize) -> Vec<Vec<u8>> {
    let (side, step) = (side as i64, (step as i64).max(1));
    let at = |x: i64, y: i64| 3 * (y.clamp(0, side - 1) * side + x.clamp(0, side - 1)) as usize;
    let copy = |(dx, dy): (i64, i64)| {
        let pixels = (0..side).flat_map(|y| (0..side).map(move |x| (x + dx, y + dy)));
        pixels.flat_map(|(x, y)| cut[at(x, y)..][..3].iter().copied()).collect()
    };
    [(step, step), (-step, step), (step, -step), (-step, -step)].map(copy).to_vec()
}
