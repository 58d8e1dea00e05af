//! Defective photos among the good ones: how many of them stand first in the list of suspects, and what they cost.

use anyhow::Result;
use dinomaly_core::fewshot::leave_one_out::{oddness, of_places};
use dinomaly_core::fewshot::places::PlacedBank;
use dinomaly_core::fewshot::subspace::Subspaces;
use dinomaly_core::fewshot::{Features, MemoryChoice};
use pollster::block_on;

use crate::bench::{Bench, Encoded, Product};

pub const HEAD: &str = "| product | memory | good photos | defective among them | in the first tenth | I-AUROC with them | without the \
                        first tenth | without any |\n|---|---|---|---|---|---|---|---|";

/// Share of the good photos that are added as defective ones.
const SHARE: f64 = 0.05;

/// Figures of a product. Metrics are those of the other test photos.
pub fn row(bench: &Bench, product: &Product) -> Result<String> {
    let (good, count) = (product.good.len(), (product.good.len() as f64 * SHARE).round() as usize);
    let defective: Vec<usize> = (0..product.test.len()).filter(|&i| product.test[i].defective).collect();
    // Of all kinds, which are in order.
    let bad: Vec<usize> = (0..count).map(|i| defective[i * defective.len() / count]).collect();
    let mut photos: Vec<Encoded> = product.good.clone();
    photos.extend(bad.iter().map(|&i| product.test[i].clone()));
    let test = (0..product.test.len()).filter(|i| !bad.contains(i)).map(|i| product.test[i].clone()).collect();
    let product = Product { name: product.name.clone(), good: photos, test };

    let features: Vec<&Features> = product.good.iter().map(|photo| &photo.features).collect();
    let width = bench.config.encoder.hidden_size;
    let oddness = if bench.recipe.memory == MemoryChoice::Places {
        let grid = bench.side / bench.config.encoder.patch_size;
        let bank = PlacedBank::of(&[&features], width, grid, bench.recipe.nearest, features.len())?;
        block_on(of_places(&bench.features, &features, &bank, || ()))?.iter().map(|heights| heights.score).collect()
    } else {
        block_on(oddness(&bench.features, &features, &Subspaces::new(width, bench.recipe.variance), || ()))?
    };
    let mut first: Vec<usize> = (0..oddness.len()).collect();
    first.sort_by(|&a, &b| oddness[b].total_cmp(&oddness[a]));
    first.truncate(oddness.len().div_ceil(10));
    let hits = first.iter().filter(|&&i| i >= good).count();
    let of = |photos: Vec<usize>| -> Result<f64> {
        Ok(100.0 * bench.draw(std::slice::from_ref(&product), &[photos])?[0].metrics.i_auroc.unwrap_or(f64::NAN))
    };
    let all = 0..product.good.len();
    Ok(format!(
        "| {} | {} | {good} | {count} | {} | {:.1} | {:.1} | {:.1} |",
        product.name,
        bench.recipe.memory.name(),
        hits,
        of(all.clone().collect())?,
        of(all.filter(|i| !first.contains(i)).collect())?,
        of((0..good).collect())?,
    ))
}
