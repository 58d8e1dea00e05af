//! Score of each good photo by a memory of all others: what the next good photo may score.

use super::bank::Bank;
use super::subspace::{Residual, Subspaces};
use super::{FeatureEncoder, Features};
use crate::Result;
use crate::maps::score::mean_of_highest;
use crate::ops::{Linear, Ops, Read, Then};
use crate::photo::decode::Photo;
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
            let x = upload(ops, &photo.groups[group], width)?;
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
    photos: &[Features],
    subspaces: &Subspaces,
    mut done: impl FnMut(),
) -> Result<Vec<f32>> {
    if photos.len() < 2 {
        return Ok(Vec::new());
    }
    let (ops, width) = (encoder.ops(), encoder.config.encoder.hidden_size);
    let all = subspaces.sums(photos);
    let folds = photos.len().min(FOLDS);
    let mut scores = vec![0.0; photos.len()];
    for fold in 0..folds {
        let own: Vec<usize> = (fold..photos.len()).step_by(folds).collect();
        let without = subspaces.sums(own.iter().map(|&i| &photos[i]));
        let rest: Vec<_> = all.iter().zip(&without).map(|(all, own)| all.clone().without(own)).collect();
        let mut residuals = Vec::new();
        for Residual { weight, bias, .. } in subspaces.residuals(&rest)? {
            residuals.push(Linear {
                weight: ops.upload_weight(&HostTensor::f32([width, width], weight)?)?,
                bias: Some(ops.upload(&HostTensor::f32([width], bias)?)?),
            });
        }
        for i in own {
            let distance = |(patches, residual): (&Vec<f32>, &Linear<O::Tensor>)| {
                ops.squared_norms(&ops.linear(&upload(ops, patches, width)?, residual, Then::Store)?, 1)
            };
            let distances = photos[i].groups.iter().zip(&residuals).map(distance).collect::<Result<Vec<_>>>()?;
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
    let maps = encoder.ops().read_maps(distances, 1, &encoder.layout()).await?;
    Ok(maps.first().map_or(0.0, |map| mean_of_highest(map, encoder.config.score_share)))
}

/// Copies of a photo moved by half a patch of `grid × grid` in each direction, its border repeated: all that one photo has to say
/// about the next one.
pub fn moved(photo: &Photo, grid: usize) -> Vec<Photo> {
    let (width, height) = (i64::from(photo.width), i64::from(photo.height));
    let step = |side: i64| (side / (2 * grid as i64)).max(1);
    let (right, down) = (step(width), step(height));
    let at = |x: i64, y: i64| 3 * (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize;
    let copy = |(dx, dy): (i64, i64)| Photo {
        rgb: (0..height)
            .flat_map(|y| (0..width).map(move |x| (x + dx, y + dy)))
            .flat_map(|(x, y)| photo.rgb[at(x, y)..][..3].iter().copied())
            .collect(),
        width: photo.width,
        height: photo.height,
    };
    [(right, down), (-right, down), (right, -down), (-right, -down)].map(copy).to_vec()
}
