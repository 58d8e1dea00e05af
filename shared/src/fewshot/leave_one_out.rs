//! Heights of each good photo's map by a memory of all others: what the next good photo may show.

use super::bank::Bank;
use super::places::{PlacedBank, rows_of_piece};
use super::subspace::{Residual, Subspaces};
use super::{FeatureEncoder, Features};
use crate::maps::score::{Heights, mean};
use crate::model::config::MemoryKind;
use crate::model::memory::{PlacedRows, bank_pieces, of_only_subspace};
use crate::ops::{Linear, Ops, Read, Then};
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Number of memories that are made to score photos. With more photos, each leaves out several of them.
const FOLDS: usize = 16;

/// Number of parts of a class's photos, each of which judges the others.
const PARTS: usize = 8;

/// A bank on the encoder's executor, in a piece for each group of layers and photo.
pub(super) struct Pieces<'a, O: Read> {
    encoder: &'a FeatureEncoder<O>,
    /// `None` where no patch of a photo was kept.
    pieces: Vec<Vec<Option<Linear<O::Tensor>>>>,
}

impl<'a, O: Read> Pieces<'a, O> {
    /// The patches that a bank keeps of its photos.
    ///
    /// # Errors
    /// If the executor fails.
    pub(super) fn new(encoder: &'a FeatureEncoder<O>, photos: &[&Features], bank: &Bank) -> Result<Self> {
        let (ops, width) = (encoder.ops(), encoder.config().encoder.hidden_size);
        let piece = |group: usize, photo: usize| -> Result<Option<Linear<O::Tensor>>> {
            let values = bank.rows(group, photo, photos[photo], width);
            if values.is_empty() {
                return Ok(None);
            }
            let tensor = HostTensor { shape: vec![values.len() / width, width], data: Data::F16(values) };
            Ok(Some(Linear { weight: ops.upload_weight(&tensor)?, bias: None }))
        };
        let of_group = |group| (0..photos.len()).map(|photo| piece(group, photo)).collect();
        let pieces = (0..encoder.config().groups.len()).map(of_group).collect::<Result<_>>()?;
        Ok(Self { encoder, pieces })
    }

    /// Heights of a photo's map by the patches of all photos but one; `None` if there are none.
    ///
    /// # Errors
    /// If the executor fails.
    pub(super) async fn heights(&self, photo: &Features, without: Option<usize>) -> Result<Option<Heights>> {
        let ops = self.encoder.ops();
        let kept = |group: usize| {
            let of_others = self.pieces[group].iter().enumerate().filter(move |(i, _)| Some(*i) != without);
            of_others.filter_map(|(_, piece)| piece.as_ref())
        };
        if (0..self.pieces.len()).any(|group| kept(group).next().is_none()) {
            return Ok(None);
        }
        let distances = |group: usize, x: &O::Tensor| -> Result<O::Tensor> {
            let mut nearest = None;
            for piece in kept(group) {
                nearest = Some(ops.nearest(&ops.linear(x, piece, Then::Store)?, nearest.as_ref())?);
            }
            nearest.ok_or_else(|| Error::config("a bank of the other photos has no patches"))
        };
        heights(self.encoder, photo, distances).await.map(Some)
    }
}

/// A bank of places on the encoder's executor, perhaps without some of its photos.
pub(super) struct Placed<'a, O: Read> {
    encoder: &'a FeatureEncoder<O>,
    photos: &'a [&'a Features],
    bank: &'a PlacedBank,
    groups: Vec<PlacedRows<O::Tensor>>,
}

impl<'a, O: Read> Placed<'a, O> {
    /// The patches that a bank keeps of its photos, with others in place of those of photos that are left out.
    ///
    /// # Errors
    /// If the executor fails, or the encoder is for another kind of memory.
    pub(super) fn new(
        encoder: &'a FeatureEncoder<O>,
        photos: &'a [&'a Features],
        bank: &'a PlacedBank,
        left_out: &dyn Fn(usize) -> bool,
    ) -> Result<Self> {
        let MemoryKind::Places { reach, .. } = encoder.config().memory else {
            return Err(Error::config(format!("a {} has no places", encoder.config().memory)));
        };
        let (ops, width, grid) = (encoder.ops(), encoder.config().encoder.hidden_size, encoder.grid());
        let placed = |group: usize| -> Result<PlacedRows<O::Tensor>> {
            let rows = bank.rows(group, photos, left_out);
            let pieces = bank_pieces(rows.len() / width)
                .map(|(_, first, count)| Ok((first, ops.upload_rows(&rows_of_piece(&rows, width, first, count))?)));
            Ok(PlacedRows { grid, reach, pieces: pieces.collect::<Result<_>>()? })
        };
        let groups = (0..encoder.config().groups.len()).map(placed).collect::<Result<_>>()?;
        Ok(Self { encoder, photos, bank, groups })
    }

    /// Heights of a photo's map by the patches of the nearest photos, never those of the photo `without`.
    ///
    /// # Errors
    /// If the executor fails.
    pub(super) async fn heights(&self, photo: &Features, without: Option<usize>) -> Result<Heights> {
        let ops = self.encoder.ops();
        let chosen = self.bank.chosen(&photo.class_token, self.photos, without);
        let chosen = ops.upload(&HostTensor::f32([1, chosen.len()], chosen)?)?;
        heights(self.encoder, photo, |group, x| self.groups[group].distances(ops, x, &chosen)).await
    }
}

/// Heights of the maps of a bank's photos, each by the patches of all others at their places. Of a thinned bank, which mixes photos, several photos
/// are left out at a time. `done` is called after each photo.
///
/// # Errors
/// If the executor fails, or the encoder is for another kind of memory.
pub async fn of_places<O: Read>(
    encoder: &FeatureEncoder<O>,
    photos: &[&Features],
    bank: &PlacedBank,
    mut done: impl FnMut(),
) -> Result<Vec<Heights>> {
    let folds = if bank.is_thinned() { photos.len().min(FOLDS) } else { 1 };
    let mut found = vec![None; photos.len()];
    for fold in 0..folds {
        // A photo that is a slot of its own is left out by not choosing it.
        let left_out = |photo: usize| folds > 1 && photo % folds == fold;
        let placed = Placed::new(encoder, photos, bank, &left_out)?;
        for i in (fold..photos.len()).step_by(folds) {
            found[i] = Some(placed.heights(photos[i], Some(i)).await?);
            done();
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// Heights of the maps of a class's photos, each by a subspace that was made without it. `done` is called after each photo.
///
/// # Errors
/// If the executor fails, or a feature is not finite.
pub async fn of_subspace<O: Read>(
    encoder: &FeatureEncoder<O>,
    photos: &[&Features],
    subspaces: &Subspaces,
    mut done: impl FnMut(),
) -> Result<Vec<Heights>> {
    if photos.len() < 2 {
        return Ok(Vec::new());
    }
    let all = subspaces.sums(photos.iter().copied());
    let folds = photos.len().min(FOLDS);
    let mut found = vec![Heights { score: 0.0, peak: 0.0 }; photos.len()];
    for fold in 0..folds {
        let own: Vec<usize> = (fold..photos.len()).step_by(folds).collect();
        let without = subspaces.sums(own.iter().map(|&i| photos[i]));
        let rest: Vec<_> = all.iter().zip(&without).map(|(all, own)| all.clone().without(own)).collect();
        let residuals = uploaded(encoder, subspaces.residuals(&rest)?)?;
        for i in own {
            found[i] = by_subspaces(encoder, photos[i], &residuals).await?;
            done();
        }
    }
    Ok(found)
}

/// How odd each of a class's photos is to the others: the median of its scores by subspaces of parts of them, of which none holds
/// the photo. A defect that some photos share is known to few parts, and the median asks most of them. Fewer than four photos
/// give no scores. `done` is called after each photo.
///
/// # Errors
/// If the executor fails, or a feature is not finite.
pub async fn oddness<O: Read>(
    encoder: &FeatureEncoder<O>,
    photos: &[&Features],
    subspaces: &Subspaces,
    mut done: impl FnMut(),
) -> Result<Vec<f32>> {
    let parts = (photos.len() / 2).min(PARTS);
    if parts < 2 {
        return Ok(Vec::new());
    }
    let of_part = |part: usize| {
        let sums = subspaces.sums(photos.iter().skip(part).step_by(parts).copied());
        uploaded(encoder, subspaces.residuals(&sums)?)
    };
    let residuals = (0..parts).map(of_part).collect::<Result<Vec<_>>>()?;
    let mut oddness = Vec::with_capacity(photos.len());
    for (i, photo) in photos.iter().enumerate() {
        let mut scores = Vec::with_capacity(parts);
        for (_, residuals) in residuals.iter().enumerate().filter(|(part, _)| i % parts != *part) {
            scores.push(by_subspaces(encoder, photo, residuals).await?.score);
        }
        scores.sort_by(f32::total_cmp);
        oddness.push(scores[scores.len() / 2]);
        done();
    }
    Ok(oddness)
}

/// What a subspace of each group of layers leaves, on the encoder's executor.
pub(super) fn uploaded<O: Read>(
    encoder: &FeatureEncoder<O>,
    residuals: Vec<Residual>,
) -> Result<Vec<Linear<O::Tensor>>> {
    let (ops, width) = (encoder.ops(), encoder.config().encoder.hidden_size);
    let layer = |Residual { weight, bias, .. }: Residual| {
        let weight = ops.upload_weight(&HostTensor::f32([width, width], weight)?)?;
        Ok(Linear { weight, bias: Some(ops.upload(&HostTensor::f32([width], bias)?)?) })
    };
    residuals.into_iter().map(layer).collect()
}

/// Heights of a photo's map by a subspace of each group of layers.
///
/// # Errors
/// If the executor fails.
pub(super) async fn by_subspaces<O: Read>(
    encoder: &FeatureEncoder<O>,
    photo: &Features,
    residuals: &[Linear<O::Tensor>],
) -> Result<Heights> {
    let ops = encoder.ops();
    let width = encoder.config().encoder.hidden_size;
    let distances = |group: usize, x: &O::Tensor| {
        let norms = ops.squared_norms(&ops.linear(x, &residuals[group], Then::Store)?, 1)?;
        of_only_subspace(ops, &norms, x, width)
    };
    heights(encoder, photo, distances).await
}

fn upload<O: Ops>(ops: &O, patches: &[f32], width: usize) -> Result<O::Tensor> {
    ops.upload(&HostTensor::f32([1, patches.len() / width, width], patches.to_vec())?)
}

/// Heights of a photo's map. `distances` gives those of patches `[1, patches, width]` of a group. Of a photo in tiles as many patches as a tile
/// has are on the executor at a time.
async fn heights<O: Read>(
    encoder: &FeatureEncoder<O>,
    photo: &Features,
    distances: impl Fn(usize, &O::Tensor) -> Result<O::Tensor>,
) -> Result<Heights> {
    let (ops, layout, width) = (encoder.ops(), encoder.layout(0), encoder.config().encoder.hidden_size);
    let (share, groups) = (encoder.config().score_share, 0..photo.groups.len());
    let Some(plan) = &photo.plan else {
        let of_group = |group| distances(group, &upload(ops, photo.own(group), width)?);
        let groups = groups.map(of_group).collect::<Result<Vec<_>>>()?;
        let (maps, _) = ops.read_maps(&groups, None, 1, &layout).await?;
        return Ok(Heights::of(&maps[0], share));
    };
    let mut found = Vec::with_capacity(groups.len());
    for group in groups {
        let mut of_group = Vec::new();
        for some in photo.own(group).chunks(layout.tokens() * width) {
            of_group.extend(ops.read_back(&[&distances(group, &upload(ops, some, width)?)?]).await?.concat());
        }
        found.push(of_group);
    }
    let map = layout.stitched(&mean(&found.iter().map(Vec::as_slice).collect::<Vec<_>>()), plan.patches())?;
    Ok(Heights::of(&map, plan.share() * share))
}
