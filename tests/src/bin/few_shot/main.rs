//! Metrics, thresholds and false alarms of detectors made of a few good photos, for many choices of them: each photo is encoded once.
//!
//! `cargo run --profile verify -p dinomaly-tests --bin few_shot -- [--photos 1,2,4,8,16,all] [--draws 5] [--memory subspace,bank,rad]
//! [--backbone FILE] [--together] [PRODUCT …]` with `DINOMALY_DATA` and `DINOMALY_WEIGHTS` set. PRODUCT is a folder of `DINOMALY_DATA`. Where
//! there are at most as many choices as draws, or at most four good photos, all are taken. `--together`: one detector of all products.

mod bench;
mod suspects;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use dinomaly::encoders::{catalogue, embedded};
use dinomaly_core::fewshot::{MemoryChoice, Recipe};
use dinomaly_tests::{data, weights};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use self::bench::{Bench, Found, Product};

const HEAD: &str = "| product | photos | memory | draws | I-AUROC | P-AUROC | AUPRO | F1 at threshold | recall | promised | false alarms | usual | \
     with regions | usual |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Share of draws in whose interval the number of false alarms is to lie.
const CONFIDENCE: f64 = 0.95;

#[derive(Parser)]
struct Options {
    #[arg(default_values = ["few/bottle", "few/capsule", "few/leather", "screw", "magnetic_tile", "pcb"])]
    products: Vec<PathBuf>,
    #[arg(long, value_delimiter = ',', default_values = ["1", "2", "4", "8", "16", "all"])]
    photos: Vec<String>,
    #[arg(long, default_value_t = 5)]
    draws: u64,
    #[arg(long, value_delimiter = ',', default_values = ["subspace", "bank"])]
    memory: Vec<String>,
    #[arg(long)]
    backbone: Option<PathBuf>,
    /// The encoder that the program embeds, in place of DeiT-Ti.
    #[arg(long)]
    embedded: bool,
    /// Side of the input in pixels.
    #[arg(long)]
    side: Option<usize>,
    /// Photos are made square by repeating their edges, in place of squashing them.
    #[arg(long)]
    padded: bool,
    /// One detector of all products.
    #[arg(long)]
    together: bool,
    /// In place of that: defective photos among the good ones.
    #[arg(long)]
    suspects: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let root = data().context("set DINOMALY_DATA to the folder of real photos")?;
    if options.suspects {
        println!("{}", suspects::HEAD);
    } else {
        println!("{HEAD}");
    }
    for memory in &options.memory {
        let memory = MemoryChoice::ALL.into_iter().find(|choice| choice.name() == memory).context("no such memory")?;
        let backbone = if options.embedded {
            embedded::read()?.0
        } else {
            let deit = || Ok(weights().context("set DINOMALY_WEIGHTS")?.join("deit_tiny_patch16_224.safetensors"));
            catalogue::read(&options.backbone.clone().map_or_else(deit, Ok::<_, anyhow::Error>)?, None)?.0
        };
        let usual = if options.embedded { embedded::GEOMETRY.crop } else { memory.side() };
        let recipe = Recipe { memory, ..Recipe::default() };
        let bench = Bench::new(backbone, recipe, options.side.unwrap_or(usual), options.padded)?;
        let mut products = Vec::new();
        for product in &options.products {
            let product = bench.encode(&root.join(product))?;
            if options.suspects {
                println!("{}", suspects::row(&bench, &product)?);
            } else if options.together {
                products.push(product);
            } else {
                bench.rows(&options, &[product])?;
            }
        }
        if options.together {
            bench.rows(&options, &products)?;
        }
    }
    Ok(())
}

impl Bench {
    /// A row for each product and number of photos: means over the draws.
    fn rows(&self, options: &Options, products: &[Product]) -> Result<()> {
        for count in &options.photos {
            let fewest = products.iter().map(|product| product.good.len()).min().unwrap_or_default();
            let all = count == "all";
            let count = if all { usize::MAX } else { count.parse()? };
            // All of four are the four.
            if !all && count > fewest || all && options.photos.contains(&fewest.to_string()) {
                continue;
            }
            let draws = draws(products, count, options.draws);
            let mut found: Vec<Vec<Found>> = products.iter().map(|_| Vec::new()).collect();
            for draw in &draws {
                for (found, of_draw) in found.iter_mut().zip(self.draw(products, draw)?) {
                    found.push(of_draw);
                }
            }
            for (product, found) in products.iter().zip(&found) {
                println!("{}", row(product, found, self.recipe.memory.name(), products.len()));
            }
        }
        Ok(())
    }
}

/// Choices of so many photos of each product.
fn draws(products: &[Product], count: usize, draws: u64) -> Vec<Vec<Vec<usize>>> {
    if let [product] = products
        && product.good.len() <= 4
    {
        let all = product.good.len();
        let sets = (0_u32..1 << all).filter(|set| set.count_ones() as usize == count.min(all));
        return sets.map(|set| vec![(0..all).filter(|i| set >> i & 1 == 1).collect()]).collect();
    }
    let some = |product: &Product, seed| {
        let mut order: Vec<usize> = (0..product.good.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order.truncate(count);
        order
    };
    let draws = if count == usize::MAX { 1 } else { draws };
    (0..draws).map(|seed| products.iter().map(|product| some(product, seed)).collect()).collect()
}

fn row(product: &Product, found: &[Found], memory: &str, together: usize) -> String {
    let mean = |of: &dyn Fn(&Found) -> f64| 100.0 * found.iter().map(of).sum::<f64>() / found.len() as f64;
    let i_auroc = |found: &Found| found.metrics.i_auroc.unwrap_or(f64::NAN);
    let (middle, draws) = (mean(&i_auroc), found.len());
    let variance = found.iter().map(|f| (100.0 * i_auroc(f) - middle).powi(2)).sum::<f64>() / draws as f64;
    let within = |which: usize| {
        let lies = |found: &Found| Some(is_usual(found.photos, found.promised?, found.good[which], found.good[0]));
        let lie: Option<Vec<bool>> = found.iter().map(lies).collect();
        lie.map_or("–".into(), |lie| format!("{} of {draws}", lie.iter().filter(|lies| **lies).count()))
    };
    let share = |which: usize| mean(&|found: &Found| found.good[which] as f64 / found.good[0].max(1) as f64);
    format!(
        "| {}{} | {} | {memory} | {draws} | {middle:.1} ± {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.1} | {} | {:.1} | {} |",
        product.name,
        if together > 1 { ", together" } else { "" },
        found[0].photos,
        variance.sqrt(),
        mean(&|found| found.metrics.p_auroc.unwrap_or(f64::NAN)),
        mean(&|found| found.metrics.aupro.unwrap_or(f64::NAN)),
        mean(&|found| found.f1),
        mean(&|found| found.recall),
        found[0].promised.map_or("–".into(), |promised| format!("{:.1}", 100.0 * promised)),
        share(1),
        within(1),
        share(2),
        within(2),
    )
}

/// Whether so many of `good` further photos above a threshold are usual for one that `photos` photos set at a rate: the `j`-th highest
/// of their scores, of which beta-binomially many exceed it.
fn is_usual(photos: usize, rate: f64, above: usize, good: usize) -> bool {
    let j = ((rate * (photos + 1) as f64 + 1e-9) as usize).max(1);
    let log_choose = |n: usize, k: usize| (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum::<f64>();
    // Of all orders of the photos' and the others' scores, those in which `k` others exceed the j-th highest.
    let chance = |k: usize| {
        let (higher, lower) = (log_choose(k + j - 1, k), log_choose(good - k + photos - j, good - k));
        (higher + lower - log_choose(good + photos, good)).exp()
    };
    let at_least: f64 = (above..=good).map(chance).sum();
    let at_most: f64 = (0..=above).map(chance).sum();
    at_least.min(at_most) > (1.0 - CONFIDENCE) / 2.0
}
