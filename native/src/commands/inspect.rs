//! `dinomaly inspect`: a model's architecture, size, cost per photo and thresholds.

use std::path::PathBuf;

use anyhow::Result;
use dinomaly_core::bundle::percent;
use dinomaly_core::model::config::Architecture;

use super::options::LookOption;
use crate::costs::{parameters_left_out, parts};
use crate::inference::speed::{Throughput, throughput};
use crate::model_dir;
use crate::system::table::align;

/// Arguments of `dinomaly inspect`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Measure this machine's photos per second, from pixels to maps
    #[arg(long)]
    speed: bool,
    #[command(flatten)]
    device: LookOption,
}

/// Prints a model's parts, files and thresholds.
///
/// # Errors
/// If the model is unusable.
pub fn run(args: &Args) -> Result<()> {
    // Once, so that both are of one commit of a model on the hub.
    let folder = model_dir::locate(&args.model)?;
    let manifest = model_dir::read_manifest(&folder)?;
    let model = model_dir::read(&folder)?;
    let (config, e) = (&model.config, model.config.encoder());
    match config {
        Architecture::Dinomaly(_) => println!("{}: Dinomaly on {}", model.name, e.name),
        Architecture::Memory(config) => println!("{}: {} on {}, without training", model.name, config.memory, e.name),
    }
    let parts = parts(config, model.grid())?;
    let (parameters, linear, attention) =
        parts.iter().fold((0, 0, 0), |(p, l, a), part| (p + part.parameters, l + part.linear, a + part.attention));
    if matches!(config, Architecture::Dinomaly(_)) {
        println!(
            "size      {:.1} M parameters, {:.1} GMACs per photo, as the paper counts: with all encoder blocks, without \
             products in attention",
            (parameters + parameters_left_out(config)?) as f64 / 1e6,
            linear as f64 / 1e9
        );
    }
    println!(
        "encoder   {} of {} blocks, width {}, {} heads, patch {}, {} registers",
        config.taps().blocks_run(),
        e.num_hidden_layers,
        e.hidden_size,
        e.num_attention_heads,
        e.patch_size,
        e.num_register_tokens
    );
    println!("layers    {:?} in groups {:?}", config.taps().layers, config.groups());
    println!("geometry  {}", model.preprocessor.view());
    let mut rows = vec![["part", "parameters", "MMACs per photo", "in attention"].map(str::to_owned).to_vec()];
    let millions = |macs: u64| (macs / 1_000_000).to_string();
    for part in &parts {
        rows.push(vec![part.name.into(), part.parameters.to_string(), millions(part.linear), millions(part.attention)]);
    }
    rows.push(vec!["total".into(), parameters.to_string(), millions(linear), millions(attention)]);
    print!("\nwhat is stored and run:\n{}", align(&rows));

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
    let classes: Vec<_> = classes.chain([("(any)", &model.calibration.overall)]).collect();
    let tells_regions = classes.iter().any(|(_, class)| class.pixel_threshold.is_some());
    if tells_regions {
        rows[0].push("pixel threshold".into());
    }
    let tells_products = model.calibration.tells_products();
    if tells_products {
        rows[0].push("unknown beyond".into());
    }
    for (name, class) in classes {
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
        if tells_regions {
            let value = class.pixel_threshold.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
            rows.last_mut().expect("a row of the class").push(value);
        }
        if tells_products {
            let limit = class.good_descriptors.as_ref().map(|good| format!("{:.4}", good.limit));
            rows.last_mut().expect("a row of the class").push(limit.unwrap_or_else(|| "-".into()));
        }
    }
    print!("\n{}", align(&rows));
    println!(
        "expected false alarms at these thresholds: {} % of good parts",
        percent(model.calibration.false_alarm_rate)
    );
    if !model.calibration.held_out {
        println!("thresholds come from training photos: expect more false alarms");
    }
    if !tells_products {
        println!(
            "photos of other products are not told from those of these classes: dinomaly calibrate adds what is needed"
        );
    }
    if args.speed {
        let Throughput { photos, seconds, batch } = throughput(&model, args.device.place())?;
        println!(
            "\n{:.2} photos/s, {:.0} ms each, in batches of {batch} on {} threads",
            photos as f64 / seconds,
            1000.0 * seconds / photos as f64,
            rayon::current_num_threads()
        );
    }
    Ok(())
}
