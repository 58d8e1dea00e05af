//! Augmentation for training on few photos (Dinomaly2): every time a photo is drawn it is looked at in another way, so features are
//! not cached.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::Geometry;
use dinomaly_core::photo::resize::resize;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::photo_encoder::PhotoEncoder;
use super::{Features, joined};
use crate::dataset::read_photo;

/// Augmentation of training photos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// None: a photo's features are computed once.
    #[default]
    None,
    /// A random part of the crop's area in place of the centre, turned and mirrored (official `get_strong_transforms`).
    FewShot,
}

impl Augmentation {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::None, Self::FewShot];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FewShot => "few-shot",
        }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A way to look at a photo that was resized to a square.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// Upper left corner of the part, in pixels.
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    /// Turns to the left by 90 degrees.
    turns: usize,
    mirrored: bool,
    upside_down: bool,
}

/// Range of a part's width divided by its height.
const RATIO: [f64; 2] = [0.95, 1.05];

impl View {
    /// A random view: a part with the crop's area and a ratio of sides between 0.95 and 1.05, uniform in its logarithm (torchvision's
    /// `RandomResizedCrop`, which takes the whole square where ten such parts do not fit); then each quarter turn, mirroring and
    /// turning upside down with equal probabilities.
    fn draw(geometry: Geometry, generator: &mut ChaCha8Rng) -> Self {
        let Geometry { resize: side, crop } = geometry;
        let share = crop as f64 / side as f64;
        let area = (side * side) as f64 * (share * share);
        let [low, high] = RATIO.map(f64::ln);
        let mut place = [0, 0, side, side];
        for _ in 0..10 {
            let ratio = (low + (high - low) * generator.random::<f64>()).exp();
            let [width, height] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|x| x.round_ties_even() as usize);
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let [top, left] = [height, width].map(|length| generator.random_range(0..=side - length));
                place = [top, left, height, width];
                break;
            }
        }
        let [top, left, height, width] = place;
        let turns = generator.random_range(0..4);
        Self { top, left, height, width, turns, mirrored: generator.random(), upside_down: generator.random() }
    }

    /// The view of a square of `side` pixels `[side, side, 3]`, resized to `[crop, crop, 3]`.
    fn of(&self, square: &[u8], side: usize, crop: usize) -> Vec<u8> {
        let rows = square.chunks_exact(3 * side).skip(self.top).take(self.height);
        let part: Vec<u8> = rows.flat_map(|row| &row[3 * self.left..][..3 * self.width]).copied().collect();
        let part = resize::<3>(&part, (self.width, self.height), (crop, crop));
        let last = crop - 1;
        let source = |mut y: usize, mut x: usize| {
            // From the result's pixel back to the part's, each step undone.
            if self.upside_down {
                y = last - y;
            }
            if self.mirrored {
                x = last - x;
            }
            match self.turns {
                0 => (y, x),
                1 => (x, last - y),
                2 => (last - y, last - x),
                _ => (last - x, y),
            }
        };
        let pixel = |i: usize| {
            let (y, x) = source(i / crop, i % crop);
            &part[3 * (y * crop + x)..][..3]
        };
        (0..crop * crop).flat_map(pixel).copied().collect()
    }
}

/// Photos that are encoded each time they are drawn. They are in memory, resized: 3 bytes a pixel of [`Geometry::resize`]².
pub struct AugmentedPhotos<'a> {
    encoder: &'a PhotoEncoder,
    squares: Vec<Vec<u8>>,
    seed: u64,
}

impl<'a> AugmentedPhotos<'a> {
    /// Reads and resizes the photos, on all cores.
    ///
    /// # Errors
    /// If a photo cannot be read, which the error names.
    pub fn read(encoder: &'a PhotoEncoder, photos: &[PathBuf], seed: u64) -> Result<Self> {
        let preprocessor = encoder.preprocessor();
        let side = preprocessor.geometry.resize;
        let square = |photo: &PathBuf| -> Result<Vec<u8>> {
            let Photo { width, height, rgb } = read_photo(photo, preprocessor.window)?;
            Ok(resize::<3>(&rgb, (width as usize, height as usize), (side, side)))
        };
        Ok(Self { encoder, squares: photos.par_iter().map(square).collect::<Result<_>>()?, seed })
    }

    /// Number of photos.
    pub fn count(&self) -> usize {
        self.squares.len()
    }

    /// Features of the photos `indices`, which are those from the place `first` on in an iteration's batch. They depend on nothing
    /// but seed, iteration and place, so that a resumed run repeats them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn batch(&self, indices: &[usize], iteration: usize, first: usize) -> Result<Features> {
        let preprocessor = self.encoder.preprocessor();
        let Geometry { resize: side, crop } = preprocessor.geometry;
        let rows = |(place, &index): (usize, &usize)| {
            let view = self.view(iteration, first + place);
            preprocessor.patches_of_cut(&view.of(&self.squares[index], side, crop), self.encoder.patch())
        };
        let rows: Vec<Vec<f32>> = indices.par_iter().enumerate().map(rows).collect();
        joined(rows.chunks(self.encoder.batch()).map(|rows| self.encoder.encode(rows.to_vec())))
    }

    fn view(&self, iteration: usize, place: usize) -> View {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        // Those of noise count up from 1 and from the upper half on, those of batches down from the last.
        generator.set_stream(1 << 62 | iteration as u64);
        // Far more numbers than a view takes.
        generator.set_word_pos(1024 * place as u128);
        View::draw(self.encoder.preprocessor().geometry, &mut generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square whose pixels all differ, with red rows, green columns.
    fn square(side: usize) -> Vec<u8> {
        (0..side * side).flat_map(|i| [(i / side) as u8, (i % side) as u8, 7]).collect()
    }

    /// As by Pillow: turns are to the left, and come before mirroring.
    #[test]
    fn a_view_is_the_part_turned_and_mirrored() {
        let view =
            |turns, mirrored, upside_down| View { top: 1, left: 2, height: 2, width: 2, turns, mirrored, upside_down };
        let places = |view: View| -> Vec<(u8, u8)> {
            view.of(&square(5), 5, 2).chunks_exact(3).map(|pixel| (pixel[0], pixel[1])).collect()
        };
        let (a, b, c, d) = ((1, 2), (1, 3), (2, 2), (2, 3));
        assert_eq!(places(view(0, false, false)), [a, b, c, d]);
        assert_eq!(places(view(1, false, false)), [b, d, a, c]);
        assert_eq!(places(view(2, false, false)), [d, c, b, a]);
        assert_eq!(places(view(3, false, false)), [c, a, d, b]);
        assert_eq!(places(view(0, true, false)), [b, a, d, c]);
        assert_eq!(places(view(0, false, true)), [c, d, a, b]);
        assert_eq!(places(view(1, true, false)), [d, b, c, a]);
    }

    #[test]
    fn views_have_the_crops_area_and_all_their_kinds() {
        let geometry = Geometry { resize: 448, crop: 392 };
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let views: Vec<View> = (0..4000).map(|_| View::draw(geometry, &mut generator)).collect();
        for view in &views {
            let (area, ratio) = ((view.width * view.height) as f64, view.width as f64 / view.height as f64);
            // Half a pixel of each side.
            assert!((area / f64::from(392 * 392) - 1.0).abs() < 0.003, "{view:?}");
            assert!((0.947..1.053).contains(&ratio), "{view:?}");
            assert!(view.top + view.height <= 448 && view.left + view.width <= 448, "{view:?}");
        }
        let share = |is: &dyn Fn(&View) -> bool| views.iter().filter(|view| is(view)).count() as f64 / 4000.0;
        // 4,000 draws: standard deviations of 0.007 and 0.008.
        for turns in 0..4 {
            assert!((share(&|view| view.turns == turns) - 0.25).abs() < 0.035);
        }
        assert!((share(&|view| view.mirrored) - 0.5).abs() < 0.04);
        assert!((share(&|view| view.upside_down) - 0.5).abs() < 0.04);
        assert!(share(&|view| view.width > view.height) > 0.4 && share(&|view| view.width < view.height) > 0.4);
        // Nothing but the whole square fits.
        let whole = Geometry { resize: 1000, crop: 1000 };
        let view = View::draw(whole, &mut generator);
        assert_eq!((view.top, view.left, view.height, view.width), (0, 0, 1000, 1000));
    }
}
