//! `dinomaly distill`: a large encoder → a small one that imitates it.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dinomaly_core::model::config::EncoderConfig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::options::{DeviceOption, within};
use crate::distillation::distill::{DistillationSettings, Distiller};
use crate::encoders::backbone;
use crate::system::atomic::{check_file, check_other};
use crate::system::interrupt::{Interrupt, Stopped};
use crate::system::progress::Progress;
use crate::training::checkpoint;
use crate::training::run::recent_mean;
use crate::training::schedule::Schedule;

/// Iterations between checkpoints.
const CHECKPOINT_EVERY: usize = 200;

/// Arguments of `dinomaly distill`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Checkpoint of the encoder to imitate, as for `train --backbone`
    #[arg(long, value_name = "FILE")]
    teacher: PathBuf,
    /// Attention heads of the teacher, where they are not width / 64
    #[arg(long)]
    teacher_heads: Option<usize>,
    /// File to write the small encoder to (.safetensors); `train --backbone` reads it
    #[arg(long, value_name = "FILE")]
    student: PathBuf,
    /// Earlier student of the same shape to go on from, for example on larger pictures; a fresh one without
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Channels of the student
    #[arg(long, default_value_t = 144, value_parser = within(1_usize, 8192))]
    width: usize,
    /// Attention heads of the student; as many as the teacher has without
    #[arg(long)]
    heads: Option<usize>,
    /// Blocks of the student
    #[arg(long, default_value_t = 12, value_parser = within(1_usize, 100))]
    depth: usize,
    /// Side of the student's patches, in pixels
    #[arg(long, default_value_t = 16, value_parser = within(1_usize, 64))]
    patch: usize,
    /// Side of the training pictures, in patches
    #[arg(long, default_value_t = 8, value_parser = within(1_usize, 256))]
    grid: usize,
    /// Pictures in a batch
    #[arg(long, default_value_t = 16, value_parser = within(1_usize, 4096))]
    batch: usize,
    /// Optimiser steps
    #[arg(long, default_value_t = 10_000, value_parser = within(1_usize, 100_000_000))]
    iterations: usize,
    /// Optimiser steps in which each block is taught alone, before all run as a whole; half of them without, none with --from
    #[arg(long, conflicts_with = "from")]
    alone: Option<usize>,
    /// Highest learning rate; the last is a hundredth of it
    #[arg(long, default_value_t = 2e-3, allow_negative_numbers = true, value_parser = within(1e-10, 10.0))]
    lr: f64,
    /// Seed of initial values and pictures
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Discard the checkpoint of an unfinished run instead of going on with it
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    device: DeviceOption,
}

/// What a checkpoint says of its run.
#[derive(Serialize, Deserialize)]
struct State {
    settings: DistillationSettings,
    teacher: String,
    /// Hash of the student that it went on from.
    #[serde(default)]
    from: Option<String>,
    losses: Vec<f64>,
}

/// Distills, going on with an unfinished run of the same command.
///
/// # Errors
/// One sentence naming what is wrong; everything up to the last checkpoint is kept.
pub fn run(args: &Args) -> Result<()> {
    for source in std::iter::once(&args.teacher).chain(&args.from) {
        check_other(source, &args.student)?;
    }
    check_file(&args.student)?;
    let device = args.device.choice().open()?;
    let teacher = backbone::read(&args.teacher, args.teacher_heads)?;
    let teacher_hash = hex(&fs::read(&args.teacher)?);
    let from = args.from.as_ref().map(|path| backbone::read(path, None)).transpose()?;
    let from_hash = args.from.as_ref().map(fs::read).transpose()?.map(|bytes| hex(&bytes));
    let heads = args.heads.unwrap_or(teacher.config.num_attention_heads);
    if heads == 0 || args.width == 0 || !args.width.is_multiple_of(heads) {
        bail!("--width {} is not a multiple of the {heads} attention heads", args.width);
    }
    let name = args.student.file_stem().context("--student names no file")?.to_string_lossy().into_owned();
    let settings = DistillationSettings {
        student: EncoderConfig {
            name,
            hidden_size: args.width,
            num_attention_heads: heads,
            num_hidden_layers: args.depth,
            intermediate_size: 4 * args.width,
            patch_size: args.patch,
            num_register_tokens: 0,
            position_grid: args.grid,
            layer_norm_eps: 1e-6,
            mlp: Default::default(),
            positions: Default::default(),
        },
        batch: args.batch,
        alone: if from.is_some() { 0 } else { args.alone.unwrap_or(args.iterations / 2) },
        seed: args.seed,
        schedule: Schedule { peak: args.lr, last: args.lr / 100.0, ..Schedule::official(args.iterations) },
    };
    let checkpoint = args.student.with_extension("training");
    if args.restart && checkpoint.exists() {
        fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    let earlier: Option<State> = checkpoint::read(&checkpoint)?;
    if earlier.as_ref().is_some_and(|earlier| {
        earlier.settings != settings || earlier.teacher != teacher_hash || earlier.from != from_hash
    }) {
        bail!(
            "an unfinished run with another teacher, another --from or other settings lies in {}: repeat its command to finish it, or discard it with --restart",
            checkpoint.display()
        );
    }
    let interrupt = Interrupt::listen("finishing this iteration and saving a checkpoint")?;
    println!("student of {} parameters imitates {}", parameters(&settings.student), teacher.config.name);
    let mut distiller = Distiller::new(&teacher, from.as_ref(), settings, device)?;
    let alone = distiller.settings().alone;
    let mut losses = Vec::new();
    if let Some(earlier) = earlier {
        checkpoint::restore(&checkpoint, &mut distiller.optimizer.state, earlier.losses.len())?;
        losses = earlier.losses;
        println!("resuming after iteration {}", losses.len());
    }
    let progress = Progress::resumed("distilling", losses.len(), args.iterations, "iterations");
    let (begun, first) = (Instant::now(), losses.len());
    for iteration in first..args.iterations {
        losses.push(distiller.step(iteration)?);
        progress.advance(1, || {
            let pictures = ((losses.len() - first) * args.batch) as f64 / begun.elapsed().as_secs_f64();
            let part = if losses.len() <= alone { "blocks alone" } else { "as a whole" };
            format!("{part}, loss {:.4} · {pictures:.0} pictures/s", recent_mean(&losses))
        });
        if losses.len().is_multiple_of(CHECKPOINT_EVERY) || interrupt.asked() {
            let state = State {
                settings: distiller.settings().clone(),
                teacher: teacher_hash.clone(),
                from: from_hash.clone(),
                losses: losses.clone(),
            };
            checkpoint::save(&checkpoint, &distiller.optimizer.state, &state)?;
        }
        if interrupt.asked() {
            return Err(Stopped::after(losses.len()).into());
        }
    }
    progress.finish();
    backbone::write(&args.student, &distiller.backbone()?)?;
    if checkpoint.exists() {
        fs::remove_file(&checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    println!(
        "encoder written to {}; it leaves {:.1} % of the teacher's variance unexplained on pictures that it was not trained on",
        args.student.display(),
        100.0 * distiller.unexplained()?
    );
    Ok(())
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
