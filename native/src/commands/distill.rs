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
    /// File to write the student to (.safetensors), for `train --backbone`
    #[arg(long, value_name = "FILE")]
    student: PathBuf,
    /// Start over: discard the checkpoint of an unfinished run
    #[arg(long)]
    restart: bool,
    /// Number of the teacher's attention heads [default: that of the files beside it, or of published encoders of its shape]
    #[arg(long, value_name = "N", help_heading = "Encoders")]
    teacher_heads: Option<usize>,
    /// Earlier student of the same shape to start from [default: random weights]
    ///
    /// This continues a training on larger pictures, for example.
    #[arg(long, value_name = "FILE", help_heading = "Encoders")]
    from: Option<PathBuf>,
    /// Channels of the student
    #[arg(
        long,
        default_value_t = 144,
        value_parser = within(1_usize, 8192),
        value_name = "N",
        help_heading = "Encoders"
    )]
    width: usize,
    /// Number of the student's attention heads [default: the teacher's]
    #[arg(long, value_name = "N", help_heading = "Encoders")]
    heads: Option<usize>,
    /// Number of the student's blocks
    #[arg(long, default_value_t = 12, value_parser = within(1_usize, 100), value_name = "N", help_heading = "Encoders")]
    depth: usize,
    /// Side of the student's patches, in pixels
    #[arg(
        long,
        default_value_t = 16,
        value_parser = within(1_usize, 64),
        value_name = "PIXELS",
        help_heading = "Encoders"
    )]
    patch: usize,
    /// Side of the training pictures, in patches
    #[arg(
        long,
        default_value_t = 8,
        value_parser = within(1_usize, 256),
        value_name = "PATCHES",
        help_heading = "Optimiser"
    )]
    grid: usize,
    /// Pictures per batch
    #[arg(
        long,
        default_value_t = 16,
        value_parser = within(1_usize, 4096),
        value_name = "N",
        help_heading = "Optimiser"
    )]
    batch: usize,
    /// Number of optimiser steps
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = within(1_usize, 100_000_000),
        value_name = "N",
        help_heading = "Optimiser"
    )]
    iterations: usize,
    /// Steps that train each block on its own, before the whole encoder [default: half; none with --from]
    #[arg(long, conflicts_with = "from", value_name = "N", help_heading = "Optimiser")]
    alone: Option<usize>,
    /// Peak learning rate; the last is a hundredth of it
    #[arg(
        long,
        default_value_t = 2e-3,
        allow_negative_numbers = true,
        value_parser = within(1e-10, 10.0),
        value_name = "RATE",
        help_heading = "Optimiser"
    )]
    lr: f64,
    /// Seed of initial weights and pictures
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Optimiser")]
    seed: u64,
    #[command(flatten)]
    device: DeviceOption,
}

/// Distills an encoder and prints how well the student follows its teacher. An unfinished run of the same command is resumed.
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
        "encoder written to {}; it leaves {:.1} % of the teacher's variance unexplained on held-out pictures",
        args.student.display(),
        100.0 * unexplained
    );
    Ok(())
}
