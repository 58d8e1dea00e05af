//! The forward pass, step by step, on every executor, against every tensor that the golden folder holds of it.

use std::collections::BTreeMap;

use candle_core::Device;
use dinomaly_core::executors::candle::{Candle, no_noise};
use dinomaly_core::executors::processor::{Kernels, Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::maps::score::{
    MAP_SIDE, anomaly_map, gaussian_blur, image_score, mean, resize_bilinear, upsample_align_corners,
};
use dinomaly_core::model::config::Comparison;
use dinomaly_core::model::encoder::Stage;
use dinomaly_core::ops::Read;
use dinomaly_tests::{Golden, executors, read_golden};
use serde_json::Value;

use crate::case::{Case, Tally, cases, channels_last, entries, recorded};

#[test]
fn reference() {
    run("reference", &Reference);
}

#[test]
fn candle() {
    run("candle", &Candle::infer(Device::Cpu));
}

#[test]
fn candle_in_training() {
    run("candle, training", &Candle::train(Device::Cpu, &no_noise));
}

#[test]
fn processor() {
    run("processor", &Processor::new(ProcessorPrecision::F32));
}

#[test]
fn processor_with_the_pages_tiles() {
    run("processor, the page's tiles", &Processor::new(ProcessorPrecision::F32).with_kernels(Kernels::Tiles));
}

#[test]
fn webgpu() {
    if let Some(gpu) = executors::webgpu() {
        run("webgpu", &gpu);
    }
}

/// Every forward file of every case that is covered.
fn run<O: Read>(executor: &str, ops: &O) {
    let mut total = Tally::default();
    let mut files = 0;
    for case in cases() {
        for path in entries(&case.folder) {
            let stem = path.file_stem().unwrap().to_string_lossy();
            if !(stem.starts_with("forward") && path.extension().is_some_and(|e| e == "safetensors")) {
                continue;
            }
            let stored = read_golden(&path);
            let Some(input) = stored.get("input") else {
                println!("not run: {}/{stem} (it holds no input)", case.name);
                continue;
            };
            let tally = compare(&case, &stem, &forward(ops, &case, input), &stored);
            assert!(tally.compared > 0, "{}/{stem}: nothing was compared", case.name);
            tally.print(&format!("{executor}, {}/{stem}", case.name));
            total.add(tally);
            files += 1;
        }
    }
    total.finish(&format!("{executor}, all {files} forward files"));
}

/// Compares all tensors of a file with what was found; points of feature maps have their channels last there.
fn compare(case: &Case, file: &str, found: &BTreeMap<String, Vec<f32>>, stored: &BTreeMap<String, Golden>) -> Tally {
    let stats = &case.meta[format!("{file}_stats")];
    let mut tally = Tally::default();
    for (name, expected) in stored {
        let label = format!("{}/{file}: {name}", case.name);
        match (found.get(name), name.as_str()) {
            (Some(found), _) if name.starts_with("en.") || name.starts_with("de.") => {
                tally.compare(&label, found, &channels_last(expected), noise(stats, name, expected));
            }
            (Some(found), _) => tally.compare(&label, found, &expected.values, noise(stats, name, expected)),
            // Where the pass begins, and what `golden_positions` compares more closely than here; it is in `tokens`, too.
            (None, "input" | "pos_embed_used") => {}
            (None, "attn_mask") => tally.check(&format!("{label} differs"), mask(case, expected) == expected.values),
            (None, _) => tally.check(&format!("{label} is none of the forward pass's tensors"), false),
        }
    }
    tally
}

/// 1 where a token sees another, 0 where it does not.
fn mask(case: &Case, expected: &Golden) -> Vec<f32> {
    let (tokens, hidden) = (expected.shape[0], case.config.hidden_neighbours().unwrap());
    let grid = hidden.grid(tokens).unwrap();
    (0..tokens * tokens).map(|i| if hidden.hides(grid, i / tokens, i % tokens) { 0.0 } else { 1.0 }).collect()
}

/// The recorded noise of a tensor. A score is one number, whose noise by chance may be next to nothing: it cannot be
/// told more closely than the map that it is a mean or the maximum of. Without recorded noise five roundings.
fn noise(stats: &Value, name: &str, expected: &Golden) -> f32 {
    let Some(own) = recorded(&stats[name]) else {
        return 0.5 * f32::EPSILON * expected.values.iter().fold(0f32, |largest, v| largest.max(v.abs()));
    };
    let map = recorded(&stats["amap_up"]).filter(|_| name.starts_with("image_score"));
    own.max(map.unwrap_or(0.0))
}

/// Runs a case from the photos to the scores; every tensor under the name that it is stored by.
fn forward<O: Read>(ops: &O, case: &Case, input: &Golden) -> BTreeMap<String, Vec<f32>> {
    let (batch, side, grid) = (input.shape[0], input.shape[3], case.grid(input));
    let model = case.weights.dinomaly(ops, &case.config, grid).unwrap();
    let patches = ops.upload(&case.patches(input)).unwrap();
    let mut seen = Vec::new();
    let distances =
        model.distances_observed(ops, &patches, &mut |stage, tensor| seen.push((name(stage), tensor.clone()))).unwrap();
    seen.extend(distances.into_iter().enumerate().map(|(j, distance)| (format!("amap_group.{j}"), distance)));

    let values = pollster::block_on(ops.read_back(&seen.iter().map(|(_, tensor)| tensor).collect::<Vec<_>>())).unwrap();
    let mut found: BTreeMap<String, Vec<f32>> = seen.into_iter().map(|(name, _)| name).zip(values).collect();
    let groups = case.config.groups.len();
    let channels = match case.config.comparison {
        Comparison::Mean => case.config.encoder.hidden_size,
        Comparison::Concatenated => case.config.encoder.hidden_size * case.config.groups[0].len(),
    };
    for j in 0..groups {
        for (stem, channels) in [("en", channels), ("de", channels), ("amap_group", 1)] {
            let tokens = found.get_mut(&format!("{stem}.{j}")).unwrap();
            *tokens = without_prefix(tokens, case.config.kept_prefix_tokens(), grid * grid, channels);
        }
    }
    for photo in 0..batch {
        let distances: Vec<Vec<f32>> = (0..groups)
            .map(|j| found[&format!("amap_group.{j}")][photo * grid * grid..][..grid * grid].to_vec())
            .collect();
        let distances: Vec<&[f32]> = distances.iter().map(Vec::as_slice).collect();
        let averaged = mean(&distances);
        let up = upsample_align_corners(&averaged, grid, side);
        let resized = resize_bilinear(&up, side, MAP_SIDE);
        let map = anomaly_map(&distances, grid, side, MapBorder::Zero).unwrap();
        let maximum = map.values.iter().copied().fold(f32::MIN, f32::max);
        let steps = [
            ("image_score_top1pct", vec![image_score(&map)]),
            ("image_score_max", vec![maximum]),
            ("amap_256_blur", gaussian_blur(&resized, MAP_SIDE, MapBorder::Zero)),
            ("amap_mean", averaged),
            ("amap_up", up),
            ("amap_256", resized),
        ];
        for (name, values) in steps {
            found.entry(name.into()).or_default().extend(values);
        }
    }
    found
}

/// The name that the golden files have for a step.
fn name(stage: Stage) -> String {
    match stage {
        Stage::PatchEmbed => "patch_embed".into(),
        Stage::Tokens => "tokens".into(),
        Stage::EncoderBlock(i) => format!("enc_block.{i}"),
        Stage::Fused => "fused".into(),
        Stage::Bottleneck => "bottleneck_out".into(),
        Stage::DecoderBlock(i) => format!("dec_block.{i}"),
        Stage::EncodedGroup(j) => format!("en.{j}"),
        Stage::DecodedGroup(j) => format!("de.{j}"),
    }
}

/// Values of `[batch, prefix + patches, channels]` → of `[batch, patches, channels]`.
fn without_prefix(values: &[f32], prefix: usize, patches: usize, channels: usize) -> Vec<f32> {
    let photos = values.chunks_exact((prefix + patches) * channels);
    photos.flat_map(|photo| &photo[prefix * channels..]).copied().collect()
}
