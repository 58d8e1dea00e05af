//! `dinomaly distill`: a large encoder → a small one that imitates it.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{DeviceOption, within};
use crate::distillation::{self, DistillationPlan};
use crate::system::interrupt::Interrupt;

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

/// Distills, going on with an unfinished run of the same command, and prints how well the student follows.
///
/// # Errors
/// As [`distillation::distill()`].
pub fn run(args: &Args) -> Result<()> {
    let plan = DistillationPlan {
        teacher: args.teacher.clone(),
        teacher_heads: args.teacher_heads,
        student: args.student.clone(),
        from: args.from.clone(),
        width: args.width,
        heads: args.heads,
        depth: args.depth,
        patch: args.patch,
        grid: args.grid,
        batch: args.batch,
        iterations: args.iterations,
        alone: args.alone,
        lr: args.lr,
        seed: args.seed,
        restart: args.restart,
        device: args.device.choice(),
    };
    let interrupt = Interrupt::listen("finishing this iteration and saving a checkpoint")?;
    let unexplained = distillation::distill(&plan, &interrupt)?;
    println!(
        "encoder written to {}; it leaves {:.1} % of the teacher's variance unexplained on pictures that it was not trained on",
        args.student.display(),
        100.0 * unexplained
    );
    Ok(())
}
