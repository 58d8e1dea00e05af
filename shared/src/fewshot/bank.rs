//! Good patches → a bank of them (AnomalyDINO), thinned if they are too many.

use half::f16;

use super::Features;
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::memory::bank_pieces;
use crate::tensor::named::Weights;
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Multiply-accumulates that thinning may take; blocks of patches are thinned apart to stay below.
const WORK: f64 = 2e11;

/// Patches of a bank.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// For each group of layers and photo the kept patches, ascending.
    kept: Vec<Vec<Vec<usize>>>,
    /// Mean distance of the dropped patches to the nearest kept one; 0 if none is dropped.
    pub loss: f32,
}

impl Bank {
    /// At most `most` patches of these photos for each group of layers: all of them, or those that greedy k-centre keeps, which
    /// cover the others best (PatchCore, Roth et al. 2022). Starts from the first patch, so that equal photos give equal banks.
    pub fn of<'a>(photos: &[&'a Features], width: usize, most: usize) -> Self {
        let groups = photos.first().map_or(0, |photo| photo.groups.len());
        let (mut kept, mut losses) = (Vec::new(), Vec::new());
        for group in 0..groups {
            let rows: Vec<(usize, usize, &'a [f32])> = photos
                .iter()
                .enumerate()
                .flat_map(|(p, photo)| {
                    photo.groups[group].chunks_exact(width).enumerate().map(move |(i, row)| (p, i, row))
                })
                .collect();
            let mut of_photo = vec![Vec::new(); photos.len()];
            if rows.len() <= most {
                rows.iter().for_each(|&(p, i, _)| of_photo[p].push(i));
            } else {
                let blocks = ((rows.len() as f64 * most as f64 * width as f64 / WORK).ceil() as usize).clamp(1, most);
                for (block, share) in rows.chunks(rows.len().div_ceil(blocks)).zip(shares(most, blocks)) {
                    let (centres, loss) = centres(&block.iter().map(|row| row.2).collect::<Vec<_>>(), share);
                    losses.push(loss);
                    centres.into_iter().for_each(|c| of_photo[block[c].0].push(block[c].1));
                }
                of_photo.iter_mut().for_each(|patches| patches.sort_unstable());
            }
            kept.push(of_photo);
        }
        let loss = if losses.is_empty() { 0.0 } else { losses.iter().sum::<f32>() / losses.len() as f32 };
        Self { kept, loss }
    }

    /// Kept patches of a photo in a group of layers `[patches, width]`, in half precision as they are published.
    pub(super) fn rows(&self, group: usize, photo: usize, features: &Features, width: usize) -> Vec<f16> {
        let patches = self.kept[group][photo].iter();
        patches.flat_map(|&i| features.groups[group][i * width..][..width].iter().map(|&v| f16::from_f32(v))).collect()
    }
}

/// `whole` in equal parts.
fn shares(whole: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts).map(move |i| (i + 1) * whole / parts - i * whole / parts)
}

/// Indices of `most` rows, each the farthest from those before it, and the mean distance of a row to the nearest of them. Rows are
/// unit vectors, distances 1 - cosine.
pub(super) fn centres(rows: &[&[f32]], most: usize) -> (Vec<usize>, f32) {
    let mut nearest = vec![f32::INFINITY; rows.len()];
    let (mut centres, mut next) = (Vec::with_capacity(most), 0);
    while centres.len() < most.min(rows.len()) {
        centres.push(next);
        let centre = rows[next];
        nearest[next] = f32::NEG_INFINITY;
        let mut farthest = (0, f32::NEG_INFINITY);
        for (i, row) in rows.iter().enumerate() {
            if nearest[i] > f32::NEG_INFINITY {
                nearest[i] = nearest[i].min(1.0 - dot(centre, row));
                if nearest[i] > farthest.1 {
                    farthest = (i, nearest[i]);
                }
            }
        }
        next = farthest.0;
    }
    let left: Vec<f32> = nearest.into_iter().filter(|d| d.is_finite()).collect();
    let loss = if left.is_empty() { 0.0 } else { left.iter().sum::<f32>() / left.len() as f32 };
    (centres, loss)
}

/// Inner product, in sums that a compiler can vectorise.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (mut left, mut right) = (a.chunks_exact(16), b.chunks_exact(16));
    for (a, b) in left.by_ref().zip(right.by_ref()) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// `config` with a bank of these photos, and its tensors.
///
/// # Errors
/// [`Error::Config`] if there are no photos; [`Error::Tensor`] if a feature is not finite.
pub fn memory(config: &MemoryConfig, photos: &[&Features], bank: &Bank) -> Result<(MemoryConfig, Weights)> {
    let width = config.encoder.hidden_size;
    let mut weights = Weights::default();
    let mut count = 0;
    for group in 0..bank.kept.len() {
        let rows: Vec<f16> =
            photos.iter().enumerate().flat_map(|(i, photo)| bank.rows(group, i, photo, width)).collect();
        count = rows.len() / width;
        for (piece, first, rows_of_piece) in bank_pieces(count) {
            let values = rows[first * width..][..rows_of_piece * width].to_vec();
            let tensor = HostTensor { shape: vec![rows_of_piece, width], data: Data::F16(values) };
            weights.0.insert(format!("memory.{group}.rows.{piece}.weight"), tensor);
        }
    }
    if count == 0 {
        return Err(Error::config("there are no photos to make a bank of"));
    }
    let config = MemoryConfig { memory: MemoryKind::Bank { rows: count }, ..config.clone() };
    config.validate()?;
    weights.check_finite()?;
    Ok((config, weights))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_cover_what_they_leave() {
        let unit = |angle: f32| vec![angle.cos(), angle.sin()];
        // Three clusters: the farthest comes second, then what neither covers.
        let rows: Vec<Vec<f32>> = [0.0, 0.01, 3.0, 3.01, 1.5].map(unit).to_vec();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let (found, loss) = centres(&rows, 3);
        assert_eq!(found, [0, 3, 4]);
        assert!(loss > 0.0 && loss < 1e-4, "{loss}");
        let (all, none) = centres(&rows, 9);
        assert_eq!((all.len(), none), (5, 0.0));
    }
}
