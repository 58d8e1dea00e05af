//! One training run: photos split, features cached, steps taken, checkpoints written.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use candle_core::Device;
use dinomaly_core::tensor::named::Weights;
use serde::{Deserialize, Serialize};

use crate::dataset::counted;
use crate::dataset::split::Split;
use crate::features::augmentation::AugmentedPhotos;
use crate::features::photo_encoder::PhotoEncoder;
use crate::features::{FeatureCache, Limits};
use crate::system::background_job::BackgroundJob;
use crate::system::interrupt::Interrupt;
use crate::system::progress::Progress;
use crate::training::RecentLosses;
use crate::training::checkpoint::{self, Interval};
use crate::training::head::TrainableHead;
use crate::training::recipe::Recipe;
use crate::training::replicas::{Team, check_equal};
use crate::training::tensorboard::Events;
use crate::training::trainer::{Batches, Step, Trainer};

/// State of a run in its checkpoint. Only the same command on the same photos resumes a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    recipe: Recipe,
    losses: RecentLosses,
}

/// Resources of a run.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// Limits of cached features.
    pub limits: Limits,
    /// Folder for features beyond the limits.
    pub folder: &'a Path,
    /// Interval between checkpoints.
    pub checkpoints: Interval,
}

/// Photos to train on.
enum TrainingPhotos<'a> {
    /// Each with the same features in every batch.
    Cached(FeatureCache),
    /// Each encoded whenever it is drawn.
    Augmented(AugmentedPhotos<'a>),
}

impl TrainingPhotos<'_> {
    /// Number of photos, or of their tiles.
    fn count(&self) -> usize {
        match self {
            Self::Cached(cache) => cache.len(),
            Self::Augmented(photos) => photos.count(),
        }
    }
}

/// A run, new or resumed.
pub struct Run {
    trainer: Trainer,
    recipe: Recipe,
    losses: RecentLosses,
    checkpoint: PathBuf,
    /// Writes the last checkpoint.
    writing: BackgroundJob,
    /// Start of the last checkpoint, or of the run.
    saved: Instant,
    device: Device,
    events: Option<Events>,
}

impl Run {
    /// Starts a run, or resumes the one in `checkpoint`.
    ///
    /// # Errors
    /// If the checkpoint is damaged, or of a run with another recipe; the error names the options that differ.
    pub fn begin(recipe: Recipe, checkpoint: PathBuf, device: Device) -> Result<Self> {
        let earlier: Option<State> = checkpoint::read(&checkpoint)?;
        if let Some(difference) =
            earlier.as_ref().map(|earlier| earlier.recipe.difference(&recipe)).transpose()?.flatten()
        {
            bail!(
                "{} is the checkpoint of an unfinished run with other settings ({difference}): repeat its command to finish it, or discard it with --restart",
                checkpoint.display()
            );
        }
        let (config, settings) = (recipe.config.clone(), recipe.settings.clone());
        let head = TrainableHead::fresh(&config, settings.seed, &device)?;
        let mut trainer = Trainer::new(config, settings, head, device.clone())?;
        let mut losses = RecentLosses::default();
        if let Some(earlier) = earlier {
            checkpoint::restore(&checkpoint, &mut trainer.optimizer, earlier.losses.iterations())?;
            losses = earlier.losses;
            trainer.iteration = losses.iterations();
        }
        let (writing, saved) = (BackgroundJob::default(), Instant::now());
        Ok(Self { trainer, recipe, losses, checkpoint, writing, saved, device, events: None })
    }

    /// Writes all further steps to a TensorBoard event file in this folder.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn note_events(&mut self, folder: &Path) -> Result<()> {
        self.events = Some(Events::begin(folder, self.trainer.iteration)?);
        Ok(())
    }

    /// Trains to the end of the schedule, alone or as one of a `team`; `false` after Ctrl-C, with a checkpoint.
    ///
    /// # Errors
    /// If a photo cannot be read, the disk is full, losses are not finite, the team cannot split a batch evenly, or a replica fails.
    pub fn train(
        &mut self,
        encoder: &PhotoEncoder,
        split: &Split,
        room: Room<'_>,
        interrupt: &Interrupt,
        team: Option<Team>,
    ) -> Result<bool> {
        self.trainer.team = team;
        if self.speaks() && self.trainer.iteration > 0 {
            println!("resuming after iteration {}", self.trainer.iteration);
        }
        let outcome = self.steps(encoder, split, room, interrupt).and_then(|finished| {
            self.trainer.team.as_ref().map_or(Ok(()), |team| team.close())?;
            Ok(finished)
        });
        // After a failure it is dropped without `close`, which frees the others.
        self.trainer.team = None;
        let written = self.writing.wait();
        if let (Err(_), Err(also)) = (&outcome, &written) {
            eprintln!("dinomaly: {also:#}");
        }
        outcome.and_then(|finished| written.map(|()| finished))
    }

    fn steps(&mut self, encoder: &PhotoEncoder, split: &Split, room: Room<'_>, interrupt: &Interrupt) -> Result<bool> {
        let Room { limits, folder, checkpoints } = room;
        let total = self.trainer.settings.schedule.iterations;
        if self.trainer.iteration >= total {
            return Ok(true);
        }
        let Some(photos) = self.photos(encoder, split, limits, folder, interrupt)? else { return Ok(false) };
        let batches = Batches::of(&self.trainer.settings, photos.count());
        let part = self.part(batches.size())?;
        if self.speaks() && batches.is_replaced() {
            println!(
                "{} to train on are fewer than a batch: each batch draws {} with replacement",
                counted(photos.count(), "photo", "photos"),
                batches.size()
            );
        }
        let progress = Progress::resumed("training", self.trainer.iteration, total, "iterations").shown(self.speaks());
        let (begun, first) = (Instant::now(), self.trainer.iteration);
        let mut since = Instant::now();
        self.saved = since;
        while self.trainer.iteration < total {
            let indices = batches.indices(self.trainer.iteration);
            let of_part = &indices[part.clone()];
            let features = match &photos {
                TrainingPhotos::Cached(cache) => cache.batch(of_part, &self.device)?,
                TrainingPhotos::Augmented(photos) => photos.batch(of_part, self.trainer.iteration, part.start)?,
            };
            self.trainer.advance(&features)?;
            let done = self.trainer.iteration;
            let asked = self.any(interrupt.asked())?;
            let reads = done.is_multiple_of(self.read_every());
            let saves = done == total || asked || self.is_due(checkpoints, reads)?;
            if saves || reads {
                let steps = self.trainer.read()?;
                let (read, seconds) = (steps.len(), since.elapsed().as_secs_f64());
                since = Instant::now();
                let photos = (read * indices.len()) as f64 / seconds;
                self.note(&steps, photos)?;
                progress.advance(read, || {
                    let photos = ((done - first) * indices.len()) as f64 / begun.elapsed().as_secs_f64();
                    let rate = steps.last().map_or(0.0, |step| step.learning_rate);
                    format!("loss {:.4} · lr {rate:.2e} · {photos:.1} photos/s", self.losses.mean())
                });
            }
            if saves {
                self.save()?;
            }
            if asked && done < total {
                return Ok(false);
            }
        }
        progress.finish();
        Ok(true)
    }

    /// The photos to train on, encoded once and for all unless they are augmented; `None` after Ctrl-C.
    fn photos<'a>(
        &self,
        encoder: &'a PhotoEncoder,
        split: &Split,
        limits: Limits,
        folder: &Path,
        interrupt: &Interrupt,
    ) -> Result<Option<TrainingPhotos<'a>>> {
        let settings = &self.trainer.settings;
        if !settings.augmentation.is_none() {
            return Ok(Some(TrainingPhotos::Augmented(AugmentedPhotos::read(encoder, &split.train, settings.seed)?)));
        }
        let element = settings.precision.element();
        let mut cache = FeatureCache::new(&self.trainer.config, encoder.tokens(), element, limits, folder)?;
        if self.speaks() && !encoder.is_tiled() {
            println!("{}", cache.plan(split.train.len(), "photos"));
        }
        let filled = encoder.fill(&mut cache, &split.train, interrupt, self.speaks())?;
        if self.any(!filled)? {
            return Ok(None);
        }
        // Their number is known when all photos were read.
        if self.speaks() && encoder.is_tiled() {
            println!("{}", cache.plan(cache.len(), "tiles"));
        }
        Ok(Some(TrainingPhotos::Cached(cache)))
    }

    /// Whether this is the replica that prints and writes: the first or only one.
    fn speaks(&self) -> bool {
        self.trainer.team.as_ref().is_none_or(|team| team.rank() == 0)
    }

    /// Whether any replica was asked to stop.
    fn any(&self, asked: bool) -> Result<bool> {
        Ok(match &self.trainer.team {
            Some(team) => team.any(asked)?,
            None => asked,
        })
    }

    /// This replica's photos in each batch.
    fn part(&self, batch: usize) -> Result<Range<usize>> {
        let (rank, replicas) = self.trainer.team.as_ref().map_or((0, 1), |team| (team.rank(), team.replicas()));
        if !batch.is_multiple_of(replicas) {
            bail!(
                "a batch of {batch} photos cannot be split evenly over {replicas} devices: choose a --batch that can, of at most all photos"
            );
        }
        let size = batch / replicas;
        Ok(rank * size..(rank + 1) * size)
    }

    /// Iterations between two reads of their results. On a GPU each read waits for all queued work.
    fn read_every(&self) -> usize {
        if self.device.is_cpu() { 1 } else { 50 }
    }

    /// Whether to write a checkpoint, at the same iteration in all replicas. The first replica's clock decides, and only when results
    /// are read, which waits anyway.
    fn is_due(&self, interval: Interval, reads: bool) -> Result<bool> {
        let over = || interval.is_over(self.trainer.iteration, self.saved.elapsed());
        match interval {
            Interval::Iterations(_) => Ok(over()),
            Interval::Time(_) if reads => self.any(self.speaks() && !self.writing.is_busy() && over()),
            Interval::Time(_) => Ok(false),
        }
    }

    /// Keeps the losses of the last steps, and writes them to the event file.
    fn note(&mut self, steps: &[Step], photos_per_second: f64) -> Result<()> {
        for step in steps {
            self.losses.push(step.loss);
            if !step.counts() && self.speaks() {
                eprintln!(
                    "dinomaly: iteration {} was skipped: its loss is {} and its gradient norm {}",
                    self.losses.iterations(),
                    step.loss,
                    step.gradient_norm
                );
            }
            if let Some(events) = &mut self.events {
                let values = [
                    ("loss", step.loss),
                    ("learning rate", step.learning_rate),
                    ("gradient norm", step.gradient_norm),
                    ("easy share", self.trainer.settings.schedule.mining(self.losses.iterations() - 1).rate),
                    ("photos per second", photos_per_second),
                ];
                events.add(self.losses.iterations(), &values)?;
            }
        }
        Ok(())
    }

    /// Starts to write a checkpoint, if this is the replica that writes.
    fn save(&mut self) -> Result<()> {
        self.saved = Instant::now();
        if let Some(team) = &self.trainer.team {
            check_equal(team.as_ref(), &self.trainer.head.variables)?;
        }
        if !self.speaks() {
            return Ok(());
        }
        // One snapshot at a time, because it is as large as the model and its moments.
        self.writing.wait()?;
        let state = State { recipe: self.recipe.clone(), losses: self.losses.clone() };
        let (path, snapshot) = (self.checkpoint.clone(), checkpoint::Snapshot::of(&self.trainer.optimizer)?);
        self.writing.begin(move || snapshot.write(&path, &state))
    }

    /// Number of finished iterations.
    pub fn iteration(&self) -> usize {
        self.trainer.iteration
    }

    /// Losses of the last iterations.
    pub fn losses(&self) -> &RecentLosses {
        &self.losses
    }

    /// The trained weights.
    ///
    /// # Errors
    /// If the device fails.
    pub fn head_weights(&self) -> Result<Weights> {
        Ok(self.trainer.head.weights()?)
    }
}
