//! Position tables interpolated to other grids, against the official encoders.

use std::path::{Path, PathBuf};

use dinomaly_core::model::config::Resampling;
use dinomaly_core::model::positions::interpolate;
use dinomaly_tests::{Golden, assert_close, golden, read_golden, read_json};

/// The official code interpolates in single precision whatever the rest runs in, so no noise is stored for these tensors:
/// eight roundings of the table's largest value.
const RELATIVE_TOLERANCE: f32 = 8.0 * f32::EPSILON;

#[test]
fn tables() {
    let file = golden_folder().join("ops/pos_embed.safetensors");
    if !file.is_file() {
        println!("compared nothing: no {}", file.display());
        return;
    }
    let tensors = read_golden(&file);
    let mut compared = 0;
    for (name, table) in tensors.iter().filter(|(name, _)| name.ends_with("/in")) {
        let out = &tensors[&name.replace("/in", "/out")];
        compare(name, table, out);
        compared += 1;
    }
    println!("compared {compared} tensors of ops/pos_embed");
}

#[test]
fn models() {
    let mut compared = 0;
    for case in folder(&golden_folder().join("models")) {
        let meta = read_json(&case.join("meta.json"));
        let encoder = case.join(meta["files"]["encoder"].as_str().expect("files.encoder"));
        if !encoder.is_file() {
            println!("not run: {} is not there", encoder.display());
            continue;
        }
        for file in folder(&case) {
            let name = file.file_name().unwrap().to_string_lossy();
            if !(name.starts_with("forward") && name.ends_with(".safetensors")) {
                continue;
            }
            let name = format!("{}/{name}", case.display());
            if let Some(used) = read_golden(&file).get("pos_embed_used") {
                compare(&name, &read_golden(&encoder)["pos_embed"], used);
                compared += 1;
            }
        }
    }
    println!("compared {compared} tensors pos_embed_used of models");
}

/// The golden set, which may lack files but not be missing.
fn golden_folder() -> PathBuf {
    let folder = golden();
    assert!(folder.is_dir(), "{} is no folder of golden data", folder.display());
    folder
}

/// What a folder holds, sorted; nothing if it is missing.
fn folder(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Both are `[1, 1 + grid², width]`; the class token's row is copied.
fn compare(name: &str, table: &Golden, expected: &Golden) {
    let width = table.shape[2];
    let [grid, target] = [table, expected].map(|t| (t.shape[1] - 1).isqrt());
    let found = interpolate(&table.values[width..], grid, target, width, Resampling::Offset);
    let largest = expected.values.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    let tolerance = if grid == target { 0.0 } else { RELATIVE_TOLERANCE * largest };
    assert_close(&format!("{name}, {grid} to {target}"), &found, &expected.values[width..], tolerance);
    let difference = dinomaly_tests::max_difference(&found, &expected.values[width..]);
    println!("{name}: {grid} to {target}, largest difference {difference:e} of {largest}");
}
