//! A model on the GPU runs in the fastest precision that its self-test accepts, natively too.

use std::fs;
use std::path::PathBuf;

use dinomaly::inference::photo_detector::PhotoDetector;
use dinomaly::model_dir;
use dinomaly_core::bundle::Model;
use dinomaly_core::executors::INT8_ERROR;
use dinomaly_core::executors::processor;
use dinomaly_core::executors::webgpu::GpuPrecision;
use dinomaly_core::quant::quantize;
use dinomaly_core::tensor::HostTensor;
use dinomaly_tests::executors::webgpu;
use dinomaly_tests::{demo_model, fixtures};
use pollster::block_on;

fn model() -> Model {
    model_dir::read(&demo_model()).unwrap()
}

/// The model with f32 weights and their own self-test.
fn widened() -> Model {
    let mut model = model();
    for (i, tensor) in model.weights.0.values_mut().enumerate() {
        // Beside what int8 holds, as trained weights are: f16 must have something to round.
        let values = tensor.to_f32().iter().map(|v| v * (1.0 + 1e-3 * (i as f32).sin())).collect();
        *tensor = HostTensor::f32(tensor.shape.clone(), values).unwrap();
    }
    tested(model)
}

/// The same with int8 weights, as `dinomaly quantize` publishes it.
fn int8() -> Model {
    let mut model = widened();
    model.weights = quantize(&model.weights).unwrap().0;
    tested(model)
}

fn tested(mut model: Model) -> Model {
    let detector = PhotoDetector::of_parts(&model.config, &model.preprocessor, &model.weights).unwrap();
    model.self_test = Some(block_on(detector.detector().self_test(1, 1e-3)).unwrap());
    model
}

#[test]
fn the_fastest_precision_that_the_self_test_accepts_is_taken() {
    let Some(mut gpu) = webgpu() else { return };
    let (plain, rounded) = (widened(), int8());
    let mut chosen = Vec::new();
    // Activations are rounded where weights are int8 alone.
    let (f32_weights, int8_weights) = (&GpuPrecision::FASTEST_FIRST[1..], &GpuPrecision::FASTEST_FIRST[..]);
    for (name, model, candidates) in [("f32 weights", &plain, f32_weights), ("int8 weights", &rounded, int8_weights)] {
        for tolerance in [1.0, 1e-3, 1e-5, 0.0] {
            let mut model = model.clone();
            model.self_test.as_mut().unwrap().tolerance = tolerance;
            match block_on(gpu.open_model_in(&model, candidates)) {
                Ok(opened) => {
                    println!("{name}, tolerance {tolerance:e}: {:?}", opened.detector.ops().precision());
                    for (precision, reason) in &opened.refused {
                        println!("    not {precision:?}: {reason}");
                        assert!(reason.contains("fails the model's self-test"), "{reason}");
                        assert!(*precision > opened.detector.ops().precision());
                    }
                    chosen.push(Some(opened.detector.ops().precision()));
                    gpu = opened.detector.into_ops();
                }
                Err(error) => {
                    assert!(error.to_string().contains("fails the model's self-test"), "{error}");
                    println!("{name}, tolerance {tolerance:e}: {error}");
                    chosen.push(None);
                    gpu = webgpu().unwrap();
                }
            }
        }
    }
    let [f32_weights, int8_weights] = [&chosen[..4], &chosen[4..]];
    assert_eq!(f32_weights[0], Some(GpuPrecision::F16), "nothing is refused that differs by less than 1");
    assert_eq!(f32_weights[2..], [Some(GpuPrecision::F32), None]);
    // Activations in int8 move this model's map by 0.7 %, 3 are allowed whatever the tolerance. Nothing else is lost.
    assert_eq!(int8_weights, [Some(GpuPrecision::Int8); 4]);
}

/// One channel that dwarfs the others, as large ViTs have, leaves them nothing of eight bits: int8 weights then meet exact activations.
#[test]
fn activations_that_int8_cannot_hold_are_not_rounded() {
    let Some(gpu) = webgpu() else { return };
    let mut model = widened();
    for (name, tensor) in &mut model.weights.0 {
        let mut values = tensor.to_f32().into_owned();
        // The layer after it takes back what the channel gained: in single precision the model is the same.
        if name.starts_with("encoder.") && name.contains("norm2.") {
            values[0] *= 300.0;
        } else if name.starts_with("encoder.") && name.ends_with("fc1.weight") {
            values.chunks_exact_mut(tensor.shape[1]).for_each(|row| row[0] /= 300.0);
        }
        *tensor = HostTensor::f32(tensor.shape.clone(), values).unwrap();
    }
    model.weights = quantize(&model.weights).unwrap().0;
    let model = tested(model);
    let opened = block_on(gpu.open_model_in(&model, &GpuPrecision::FASTEST_FIRST)).unwrap();
    assert_eq!(opened.detector.ops().precision(), GpuPrecision::F16);
    assert!(matches!(opened.refused.as_slice(), [(GpuPrecision::Int8, _)]), "{:?}", opened.refused);
}

#[test]
fn a_gpu_finds_what_the_processor_finds() {
    if webgpu().is_none() {
        return;
    }
    let model = model();
    let (cpu, gpu) = (PhotoDetector::new(&model).unwrap(), PhotoDetector::on_gpu(&model).unwrap());
    let photos = photos();
    let (expected, found) = (cpu.scores(&photos).unwrap(), gpu.scores(&photos).unwrap());
    let largest = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{} photos, scores differ by at most {largest:e}", photos.len());
    assert!(!photos.is_empty() && largest <= model.self_test.unwrap().tolerance, "{largest:e}");
}

/// What `--int8` does: the self-test accepts it, and scores stay near.
#[test]
fn the_processor_takes_the_embedded_model_in_int8() {
    let model = model();
    let exact = PhotoDetector::new(&model).unwrap().scores(&photos()).unwrap();
    let rounded =
        PhotoDetector::in_precision(&model, processor::ProcessorPrecision::Int8).unwrap().scores(&photos()).unwrap();
    let largest = exact.iter().zip(&rounded).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f32::max);
    println!("scores differ by at most {largest:e} of them");
    assert!(largest > 0.0 && largest <= INT8_ERROR, "{largest:e}");
}

fn photos() -> Vec<PathBuf> {
    let folder = fixtures("photos");
    let mut photos: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    photos.retain(|path| path.extension().is_some_and(|kind| kind == "jpg"));
    photos
}
