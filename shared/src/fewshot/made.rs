//! Features of good photos → the parts of a published model: memory, thresholds, self-test.

use std::collections::BTreeMap;
use std::fmt;

use super::bank::{self, Bank};
use super::leave_one_out::{self, Pieces, Placed, by_subspaces, uploaded};
use super::places::{self, PlacedBank};
use super::subspace::{self, Subspaces};
use super::thresholds::{self, Rate};
use super::{FeatureEncoder, Features, Measured, MemoryChoice, PreparedPhoto, Recipe};
use crate::bundle::{Calibration, SelfTest};
use crate::detector::{SELF_TEST_SEED, SELF_TEST_TOLERANCE};
use crate::maps::score::Heights;
use crate::model::config::MemoryConfig;
use crate::model::memory::Memory;
use crate::ops::Read;
use crate::photo::decode::Photo;
use crate::photo::preprocess::Preprocessor;
use crate::tensor::named::Weights;
use crate::{Error, Result};

/// Good photos of each class.
pub type GoodPhotos<'a> = BTreeMap<String, Vec<&'a Features>>;

/// What good photos make of an encoder: all of a published model but the encoder's own tensors.
#[derive(Clone, Debug)]
pub struct Made {
    /// Architecture, with the memory's size.
    pub config: MemoryConfig,
    /// Tensors of the memory.
    pub weights: Weights,
    /// Thresholds.
    pub calibration: Calibration,
    /// What the memory says about a generated picture.
    pub self_test: SelfTest,
    /// Mean distance of patches that are left out of a bank to the nearest kept one, of their place if it has places; 0 if none is.
    pub loss: f32,
    /// What the photos do not tell about a class's threshold, as a sentence.
    pub doubts: BTreeMap<String, String>,
    /// Number of good photos.
    pub photos: usize,
    /// Number of files that were left out because another one of the class is equal to it.
    pub repeated: usize,
    turns: bool,
}

/// Makes a memory of good photos, and sets thresholds by each photo's map with a memory of all others. `done` is called after each of
/// these maps.
///
/// # Errors
/// [`Error::Config`] if a class has no photos, a feature is not finite, or a bank has no room for one photo; if the executor fails.
pub async fn make<O: Read>(
    encoder: &FeatureEncoder<O>,
    classes: &GoodPhotos<'_>,
    recipe: &Recipe,
    done: impl FnMut(),
) -> Result<Made> {
    if let Some((class, _)) = classes.iter().find(|(_, photos)| photos.is_empty()) {
        return Err(Error::config(format!("class {class} has no good photos")));
    }
    let given: usize = classes.values().map(Vec::len).sum();
    let classes = &ordered(classes);
    let photos: usize = classes.values().map(Vec::len).sum();
    let Remembered { config, weights, mut good, loss } = match recipe.memory {
        MemoryChoice::Bank => in_bank(encoder, classes, recipe, done).await?,
        MemoryChoice::Places => in_places(encoder, classes, recipe, done).await?,
        MemoryChoice::Subspace => in_subspaces(encoder, classes, recipe, done).await?,
    };
    let memory = encoder.memory(&config, &weights)?;
    let rate = recipe.false_alarm_rate.map_or(Rate::Promised, Rate::Asked);
    let doubts = thresholds::doubts(&good.scores, rate);
    let mut doubts: BTreeMap<String, String> = doubts.into_iter().map(|(class, why)| (class.to_owned(), why)).collect();
    for (class, _) in classes.iter().filter(|(_, photos)| photos.len() == 1) {
        let why = "one photo does not tell how good parts differ; it is set by copies of it, moved by half a patch";
        doubts.insert(class.clone(), why.into());
    }
    for (class, photos) in classes {
        good.describe(class, photos.iter().map(|photo| photo.descriptors.clone()));
    }
    let held_out = classes.values().all(|photos| photos.len() > 1);
    let calibration = thresholds::of_measured(&good, rate, held_out)?;
    let picture = encoder.preprocessor().geometry.cut(&SelfTest::picture_of(SELF_TEST_SEED));
    let map = encoder.maps(&memory, &[picture]).await?.remove(0);
    let Heights { score, .. } = Heights::of(&map, config.score_share);
    let self_test = SelfTest::new(SELF_TEST_SEED, score, &map.values, SELF_TEST_TOLERANCE)?;
    Ok(Made {
        config,
        weights,
        calibration,
        self_test,
        loss,
        doubts,
        photos,
        repeated: given - photos,
        turns: recipe.turns,
    })
}

/// The photos of each class in the order of their hashes, each once.
fn ordered<'a>(classes: &GoodPhotos<'a>) -> GoodPhotos<'a> {
    let mut classes = classes.clone();
    for photos in classes.values_mut() {
        photos.sort_by_key(|features| features.photo.sha256);
        photos.dedup_by_key(|features| features.photo.sha256);
    }
    classes
}

impl Made {
    /// The model card in Markdown.
    pub fn card(&self, name: &str, preprocessor: &Preprocessor) -> String {
        let classes = self.calibration.classes.keys().cloned().collect::<Vec<_>>().join(", ");
        let config = &self.config;
        format!(
            "# {name}\n\n\
             An anomaly detector for {classes}, made of good photos without training.\n\n\
             | | |\n|---|---|\n\
             | encoder | {encoder}, frozen |\n\
             | memory | {memory} of blocks {layers:?}{normed} |\n\
             | geometry | {view} |\n\
             | photos | {photos} good ones{turns} |\n\
             {thresholds}\n",
            encoder = config.encoder.name,
            memory = config.memory,
            view = preprocessor.view(),
            layers = config.target_layers,
            normed = if config.final_norm { ", each after the encoder's final norm" } else { "" },
            photos = self.photos,
            turns = if self.turns { ", each in four quarter turns" } else { "" },
            thresholds = if self.calibration.held_out {
                self.calibration.card_row()
            } else {
                format!("{} of a class of one photo set by copies of it: no promise |", Calibration::CARD_ROW)
            },
        )
    }
}

/// A memory, and what its photos look like without themselves.
struct Remembered {
    config: MemoryConfig,
    weights: Weights,
    good: Measured,
    loss: f32,
}

/// A bank of all classes' photos, with the heights of each photo's map by the patches of all others.
async fn in_bank<O: Read>(
    encoder: &FeatureEncoder<O>,
    classes: &GoodPhotos<'_>,
    recipe: &Recipe,
    mut done: impl FnMut(),
) -> Result<Remembered> {
    let config = encoder.config();
    let width = config.encoder.hidden_size;
    let most = (recipe.bank_size / (2 * width * config.groups.len()) as u64) as usize;
    let photos: Vec<&Features> = classes.values().flatten().copied().collect();
    let patches = photos.first().map_or(0, |photo| photo.own(0).len() / width);
    if most < patches {
        let size = recipe.bank_size;
        let room = if most == 1 { "1 patch".to_owned() } else { format!("{most} patches") };
        return Err(Error::config(format!(
            "a bank of {size} bytes has room for {room} of each layer, and one photo has {patches}: allow a larger one"
        )));
    }
    let bank = Bank::of(&photos, width, most);
    let (config, weights) = bank::memory(config, &photos, &bank)?;
    let pieces = Pieces::new(encoder, &photos, &bank)?;
    let (mut good, mut first) = (Measured::default(), 0);
    for (class, photos) in classes {
        let mut found = Vec::new();
        for (i, photo) in photos.iter().enumerate().filter(|_| photos.len() > 1) {
            found.extend(pieces.heights(photo, Some(first + i)).await?);
            done();
        }
        for copy in copies_of_one(encoder, photos).await? {
            found.extend(pieces.heights(&copy, None).await?);
        }
        good.extend(class, found);
        first += photos.len();
    }
    Ok(Remembered { config, weights, good, loss: bank.loss })
}

/// All classes' photos at their places, with the heights of each photo's map by all others.
async fn in_places<O: Read>(
    encoder: &FeatureEncoder<O>,
    classes: &GoodPhotos<'_>,
    recipe: &Recipe,
    done: impl FnMut(),
) -> Result<Remembered> {
    if encoder.preprocessor().tiles.is_some() {
        return Err(Error::config("a bank of places knows those of one square, not of tiles: take another memory"));
    }
    let (config, grid) = (encoder.config(), encoder.grid());
    let width = config.encoder.hidden_size;
    let most = (recipe.bank_size / (2 * width * config.groups.len() * grid * grid) as u64) as usize;
    let of_class: Vec<&[&Features]> = classes.values().map(Vec::as_slice).collect();
    let bank = PlacedBank::of(&of_class, width, grid, recipe.nearest, most)?;
    let photos = of_class.concat();
    let (config, weights) = places::memory(config, &photos, &bank)?;
    let found = leave_one_out::of_places(encoder, &photos, &bank, done).await?;
    let (mut good, mut first) = (Measured::default(), 0);
    for (class, of_class) in classes {
        let mut of_photos = found[first..first + of_class.len()].to_vec();
        let copies = copies_of_one(encoder, of_class).await?;
        if !copies.is_empty() {
            // One photo has no others.
            of_photos.clear();
            let placed = Placed::new(encoder, &photos, &bank, &|_| false)?;
            for copy in copies {
                of_photos.push(placed.heights(&copy, None).await?);
            }
        }
        good.extend(class, of_photos);
        first += of_class.len();
    }
    Ok(Remembered { config, weights, good, loss: bank.loss })
}

/// A subspace for each class, with the heights of each photo's map by a subspace of the others.
async fn in_subspaces<O: Read>(
    encoder: &FeatureEncoder<O>,
    classes: &GoodPhotos<'_>,
    recipe: &Recipe,
    mut done: impl FnMut(),
) -> Result<Remembered> {
    let subspaces = Subspaces::new(encoder.config().encoder.hidden_size, recipe.variance);
    let photos: Vec<&[&Features]> = classes.values().map(Vec::as_slice).collect();
    let (config, weights) = subspace::memory(encoder.config(), &photos, &subspaces)?;
    let mut good = Measured::default();
    for (class, photos) in classes {
        let mut found = leave_one_out::of_subspace(encoder, photos, &subspaces, &mut done).await?;
        let copies = copies_of_one(encoder, photos).await?;
        if !copies.is_empty() {
            let residuals = uploaded(encoder, subspaces.residuals(&subspaces.sums(photos.iter().copied()))?)?;
            for copy in copies {
                found.push(by_subspaces(encoder, &copy, &residuals).await?);
            }
        }
        good.extend(class, found);
    }
    Ok(Remembered { config, weights, good, loss: 0.0 })
}

/// Features of copies of a class's only photo, moved by half a patch; none if there are several photos.
async fn copies_of_one<O: Read>(encoder: &FeatureEncoder<O>, photos: &[&Features]) -> Result<Vec<Features>> {
    let [one] = photos else { return Ok(Vec::new()) };
    let grid = encoder.preprocessor().geometry.grid(encoder.patch());
    let patches = one.plan.as_ref().map_or([grid; 2], |plan| plan.patches());
    let copies = moved(&one.photo.picture, patches).into_iter();
    encoder.features(copies.map(|picture| PreparedPhoto { picture, sha256: one.photo.sha256 }).collect()).await
}

/// Copies of a photo, moved by half a patch of `[rows, columns]` in both directions, its border repeated: all that one photo has to
/// say about the next one.
pub(super) fn moved(photo: &Photo, [rows, columns]: [usize; 2]) -> Vec<Photo> {
    let (width, height) = (i64::from(photo.width), i64::from(photo.height));
    let step = |side: i64, patches: usize| (side / (2 * patches as i64)).max(1);
    let (right, down) = (step(width, columns), step(height, rows));
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

impl<O: Read> FeatureEncoder<O> {
    /// A memory with these tensors on the encoder's executor.
    pub(super) fn memory(&self, config: &MemoryConfig, weights: &Weights) -> Result<Memory<O::Tensor>> {
        Memory::load(config, &mut |name, shape| weights.upload(self.ops(), &BTreeMap::new(), name, shape))
    }
}

/// For people: its size, and what it lost.
impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.config.memory)?;
        if self.loss > 0.0 {
            write!(f, ", thinned: those left out are at a mean distance of {:.4}", self.loss)?;
        }
        Ok(())
    }
}
