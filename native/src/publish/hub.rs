//! A model folder → a model repository on the hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{Kind, MANIFEST, Manifest, Model};
use dinomaly_core::maps::metrics::Metrics;
use sha2::{Digest, Sha256};

use super::card::{CardFacts, card};
use super::licence::Licence;
use crate::encoders::catalogue;
use crate::hub::{Address, Committed, Content, Hub, Publication, RepoKind, Upload};
use crate::inference::evaluation::Evaluation;
use crate::model_dir;

/// The model to publish, and where.
#[derive(Clone, Debug)]
pub struct HubPlan {
    /// Model folder, or its place on the hub.
    pub model: PathBuf,
    /// Repository, and branch.
    pub place: Address,
    /// Whether only its owner sees the repository, if it is made.
    pub private: bool,
    /// Whether files of others there may be replaced.
    pub replace: bool,
    /// Title of the commit; if omitted, one that names the model.
    pub message: Option<String>,
    /// The hub's identifier of the licence; if omitted, the encoder's, if it is known.
    pub licence: Option<String>,
    /// Metrics that `evaluate` wrote, with the data set's name.
    pub metrics: Option<(PathBuf, String)>,
}

/// A model repository that can be published.
pub struct Prepared {
    /// All files.
    pub files: Vec<Upload>,
    /// The card among them.
    pub card: String,
    /// Whether the card names a licence.
    pub has_licence: bool,
    place: Address,
    private: bool,
    replace: bool,
    message: String,
}

/// Checks a model and makes its card.
///
/// # Errors
/// If the model or the file of metrics is unusable, or the place is a folder of a repository.
pub fn prepare(plan: &HubPlan) -> Result<Prepared> {
    let place = plan.place.clone();
    if !place.folder.is_empty() {
        bail!("{place} is a folder of a repository, which holds one model: name the repository alone");
    }
    let folder = model_dir::locate(&plan.model)?;
    let model = model_dir::read(&folder)?;
    let mut manifest = model_dir::read_manifest(&folder)?;
    let known = known_encoder(&model);
    let licence = match &plan.licence {
        Some(id) => Some(Licence::given(id)),
        None => known.and_then(|known| Licence::of(&known.licence)),
    };
    let metrics = plan.metrics.as_ref();
    let metrics = metrics.map(|(path, data)| Ok::<_, anyhow::Error>((read_metrics(path)?, data))).transpose()?;
    let base_model = known.map(|known| known.repo.as_str()).filter(|repo| !repo.is_empty());
    let facts = CardFacts {
        place: &place,
        base_model,
        licence: licence.as_ref(),
        metrics: metrics.as_ref().map(|(metrics, data)| (metrics, data.as_str())),
    };
    let card = card(&model, &facts)?;
    let mut files = Vec::new();
    for entry in &mut manifest.files {
        let content = if entry.kind == Kind::Card {
            entry.bytes = card.len() as u64;
            entry.sha256 = Sha256::digest(&card).iter().map(|byte| format!("{byte:02x}")).collect();
            Content::Bytes(card.clone().into_bytes())
        } else {
            Content::File(folder.join(&entry.name))
        };
        files.push(Upload { path: entry.name.clone(), content });
    }
    files.push(Upload { path: MANIFEST.into(), content: Content::Bytes(manifest_bytes(&manifest)?) });
    let message = plan.message.clone().unwrap_or_else(|| format!("Publish {}", model.name));
    Ok(Prepared {
        files,
        card,
        has_licence: licence.is_some(),
        place,
        private: plan.private,
        replace: plan.replace,
        message,
    })
}

impl Prepared {
    /// Makes the repository, if it is not there, and publishes the model as one commit. An earlier model there is replaced; files of
    /// others stay.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub fn publish(&self) -> Result<Committed> {
        Hub::from_env().publish(&Publication {
            place: &self.place,
            kind: RepoKind::Model,
            private: self.private,
            message: &self.message,
            files: &self.files,
            if_absent: &[],
            owner: &model_dir::OWNER,
            replace: self.replace,
        })
    }
}

fn manifest_bytes(manifest: &Manifest) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(manifest)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The encoder's row of the catalogue: of its name and shape.
fn known_encoder(model: &Model) -> Option<&'static catalogue::KnownBackbone> {
    let encoder = model.config.encoder();
    let known = catalogue::find(&encoder.name).ok()?;
    let shape = (encoder.hidden_size, encoder.num_hidden_layers, encoder.patch_size);
    (shape == (known.width, known.blocks, known.patch)).then_some(known)
}

/// What Python's `evaluate` gives beside the seven metrics of a card.
const BESIDE: [&str; 3] = ["aupimo", "i_f1", "intervals"];

/// Metrics of `evaluate --json`, or those of one data set as Python's `evaluate` gives them.
fn read_metrics(path: &Path) -> Result<Evaluation> {
    let bytes = std::fs::read(path).with_context(|| format!("metrics {} cannot be read", path.display()))?;
    let alone = || -> Option<Metrics> {
        let mut named: serde_json::Map<_, _> = serde_json::from_slice(&bytes).ok()?;
        BESIDE.iter().for_each(|name| drop(named.remove(*name)));
        serde_json::from_value(named.into()).ok()
    };
    let evaluation = serde_json::from_slice(&bytes).or_else(|error| {
        let whole = |mean| Evaluation { classes: Vec::new(), mean, mean_of_samples: None, intervals: None };
        alone().map(whole).ok_or(error)
    });
    let evaluation: Evaluation = evaluation
        .with_context(|| format!("{} holds no metrics: give the file that evaluate --json wrote", path.display()))?;
    if evaluation.mean.values().iter().all(Option::is_none) {
        bail!("{} holds no metric that is defined: evaluate the model on labelled photos", path.display());
    }
    Ok(evaluation)
}
