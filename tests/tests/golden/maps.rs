//! Distance maps → anomaly map → score, against every map that the golden folder holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::maps::score::{
    AnomalyMap, MAP_SIDE, MapLayout, TOP_SHARE, anomaly_map, gaussian_blur, gaussian_kernel, image_score, mean,
    resize_bilinear, top_count, upsample_align_corners,
};
use dinomaly_core::ops::{Ops, Read};
use dinomaly_core::tensor::HostTensor;
use dinomaly_tests::executors::webgpu;
use dinomaly_tests::{Golden, assert_close, golden, max_difference, read_golden, read_json};
use pollster::block_on;
use serde_json::Value;

/// Files of a folder whose names start so; none if there is no such folder.
fn files(folder: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let fits = |name: &str| name.starts_with(prefix) && name.ends_with(suffix);
    let mut found: Vec<PathBuf> =
        entries.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(fits)).collect();
    found.sort();
    found
}

/// Ten times the stored float noise of a tensor, but never less than two roundings of its largest value: the noise of
/// the few numbers of a score may be stored smaller than one. Without stored noise ten roundings.
fn tolerance(stats: &Value, name: &str, expected: &[f32]) -> f32 {
    let rounding = f32::EPSILON * expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    match stats[name]["f32_noise_max"].as_f64() {
        Some(noise) => (10.0 * noise as f32).max(2.0 * rounding),
        None => 10.0 * rounding,
    }
}

/// Compares every map and score of a file with what follows from its groups' distances, the last ones also with what a GPU
/// makes of them; returns how many tensors it compared.
fn compare(path: &Path, tensors: &BTreeMap<String, Golden>, stats: &Value, gpu: Option<&WebGpu>) -> usize {
    let groups: Vec<&Golden> = (0..).map_while(|i| tensors.get(&format!("amap_group.{i}"))).collect();
    let Some(shape) = groups.first().map(|group| group.shape.clone()) else { return 0 };
    let (batch, grid) = (shape[0], shape[1]);
    let upsampled = tensors.iter().find(|(name, _)| name.starts_with("amap_up"));
    let side = upsampled.map(|(_, up)| up.shape[3]).or_else(|| tensors.get("input").map(|input| input.shape[3]));
    let side = side.unwrap_or_else(|| panic!("{}: neither amap_up nor input says the input's side", path.display()));

    let mut found: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
    for photo in 0..batch {
        let distances: Vec<&[f32]> = groups.iter().map(|g| &g.values[photo * grid * grid..][..grid * grid]).collect();
        let averaged = mean(&distances);
        let up = upsample_align_corners(&averaged, grid, side);
        let resized = resize_bilinear(&up, side, MAP_SIDE);
        let blurred = gaussian_blur(&resized, MAP_SIDE, MapBorder::Zero);
        let map = anomaly_map(&distances, grid, side, MapBorder::Zero).unwrap();
        assert_eq!(map, AnomalyMap::square(MAP_SIDE, blurred), "the whole is its steps");
        found.entry("image_score_top1pct").or_default().push(image_score(&map));
        found.entry("image_score_max").or_default().push(map.values.iter().copied().fold(f32::MIN, f32::max));
        for (name, values) in [("amap_mean", averaged), ("amap_256", resized), ("amap_256_blur", map.values)] {
            found.entry(name).or_default().extend(values);
        }
        if let Some((name, _)) = upsampled {
            found.entry(name).or_default().extend(up);
        }
    }
    let mut compared = 0;
    if let Some(gpu) = gpu {
        let layout = MapLayout { prefix: 0, grid, input_side: side, border: MapBorder::Zero };
        let upload = |group: &&Golden| {
            gpu.upload(&HostTensor::f32([batch, grid * grid], group.values.clone()).unwrap()).unwrap()
        };
        let uploaded: Vec<_> = groups.iter().map(upload).collect();
        let maps = block_on(gpu.read_maps(&uploaded, None, batch, &layout)).unwrap().0;
        let scores: Vec<f32> = maps.iter().map(image_score).collect();
        let maps: Vec<f32> = maps.into_iter().flat_map(|map| map.values).collect();
        for (name, found) in [("amap_256_blur", maps), ("image_score_top1pct", scores)] {
            let Some(expected) = tensors.get(name) else { continue };
            let what = format!("{}: {name} of the GPU", path.display());
            agrees(&what, &found, expected, tolerance(stats, name, &expected.values));
            compared += 1;
        }
    }
    for (name, expected) in tensors {
        let found = match name.as_str() {
            "gauss_kernel_5_sigma4" => {
                let axis = gaussian_kernel();
                &axis.iter().flat_map(|y| axis.map(|x| y * x)).collect()
            }
            name => match found.get(name) {
                Some(values) => values,
                None => continue,
            },
        };
        agrees(&format!("{}: {name}", path.display()), found, expected, tolerance(stats, name, &expected.values));
        compared += 1;
    }
    compared
}

fn agrees(what: &str, found: &[f32], expected: &Golden, tolerance: f32) {
    assert_close(what, found, &expected.values, tolerance);
    println!("{what}: {:.1e} of {tolerance:.1e}", max_difference(found, &expected.values));
}

#[test]
fn maps_and_scores_are_the_official_ones() {
    let (mut compared, mut read, gpu) = (0, 0, webgpu());
    for path in files(&golden().join("ops"), "maps_", ".safetensors") {
        compared += compare(&path, &read_golden(&path), &Value::Null, gpu.as_ref());
        read += 1;
    }
    for case in files(&golden().join("models"), "", "") {
        for path in files(&case, "forward", ".safetensors") {
            let meta = read_json(&case.join("meta.json"));
            let stem = path.file_stem().unwrap().to_str().unwrap();
            compared += compare(&path, &read_golden(&path), &meta[format!("{stem}_stats")], gpu.as_ref());
            read += 1;
        }
    }
    println!("compared {compared} map tensors of {read} files");
    assert!(compared > 0, "{} holds no map", golden().display());
}

#[test]
fn as_many_pixels_are_averaged() {
    let path = golden().join("ops/ops.json");
    if !path.is_file() {
        return println!("{} is not there: nothing to compare", path.display());
    }
    if let Some(count) = read_json(&path)["top_count"].as_u64() {
        assert_eq!(top_count(MAP_SIDE * MAP_SIDE, TOP_SHARE) as u64, count);
        println!("compared 1 number");
    }
}
