//! Whole checkpoints of the official implementation and of anomalib, built from golden weights, give the golden outputs.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use dinomaly::encoders::import::{self, Imported};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::maps::score::{MAP_SIDE, gaussian_kernel, image_score, resize_bilinear, upsample_align_corners};
use dinomaly_core::model::config::{DecoderConfig, ModelConfig};
use dinomaly_core::model::weights::model_shapes;
use dinomaly_core::ops::{Ops, Read};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use dinomaly_core::tensor::safetensors_io;
use dinomaly_tests::{Golden, fixtures, max_difference, read_golden};

use crate::case::{Case, Tally, cases, recorded};

/// The case's tensors as a state dict of the official class has them.
fn official(case: &Case) -> Weights {
    let file = |name: &str| read_golden(&case.folder.join(case.meta["files"][name].as_str().unwrap()));
    let host = |tensor: Golden| HostTensor::f32(tensor.shape, tensor.values).unwrap();
    let encoder = file("encoder").into_iter().map(|(name, tensor)| (format!("encoder.{name}"), host(tensor)));
    let head = file("trainable").into_iter().map(|(name, tensor)| (name, host(tensor)));
    Weights(encoder.chain(head).collect())
}

/// As anomalib's Lightning module saves them: behind `model.`, the trained tensors once more under another name, and a
/// blur's kernel; MLPs of bottleneck and decoder have no biases.
fn anomalib(official: &Weights) -> Weights {
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &official.0 {
        if !name.starts_with("encoder.") && name.contains(".fc") && name.ends_with(".bias") {
            continue;
        }
        tensors.insert(format!("model.{name}"), tensor.clone());
        if let Some(rest) = name.strip_prefix("bottleneck.") {
            tensors.insert(format!("trainable_modules.0.{rest}"), tensor.clone());
        } else if let Some(rest) = name.strip_prefix("decoder.") {
            tensors.insert(format!("trainable_modules.1.{rest}"), tensor.clone());
        }
    }
    tensors.insert("model.gaussian_blur.kernel".into(), HostTensor::f32([1, 1, 5, 5], vec![0.04; 25]).unwrap());
    Weights(tensors)
}

fn write(folder: &Path, name: &str, weights: &Weights) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, safetensors_io::write(weights, None).unwrap()).unwrap();
    path
}

fn read(path: &Path, case: &Case) -> anyhow::Result<Imported> {
    import::read(path, Some(case.config.encoder.num_attention_heads), |encoder, _| {
        let mut config = case.config.clone();
        config.encoder = encoder;
        Ok(config)
    })
}

/// Distances of patches, group by group.
fn distances(imported: &Imported, case: &Case, input: &Golden) -> Vec<Vec<f32>> {
    let ops = Candle::infer(Device::Cpu);
    let (batch, grid) = (input.shape[0], case.grid(input));
    let model = imported.weights.dinomaly(&ops, &imported.config, grid).unwrap();
    let groups = model.distances(&ops, &ops.upload(&case.patches(input)).unwrap()).unwrap();
    let values = pollster::block_on(ops.read_back(&groups.iter().collect::<Vec<_>>())).unwrap();
    let tokens = imported.config.kept_prefix_tokens() + grid * grid;
    let patches = |group: Vec<f32>| -> Vec<f32> {
        assert_eq!(group.len(), batch * tokens);
        group.chunks_exact(tokens).flat_map(|photo| &photo[tokens - grid * grid..]).copied().collect()
    };
    values.into_iter().map(patches).collect()
}

#[test]
fn checkpoints_of_the_official_implementation_give_the_golden_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let mut tally = Tally::default();
    for case in cases() {
        let forward = case.folder.join("forward.safetensors");
        if !forward.is_file() {
            continue;
        }
        let path = write(folder.path(), "official.safetensors", &official(&case));
        let imported = read(&path, &case).unwrap();
        assert_eq!(imported.config.map_border, MapBorder::Zero);
        let stored = read_golden(&forward);
        for (j, found) in distances(&imported, &case, &stored["input"]).iter().enumerate() {
            let name = format!("amap_group.{j}");
            let noise = recorded(&case.meta["forward_stats"][&name]).unwrap();
            tally.compare(&format!("{}: {name}", case.name), found, &stored[&name].values, noise);
        }
    }
    assert!(tally.compared > 0);
    tally.finish("official checkpoints");
}

/// No golden file holds the outputs of a model without biases: they are those of the official checkpoint with zero biases,
/// and the mirrored blur is computed here from the unblurred map, in f64, straight from its definition.
#[test]
fn checkpoints_of_anomalib_give_the_outputs_of_a_model_without_mlp_biases() {
    let folder = tempfile::tempdir().unwrap();
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.name == "tiny-reg").collect();
    let case = cases.first().expect("the case tiny-reg is in every golden folder");
    let mut zeroed = official(case);
    for (name, tensor) in &mut zeroed.0 {
        if !name.starts_with("encoder.") && name.contains(".fc") && name.ends_with(".bias") {
            *tensor = HostTensor::f32(tensor.shape.clone(), vec![0.0; tensor.len()]).unwrap();
        }
    }
    let expected = read(&write(folder.path(), "zeroed.safetensors", &zeroed), case).unwrap();
    let found = read(&write(folder.path(), "anomalib.safetensors", &anomalib(&zeroed)), case).unwrap();
    assert_eq!((expected.config.map_border, found.config.map_border), (MapBorder::Zero, MapBorder::Reflect));
    assert_eq!(found.weights, expected.weights);

    let stored = read_golden(&case.folder.join("forward.safetensors"));
    let input = &stored["input"];
    let (side, grid) = (input.shape[3], case.grid(input));
    let groups = distances(&found, case, input);
    assert_ne!(groups[0], stored["amap_group.0"].values, "biases matter");
    let photo: Vec<&[f32]> = groups.iter().map(|group| &group[..grid * grid]).collect();
    let map = dinomaly_core::maps::score::anomaly_map(&photo, grid, side, found.config.map_border).unwrap();
    let averaged = dinomaly_core::maps::score::mean(&photo);
    let unblurred = resize_bilinear(&upsample_align_corners(&averaged, grid, side), side, MAP_SIDE);
    let expected = blurred(&unblurred);
    let largest = expected.iter().fold(0f32, |a, b| a.max(*b));
    let difference = max_difference(&map.values, &expected);
    // 25 products of f32, summed: a few roundings of the largest value.
    assert!(difference <= 8.0 * f32::EPSILON * largest, "{difference} of {largest}");
    let plain = dinomaly_core::maps::score::anomaly_map(&photo, grid, side, MapBorder::Zero).unwrap();
    assert!(max_difference(&plain.values, &expected) > 0.1 * largest, "the border matters");
    assert!(image_score(&map) >= image_score(&plain));
}

/// A 5 × 5 Gaussian over a map whose pixels beyond the border are those that a mirror at the outermost pixel shows.
fn blurred(map: &[f32]) -> Vec<f32> {
    let kernel = gaussian_kernel().map(f64::from);
    let side = MAP_SIDE as i64;
    let mirror = |i: i64| {
        if i < 0 {
            -i
        } else if i >= side {
            2 * (side - 1) - i
        } else {
            i
        }
    };
    let pixel = |x: i64, y: i64| f64::from(map[(mirror(y) * side + mirror(x)) as usize]);
    let at = |x: i64, y: i64| -> f64 {
        (0..25).map(|k| kernel[k % 5] * kernel[k / 5] * pixel(x + (k % 5) as i64 - 2, y + (k / 5) as i64 - 2)).sum()
    };
    (0..side * side).map(|i| at(i % side, i / side) as f32).collect()
}

/// As PyTorch saves them, with all that Lightning puts beside the weights; `make.py` beside the file says how it was made.
#[test]
fn a_lightning_checkpoint_is_read_without_running_anything_in_it() {
    let path = fixtures("backbones/anomalib.ckpt");
    let imported = import::read(&path, Some(2), |encoder, _| {
        let mut config = ModelConfig::with_decoder(encoder.clone(), DecoderConfig::published(&encoder, 2));
        (config.target_layers, config.groups) = (vec![1, 2], vec![vec![0], vec![1]]);
        Ok(config)
    })
    .unwrap();
    assert_eq!(imported.config.map_border, MapBorder::Reflect);
    imported.weights.check(&model_shapes(&imported.config.clone().into()).unwrap()).unwrap();
    let expected = |name: &str, len: usize| -> Vec<f32> {
        let seed = name.bytes().map(usize::from).sum::<usize>() * 31;
        (0..len).map(|i| ((seed + i * 17) % 97) as f32 / 64.0 - 0.75).collect()
    };
    for name in ["bottleneck.0.fc2.weight", "decoder.1.attn.qkv.bias", "decoder.0.mlp.fc1.weight"] {
        let found = imported.weights.0[name].to_f32();
        assert_eq!(*found, expected(name, found.len()), "{name}");
    }
    assert!(imported.weights.0["decoder.1.mlp.fc1.bias"].to_f32().iter().all(|&v| v == 0.0));
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.name == "tiny-reg").collect();
    let case = cases.first().expect("the case tiny-reg is in every golden folder");
    type Change = fn(&mut BTreeMap<String, HostTensor>);
    let changes: [(&str, Change); 7] = [
        ("has no bottleneck.0.fc1.weight", |t| t.retain(|name, _| name.starts_with("encoder."))),
        ("cls_token", |t| t.retain(|name, _| !name.starts_with("encoder."))),
        ("decoder.3.mlp.fc2.weight", |t| drop(t.remove("decoder.3.mlp.fc2.weight"))),
        ("decoder.3.mlp.fc2.bias", |t| drop(t.remove("decoder.3.mlp.fc2.bias"))),
        ("decoder.2.norm1.weight: expected shape [48], found [47]", |t| {
            drop(t.insert("decoder.2.norm1.weight".into(), HostTensor::f32([47], vec![1.0; 47]).unwrap()));
        }),
        ("decoder.8.norm1.weight", |t| {
            drop(t.insert("decoder.8.norm1.weight".into(), HostTensor::f32([48], vec![1.0; 48]).unwrap()));
        }),
        ("decoder.5.attn.proj.bias", |t| {
            drop(t.insert("decoder.5.attn.proj.bias".into(), HostTensor::f32([48], vec![f32::NAN; 48]).unwrap()));
        }),
    ];
    for (expected, change) in changes {
        let mut weights = official(case);
        change(&mut weights.0);
        // The writer refuses a value that is no number, as it should: what others wrote is made with its bytes changed.
        let nan = weights.0.values().any(|tensor| tensor.to_f32().iter().any(|v| v.is_nan()));
        let path = if nan {
            write_unchecked(folder.path(), &weights)
        } else {
            write(folder.path(), "x.safetensors", &weights)
        };
        let error = format!("{:#}", read(&path, case).unwrap_err());
        assert!(error.contains(expected) && error.contains("safetensors cannot be imported"), "{expected}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

fn write_unchecked(folder: &Path, weights: &Weights) -> std::path::PathBuf {
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = weights
        .0
        .iter()
        .map(|(name, tensor)| {
            (name, (tensor.shape.clone(), tensor.to_f32().iter().flat_map(|v| v.to_le_bytes()).collect()))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, bytes))| {
        (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let path = folder.join("nan.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    path
}
