//! `dinomaly inspect`: what a model is, how large, and how much work a photo is.

use std::path::PathBuf;

use anyhow::Result;

use crate::costs::macs;
use crate::evaluate::align;
use crate::model_dir;

/// Arguments of `dinomaly inspect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder
    model: PathBuf,
}

/// Prints the model's parts, files and thresholds.
///
/// # Errors
/// An unusable model.
pub fn run(args: &Args) -> Result<()> {
    let manifest = model_dir::read_manifest(&args.model)?;
    let model = model_dir::read(&args.model)?;
    let (config, e, geometry) = (&model.config, &model.config.encoder, model.preprocessor.geometry);
    println!("{}: Dinomaly on {}", model.name, e.name);
    println!(
        "encoder   {} of {} blocks, width {}, {} heads, patch {}, {} registers",
        config.encoder_blocks_run(),
        e.num_hidden_layers,
        e.hidden_size,
        e.num_attention_heads,
        e.patch_size,
        e.num_register_tokens
    );
    println!("layers    {:?} in groups {:?}", config.target_layers, config.groups);
    println!("geometry  resized to {0} × {0}, centre {1} × {1}", geometry.resize, geometry.crop);
    let macs = macs(config, model.grid());
    let count = |encoder: bool| -> usize {
        let of_part = model.weights.0.iter().filter(|(name, _)| name.starts_with("encoder.") == encoder);
        of_part.map(|(_, tensor)| tensor.len()).sum()
    };
    let mut rows = vec![["part", "parameters", "MMACs a photo"].map(str::to_owned).to_vec()];
    for (part, encoder, macs) in [("encoder", true, macs.encoder), ("head", false, macs.head)] {
        rows.push(vec![part.to_owned(), count(encoder).to_string(), (macs / 1_000_000).to_string()]);
    }
    print!("\n{}", align(&rows));
    let mut rows = vec![["file", "bytes", "type"].map(str::to_owned).to_vec()];
    for file in &manifest.files {
        let dtype = file.dtype.map_or_else(|| "-".to_owned(), |dtype| format!("{dtype:?}").to_lowercase());
        rows.push(vec![file.name.clone(), file.bytes.to_string(), dtype]);
    }
    rows.push(vec!["total".into(), manifest.total_bytes().to_string()]);
    print!("\n{}", align(&rows));
    let mut rows = vec![
        ["class", "threshold", "good photos", "median", "95 %", "highest", "mean", "std"].map(str::to_owned).to_vec(),
    ];
    let classes = model.calibration.classes.iter().map(|(name, class)| (name.as_str(), class));
    for (name, class) in classes.chain([("(unknown)", &model.calibration.overall)]) {
        let good = &class.good_scores;
        let at = |level: f64| {
            let quantile = good.quantiles.iter().find(|q| q.level == level);
            quantile.map_or_else(|| "-".to_owned(), |q| format!("{:.4}", q.score))
        };
        rows.push(vec![
            name.to_owned(),
            format!("{:.4}", class.threshold),
            good.count.to_string(),
            at(0.5),
            at(0.95),
            at(1.0),
            format!("{:.4}", good.mean),
            format!("{:.4}", good.std),
        ]);
    }
    print!("\n{}", align(&rows));
    println!("thresholds are meant to call {} % of good parts defective", 100.0 * model.calibration.false_alarm_rate);
    if !model.calibration.held_out {
        println!("thresholds come from photos that were trained on: expect more good parts to be called defective");
    }
    Ok(())
}
