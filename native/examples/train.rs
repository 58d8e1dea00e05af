//! Trains from Rust: photos of good parts → a model folder.
//!
//! `cargo run --release --example train -- PHOTOS MODEL`

use std::env;

use anyhow::{Context, Result};
use dinomaly::publish;
use dinomaly::system::interrupt::Interrupt;
use dinomaly::training::{self, TrainingPlan, Variant};

fn main() -> Result<()> {
    let usage = "usage: train PHOTOS MODEL";
    let mut arguments = env::args().skip(1);
    let (photos, model) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let plan = TrainingPlan {
        iterations: 1000,
        variant: Variant { dropout: 0.3, ..Variant::default() },
        ..TrainingPlan::new(photos, &model)
    };
    // Ctrl-C stops after the step, and the next run of the same plan goes on from there.
    let interrupt = Interrupt::listen("finishing this step")?;
    match training::train(&plan, &interrupt)? {
        None => println!("{model} is trained already"),
        Some(trained) => {
            let model = publish::publish(trained)?;
            for (class, calibration) in &model.calibration.classes {
                println!("{class}: defective above {:.4}", calibration.threshold);
            }
        }
    }
    Ok(())
}
