//! A teacher's file → a student's file, with checkpoints.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::EncoderConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::distill::{DistillationSettings, Distiller};
use crate::encoders::backbone;
use crate::system::atomic::{check_file, check_other};
use crate::system::device::DeviceChoice;
use crate::system::interrupt::{Interrupt, Stopped};
use crate::system::progress::Progress;
use crate::training::RecentLosses;
use crate::training::checkpoint;
use crate::training::schedule::Schedule;

/// Iterations between checkpoints.
const CHECKPOINT_EVERY: usize = 200;

/// The encoder to imitate, the student and the training.
#[derive(Clone, Debug)]
pub struct DistillationPlan {
    /// Checkpoint of the encoder to imitate.
    pub teacher: PathBuf,
    /// Number of the teacher's attention heads; if omitted, what the files beside it say, or that of published encoders of its shape.
    pub teacher_heads: Option<usize>,
    /// File to write the student to.
    pub student: PathBuf,
    /// Earlier student of the same shape to start from; if omitted, random weights.
    pub from: Option<PathBuf>,
    /// Channels of the student.
    pub width: usize,
    /// Number of the student's attention heads; if omitted, the teacher's.
    pub heads: Option<usize>,
    /// Number of the student's blocks.
    pub depth: usize,
    /// Side of the student's patches, in pixels.
    pub patch: usize,
    /// Side of the training pictures, in patches.
    pub grid: usize,
    /// Pictures per batch.
    pub batch: usize,
    /// Number of optimiser steps.
    pub iterations: usize,
    /// Steps that train each block on its own, before the whole encoder; if omitted, half, and none with an earlier student.
    pub alone: Option<usize>,
    /// Peak learning rate; the last is a hundredth of it.
    pub lr: f64,
    /// Seed of initial weights and pictures.
    pub seed: u64,
    /// Whether to discard the checkpoint of an unfinished run.
    pub restart: bool,
    /// The device to compute on.
    pub device: DeviceChoice,
}

impl DistillationPlan {
    /// A student of width 144 with twelve blocks, on the processor.
    pub fn new(teacher: impl Into<PathBuf>, student: impl Into<PathBuf>) -> Self {
        Self {
            teacher: teacher.into(),
            teacher_heads: None,
            student: student.into(),
            from: None,
            width: 144,
            heads: None,
            depth: 12,
            patch: 16,
            grid: 8,
            batch: 16,
            iterations: 10_000,
            alone: None,
            lr: 2e-3,
            seed: 1,
            restart: false,
            device: DeviceChoice::Cpu,
        }
    }
}

/// State of a run in its checkpoint.
#[derive(Serialize, Deserialize)]
struct State {
    settings: DistillationSettings,
    teacher: String,
    /// Hash of the student that the run started from.
    #[serde(default)]
    from: Option<String>,
    losses: RecentLosses,
}

/// Distills an encoder. An unfinished run of the same plan is resumed. Returns the share of the teacher's variance that the
/// student does not explain, on held-out pictures.
///
/// # Errors
/// One sentence that names the cause, or [`Stopped`] if `interrupt` asked. The last checkpoint is kept.
pub fn distill(plan: &DistillationPlan, interrupt: &Interrupt) -> Result<f64> {
    for source in std::iter::once(&plan.teacher).chain(&plan.from) {
        check_other(source, &plan.student)?;
    }
    check_file(&plan.student)?;
    let device = plan.device.open()?;
    let teacher = backbone::read(&plan.teacher, plan.teacher_heads)?;
    let teacher_hash = hex(&fs::read(&plan.teacher)?);
    let from = plan.from.as_ref().map(|path| backbone::read(path, None)).transpose()?;
    let from_hash = plan.from.as_ref().map(fs::read).transpose()?.map(|bytes| hex(&bytes));
    let heads = plan.heads.unwrap_or(teacher.config.num_attention_heads);
    if heads == 0 || plan.width == 0 || !plan.width.is_multiple_of(heads) {
        bail!("--width {} is not a multiple of the {heads} attention heads", plan.width);
    }
    let name = plan.student.file_stem().context("--student names no file")?.to_string_lossy().into_owned();
    let settings = DistillationSettings {
        student: EncoderConfig {
            name,
            hidden_size: plan.width,
            num_attention_heads: heads,
            num_hidden_layers: plan.depth,
            intermediate_size: 4 * plan.width,
            patch_size: plan.patch,
            num_register_tokens: 0,
            position_grid: plan.grid,
            layer_norm_eps: 1e-6,
            mlp: Default::default(),
            positions: Default::default(),
            resampling: Default::default(),
        },
        batch: plan.batch,
        alone: if from.is_some() { 0 } else { plan.alone.unwrap_or(plan.iterations / 2) },
        seed: plan.seed,
        schedule: Schedule { peak: plan.lr, last: plan.lr / 100.0, ..Schedule::official(plan.iterations) },
    };
    let checkpoint = plan.student.with_extension("training");
    if plan.restart && checkpoint.exists() {
        fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    let earlier: Option<State> = checkpoint::read(&checkpoint)?;
    if earlier.as_ref().is_some_and(|earlier| {
        earlier.settings != settings || earlier.teacher != teacher_hash || earlier.from != from_hash
    }) {
        bail!(
            "{} is the checkpoint of an unfinished run with another teacher, another --from or other settings: repeat its command to finish it, or discard it with --restart",
            checkpoint.display()
        );
    }
    println!("student of {} parameters imitates {}", parameters(&settings.student), teacher.config.name);
    let mut distiller = Distiller::new(&teacher, from.as_ref(), settings, device)?;
    let alone = distiller.settings().alone;
    let mut losses = RecentLosses::default();
    if let Some(earlier) = earlier {
        checkpoint::restore(&checkpoint, &mut distiller.optimizer.state, earlier.losses.iterations())?;
        losses = earlier.losses;
        println!("resuming after iteration {}", losses.iterations());
    }
    let progress = Progress::resumed("distilling", losses.iterations(), plan.iterations, "iterations");
    let (begun, first) = (Instant::now(), losses.iterations());
    for iteration in first..plan.iterations {
        losses.push(distiller.step(iteration)?);
        progress.advance(1, || {
            let pictures = ((losses.iterations() - first) * plan.batch) as f64 / begun.elapsed().as_secs_f64();
            let part = if losses.iterations() <= alone { "single blocks" } else { "whole encoder" };
            format!("{part}, loss {:.4} · {pictures:.0} pictures/s", losses.mean())
        });
        if losses.iterations().is_multiple_of(CHECKPOINT_EVERY) || interrupt.asked() {
            let state = State {
                settings: distiller.settings().clone(),
                teacher: teacher_hash.clone(),
                from: from_hash.clone(),
                losses: losses.clone(),
            };
            checkpoint::save(&checkpoint, &distiller.optimizer.state, &state)?;
        }
        if interrupt.asked() {
            return Err(Stopped::after(losses.iterations()).into());
        }
    }
    progress.finish();
    backbone::write(&plan.student, &distiller.backbone()?)?;
    if checkpoint.exists() {
        fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    Ok(distiller.unexplained()?)
}

fn parameters(e: &EncoderConfig) -> usize {
    let (width, hidden) = (e.hidden_size, e.intermediate_size);
    let block = width * (4 * width + 2 * hidden) + 9 * width + hidden;
    e.num_hidden_layers * block
        + 3 * e.patch_size * e.patch_size * width
        + (e.position_grid * e.position_grid + 3) * width
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
