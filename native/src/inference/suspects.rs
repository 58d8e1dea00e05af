//! Photos of good parts → those that the others of their class find odd: probably defective, or of something else.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use dinomaly_core::fewshot::leave_one_out::oddness;
use dinomaly_core::fewshot::subspace::Subspaces;
use dinomaly_core::fewshot::{FeatureEncoder, Features, MemoryChoice, Recipe};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};
use dinomaly_core::photo::window::Window;
use pollster::block_on;
use serde::Serialize;

use super::report;
use crate::dataset::{Dataset, WindowChoice, grey16};
use crate::encoders::embedded;
use crate::encoders::opened::OpenedBackbone;
use crate::features::good_photos::{EncoderTask, GoodPhotoEncoder, encode_good_photos};
use crate::system::device::DeviceChoice;
use crate::system::progress::Progress;

/// Encoder for the search.
#[derive(Clone, Debug, Default)]
pub struct SuspectsPlan {
    /// Checkpoint of a pretrained encoder, or the name of one that was fetched; if omitted, the embedded encoder.
    pub backbone: Option<PathBuf>,
    /// Number of the encoder's attention heads; if omitted, what the files beside it say, or that of published encoders of its shape.
    pub heads: Option<usize>,
    /// Device for the encoder.
    pub device: DeviceChoice,
}

/// Training photos of a class, the oddest first.
#[derive(Clone, Debug, Serialize)]
pub struct ClassSuspects {
    /// Name of the class.
    pub class: String,
    /// All photos, the oddest first; none if there are too few to judge each other.
    pub photos: Vec<Suspect>,
}

/// A photo that others judge.
#[derive(Clone, Debug, Serialize)]
pub struct Suspect {
    /// The photo.
    pub photo: PathBuf,
    /// Its score, divided by the median of its class.
    pub oddness: f32,
}

/// Suspects of all classes.
#[derive(Clone, Debug)]
pub struct Suspects {
    /// By class.
    pub classes: Vec<ClassSuspects>,
    window: Option<Window>,
}

impl ClassSuspects {
    /// Those to look at: a tenth of the photos, at least three.
    pub fn first(&self) -> &[Suspect] {
        &self.photos[..self.photos.len().min(self.photos.len().div_ceil(10).max(3))]
    }
}

impl Suspects {
    /// The photos to look at, as one HTML page without requests.
    ///
    /// # Errors
    /// If a photo cannot be read again.
    pub fn page(&self) -> Result<String> {
        report::suspects_page(&self.classes, self.window)
    }
}

/// Ranks the training photos of each class by how odd they are to partial memories of the others.
///
/// # Errors
/// If there is no encoder or device, or a photo cannot be read.
pub fn suspects(dataset: &Dataset, plan: &SuspectsPlan) -> Result<Suspects> {
    let OpenedBackbone { backbone, .. } = OpenedBackbone::open(plan.backbone.as_deref(), plan.heads.into())?;
    let recipe = Recipe::default();
    let usual = if plan.backbone.is_some() { MemoryChoice::Subspace.side() } else { embedded::GEOMETRY.crop };
    let side = usual / backbone.config.patch_size * backbone.config.patch_size;
    let all: Vec<PathBuf> = dataset.classes.iter().flat_map(|class| class.train.clone()).collect();
    if all.is_empty() {
        bail!("there are no photos to train on, so none is odd among them");
    }
    let window = grey16::window(WindowChoice::default(), &all)?;
    let geometry = Geometry { resize: side, crop: side };
    let preprocessor =
        Preprocessor { geometry, tiles: None, mean: backbone.mean, std: backbone.std, window, resized: Resized::Bytes };
    let blocks = backbone.config.num_hidden_layers;
    let config = recipe.config(backbone.config, blocks)?;
    let encoder =
        GoodPhotoEncoder { config: &config, preprocessor: &preprocessor, weights: &backbone.weights, turns: false };
    let task = Search { dataset, recipe: &recipe };
    let classes = encoder.on(plan.device, task)?;
    Ok(Suspects { classes, window })
}

struct Search<'a> {
    dataset: &'a Dataset,
    recipe: &'a Recipe,
}

impl EncoderTask for Search<'_> {
    type Output = Vec<ClassSuspects>;

    fn run<O: Read>(self, encoder: &FeatureEncoder<O>, batch: usize) -> Result<Vec<ClassSuspects>> {
        let subspaces = Subspaces::new(encoder.config().encoder.hidden_size, self.recipe.variance);
        let mut classes = Vec::new();
        for class in &self.dataset.classes {
            let features = encode_good_photos(encoder, &class.train, batch)?;
            let features: Vec<&Features> = features.iter().collect();
            let progress = Progress::new("judging each photo by the others", features.len(), "photos");
            let found = block_on(oddness(encoder, &features, &subspaces, || progress.advance(1, String::new)))?;
            progress.finish();
            classes.push(ClassSuspects { class: class.name.clone(), photos: ranked(&class.train, &found)? });
        }
        Ok(classes)
    }
}

/// Photos by their scores, the highest first.
fn ranked(photos: &[PathBuf], scores: &[f32]) -> Result<Vec<Suspect>> {
    if scores.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted = scores.to_vec();
    sorted.sort_by(f32::total_cmp);
    let usual = sorted.get(sorted.len() / 2).copied().context("there are scores")?.max(f32::MIN_POSITIVE);
    let suspect = |(photo, score): (&PathBuf, &f32)| Suspect { photo: photo.clone(), oddness: score / usual };
    let mut ranked: Vec<Suspect> = photos.iter().zip(scores).map(suspect).collect();
    ranked.sort_by(|a, b| b.oddness.total_cmp(&a.oddness).then_with(|| a.photo.cmp(&b.photo)));
    Ok(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oddest_come_first_and_a_tenth_is_shown() {
        let photos: Vec<PathBuf> = (0..41).map(|i| format!("{i}.png").into()).collect();
        let scores: Vec<f32> = (0..41).map(|i| 1.0 + ((i * 7) % 41) as f32).collect();
        let photos = ranked(&photos, &scores).unwrap();
        assert!(photos.is_sorted_by(|a, b| a.oddness > b.oddness));
        assert_eq!((photos[20].oddness, photos.len()), (1.0, 41));
        let class = ClassSuspects { class: "nut".into(), photos };
        assert_eq!(class.first().len(), 5);
        let few = ClassSuspects { class: "nut".into(), photos: class.photos[..2].to_vec() };
        assert_eq!(few.first().len(), 2);
        assert!(ranked(&[], &[]).unwrap().is_empty());
    }
}
