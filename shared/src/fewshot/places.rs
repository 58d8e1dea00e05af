//! Good patches at their places on the grid (RAD, arXiv 2601.22763), thinned for each place if they are too many.

use std::ops::Range;

use half::f16;

use super::Features;
use super::bank::{centres, dot};
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::memory::bank_pieces;
use crate::tensor::named::Weights;
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Patches that a memory holds at each place. Its slots are photos; where a class is thinned, a slot holds patches of several photos
/// of the class, and the class token of one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedBank {
    width: usize,
    /// Side of the grid in patches.
    grid: usize,
    /// Of each group of layers the photo of each row `[slots, grid²]`.
    kept: Vec<Vec<usize>>,
    /// Photo whose class token each slot has.
    class_tokens: Vec<usize>,
    /// Photos and slots of each class.
    classes: Vec<(Range<usize>, Range<usize>)>,
    /// Number of nearest slots that a photo is compared with.
    nearest: usize,
    /// Mean distance of the dropped patches to the nearest kept one of their place and class; 0 if none is dropped.
    pub loss: f32,
}

impl PlacedBank {
    /// Patches of these classes' photos on a grid of `grid × grid` patches, of each place and group of layers at most `most`: all of
    /// them, or of each class its share, at least one, those that greedy k-centre keeps. `nearest`: number of photos that a photo is
    /// compared with; of a thinned bank no more than the largest class has slots, because these stand for all its photos.
    ///
    /// # Errors
    /// [`Error::Config`] if a class has no photos, or there is no room for one of each.
    pub fn of(classes: &[&[&Features]], width: usize, grid: usize, nearest: usize, most: usize) -> Result<Self> {
        let (photos, patches): (Vec<&Features>, _) = (classes.concat(), grid * grid);
        if classes.iter().any(|photos| photos.is_empty()) || photos.is_empty() {
            return Err(Error::config("a class has no photos"));
        }
        if most < classes.len() {
            return Err(Error::config(format!(
                "a bank of this size has room for {most} patches at each place, and there are {} classes: allow a larger one",
                classes.len()
            )));
        }
        let groups = photos[0].groups.len();
        let mut bank = Self {
            width,
            grid,
            kept: vec![Vec::new(); groups],
            class_tokens: Vec::new(),
            classes: Vec::new(),
            nearest,
            loss: 0.0,
        };
        // Of a thinned bank one slot for each class, and the others in proportion.
        let (room, rest) = (most - classes.len(), photos.len() - classes.len());
        let shared = |photos: usize| (2 * room * photos + rest) / (2 * rest).max(1);
        let (mut first, mut dropped, mut largest) = (0, 0, 0);
        for (i, class) in classes.iter().enumerate() {
            let of_class = first..first + class.len();
            let slots = match photos.len() <= most {
                true => class.len(),
                false => 1 + shared(of_class.end - i - 1) - shared(first - i),
            };
            first = of_class.end;
            largest = largest.max(slots);
            let begin = bank.class_tokens.len();
            bank.classes.push((of_class.clone(), begin..begin + slots));
            if slots == class.len() {
                bank.class_tokens.extend(of_class.clone());
                let rows = || of_class.clone().flat_map(|photo| (0..patches).map(move |_| photo));
                bank.kept.iter_mut().for_each(|kept| kept.extend(rows()));
                continue;
            }
            let tokens: Vec<&[f32]> = class.iter().map(|photo| &photo.class_token[..]).collect();
            bank.class_tokens.extend(centres(&tokens, slots).0.into_iter().map(|photo| of_class.start + photo));
            for (group, kept) in bank.kept.iter_mut().enumerate() {
                let before = kept.len();
                kept.resize(before + slots * patches, 0);
                for place in 0..patches {
                    let rows: Vec<&[f32]> =
                        class.iter().map(|photo| &photo.groups[group][place * width..][..width]).collect();
                    let (found, loss) = centres(&rows, slots);
                    for (slot, photo) in found.into_iter().enumerate() {
                        kept[before + slot * patches + place] = of_class.start + photo;
                    }
                    bank.loss += loss * (class.len() - slots) as f32;
                }
                dropped += (class.len() - slots) * patches;
            }
        }
        if dropped > 0 {
            bank.loss /= dropped as f32;
            bank.nearest = nearest.min(largest);
        }
        Ok(bank)
    }

    /// Whether patches were dropped.
    pub(super) fn is_thinned(&self) -> bool {
        self.class_tokens.len() < self.classes.last().map_or(0, |(photos, _)| photos.end)
    }

    /// Rows of a group `[slots · grid², width]`, in half precision as they are published. Those of photos that are `left_out` are
    /// replaced by a row of another photo at the same place, of the bank if it has one.
    pub(super) fn rows(&self, group: usize, photos: &[&Features], left_out: &dyn Fn(usize) -> bool) -> Vec<f16> {
        let (width, patches) = (self.width, self.grid * self.grid);
        let row = |(row, &photo): (usize, &usize)| {
            let place = row % patches;
            let photo = if left_out(photo) { self.other(group, photo, place, left_out) } else { photo };
            photos[photo].groups[group][place * width..][..width].iter().map(|&v| f16::from_f32(v))
        };
        self.kept[group].iter().enumerate().flat_map(row).collect()
    }

    /// Another photo of the same class, which is not left out; the photo itself, if there is none.
    fn other(&self, group: usize, photo: usize, place: usize, left_out: &dyn Fn(usize) -> bool) -> usize {
        let Some((photos, slots)) = self.classes.iter().find(|(photos, _)| photos.contains(&photo)) else {
            return photo;
        };
        let kept = slots.clone().map(|slot| self.kept[group][slot * self.grid * self.grid + place]);
        kept.chain(photos.clone()).find(|&other| !left_out(other)).unwrap_or(photo)
    }

    /// Which slots a photo with this class token is compared with `[slots]`, 1 or 0. If no patch was dropped, never the photo
    /// `without`.
    pub(super) fn chosen(&self, class_token: &[f32], photos: &[&Features], without: Option<usize>) -> Vec<f32> {
        let cosine = |slot: &usize| dot(class_token, &photos[self.class_tokens[*slot]].class_token);
        let is_out = |slot: &usize| !self.is_thinned() && Some(self.class_tokens[*slot]) == without;
        let mut slots: Vec<usize> = (0..self.class_tokens.len()).filter(|slot| !is_out(slot)).collect();
        slots.sort_by(|a, b| cosine(b).total_cmp(&cosine(a)));
        let mut chosen = vec![0.0; self.class_tokens.len()];
        slots.iter().take(self.nearest).for_each(|&slot| chosen[slot] = 1.0);
        chosen
    }
}

/// `config` with a memory of these photos at their places, and its tensors.
///
/// # Errors
/// [`Error::Config`] if the bank is too large; [`Error::Tensor`] if a feature is not finite.
pub fn memory(config: &MemoryConfig, photos: &[&Features], bank: &PlacedBank) -> Result<(MemoryConfig, Weights)> {
    let MemoryKind::Places { reach, .. } = config.memory else {
        return Err(Error::config(format!("a memory of places cannot be made for a {}", config.memory)));
    };
    let (slots, width) = (bank.class_tokens.len(), bank.width);
    let memory = MemoryKind::Places { photos: slots, grid: bank.grid, nearest: bank.nearest, reach };
    let config = MemoryConfig { memory, ..config.clone() };
    config.validate()?;
    let mut weights = Weights::default();
    for group in 0..bank.kept.len() {
        let rows = bank.rows(group, photos, &|_| false);
        for (piece, first, count) in bank_pieces(rows.len() / width) {
            let tensor = rows_of_piece(&rows, width, first, count);
            weights.0.insert(format!("memory.{group}.places.{piece}.weight"), tensor);
        }
    }
    let class_tokens = bank.class_tokens.iter().flat_map(|&photo| photos[photo].class_token.iter().copied()).collect();
    weights.0.insert("memory.class_tokens".into(), HostTensor::f32([slots, width], class_tokens)?);
    weights.check_finite()?;
    Ok((config, weights))
}

/// A piece of a bank's rows.
pub(super) fn rows_of_piece(rows: &[f16], width: usize, first: usize, count: usize) -> HostTensor {
    HostTensor { shape: vec![count, width], data: Data::F16(rows[first * width..][..count * width].to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::super::PreparedPhoto;
    use super::*;
    use crate::photo::decode::Photo;

    const WIDTH: usize = 2;

    /// A photo of two by two patches, all at this angle but the last, which is at another one.
    fn photo(angle: f32, last: f32) -> Features {
        let unit = |angle: f32| [angle.cos(), angle.sin()];
        Features {
            groups: vec![[unit(angle), unit(angle), unit(angle), unit(last)].concat()],
            class_token: unit(angle).to_vec(),
            descriptors: Vec::new(),
            copies: 1,
            plan: None,
            photo: PreparedPhoto { picture: Photo { width: 0, height: 0, rgb: Vec::new() }, sha256: [0; 32] },
        }
    }

    fn bank(classes: &[&[&Features]], nearest: usize, most: usize) -> PlacedBank {
        PlacedBank::of(classes, WIDTH, 2, nearest, most).unwrap()
    }

    #[test]
    fn all_is_kept_if_there_is_room() {
        let photos = [0.0, 0.1, 0.2].map(|angle| photo(angle, 1.0));
        let all: Vec<&Features> = photos.iter().collect();
        let bank = bank(&[&all[..1], &all[1..]], 7, 3);
        assert!(!bank.is_thinned() && bank.loss == 0.0);
        assert_eq!((bank.nearest, &bank.class_tokens), (7, &vec![0, 1, 2]));
        assert_eq!(bank.kept, [[[0; 4], [1; 4], [2; 4]].concat()]);
        assert_eq!(bank.chosen(&all[1].class_token, &all, Some(1)), [1.0, 0.0, 1.0], "not with itself");
    }

    #[test]
    fn each_place_is_thinned_apart_and_each_class_keeps_its_share() {
        let angles = [(0.0, 2.0), (0.01, 0.0), (1.0, 2.01), (1.01, 1.0), (3.0, 3.0), (3.01, 3.0)];
        let photos = angles.map(|(angle, last)| photo(angle, last));
        let all: Vec<&Features> = photos.iter().collect();
        let bank = bank(&[&all[..4], &all[4..]], 5, 3);
        // Of four photos two, the first and the farthest of each place; of two photos one.
        assert_eq!(bank.kept, [[0, 0, 0, 0, 3, 3, 3, 1, 4, 4, 4, 4].to_vec()]);
        assert_eq!((bank.class_tokens.as_slice(), bank.nearest), (&[0, 3, 4][..], 2));
        assert!(bank.is_thinned() && bank.loss > 0.0 && bank.loss < 0.1, "{}", bank.loss);
        assert_eq!(bank.chosen(&all[1].class_token, &all, Some(1)), [1.0, 1.0, 0.0]);
        // Left out, a row gives way to one of the bank at its place, and without one to another photo.
        let rows = |left_out: usize| bank.rows(0, &all, &|photo| photo == left_out);
        let place = |rows: &[f16], row: usize| rows[row * WIDTH].to_f32();
        let near = |a: f32, angle: f32| (a - angle.cos()).abs() < 1e-3;
        assert!(near(place(&rows(3), 4), 0.0) && near(place(&rows(3), 7), 0.0));
        assert!(near(place(&rows(1), 7), 2.0) && near(place(&rows(1), 4), 1.01));
        assert!(near(place(&rows(4), 8), 3.01));
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let photos = [0.0, 1.0].map(|angle| photo(angle, 1.0));
        let all: Vec<&Features> = photos.iter().collect();
        let error = |classes: &[&[&Features]]| PlacedBank::of(classes, WIDTH, 2, 1, 1).unwrap_err().to_string();
        assert!(
            error(&[&all[..1], &all[1..]]).contains("has room for 1 patches at each place, and there are 2 classes")
        );
        assert!(error(&[&[]]).contains("a class has no photos"));
    }
}
