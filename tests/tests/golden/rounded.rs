//! Golden models with rounded weights: what they say stays close to what they said.

use candle_core::Device;
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::ops::{Linear, Ops, Read, Then};
use dinomaly_core::quant::{Format, InputMoments, dequantize, quantize_to, round_tensor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_core::tensor::named::Weights;
use dinomaly_tests::{Golden, read_golden};

use crate::case::{Case, cases, entries};

/// The distance maps of a case's first input.
fn distances(case: &Case, weights: &Weights, input: &Golden) -> Vec<f32> {
    let ops = Candle::infer(Device::Cpu);
    let model = weights.dinomaly(&ops, &case.config, case.grid(input)).unwrap();
    let maps = model.distances(&ops, &ops.upload(&case.patches(input)).unwrap()).unwrap();
    pollster::block_on(ops.read_back(&maps.iter().collect::<Vec<_>>())).unwrap().concat()
}

/// Root mean square of the differences of distances, which lie in 0..=2.
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let squares: f32 = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum();
    (squares / found.len() as f32).sqrt()
}

#[test]
fn golden_models_stay_close_in_every_format() {
    let mut compared = 0;
    for case in cases() {
        let inputs = entries(&case.folder).into_iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("forward") && name.ends_with("safetensors")
        });
        let Some(input) = inputs.map(|path| read_golden(&path)).find_map(|mut stored| stored.remove("input")) else {
            continue;
        };
        let expected = distances(&case, &case.weights, &input);
        let [f16, int8, int4] = [Format::F16, Format::Int8, Format::Int4].map(|format| {
            let (rounded, report) = quantize_to(&case.weights, format, &InputMoments::new()).unwrap();
            assert!(!report.is_empty(), "{}: nothing was rounded to {format:?}", case.name);
            // Executors widen what they do not compute with.
            let found = distances(&case, &rounded, &input);
            assert_eq!(found, distances(&case, &dequantize(&rounded), &input), "{}, {format:?}", case.name);
            apart(&found, &expected)
        });
        println!("{}: f16 {f16:.1e}, int8 {int8:.1e}, int4 {int4:.1e}", case.name);
        assert!(f16 < 3e-4 && int8 < 0.01 && int4 < 0.08, "{}: f16 {f16}, int8 {int8}, int4 {int4}", case.name);
        compared += 1;
    }
    assert!(compared > 0, "no golden model was found");
}

/// Rows of an odd length, in several groups.
#[test]
fn executors_compute_with_int4_as_with_the_values_that_it_stands_for() {
    let waves = |shape: &[usize], step: f32| {
        let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * step).sin()).collect();
        HostTensor::f32(shape, values).unwrap()
    };
    let (x, weight) = (waves(&[2, 3, 77], 0.37), waves(&[5, 77], 0.71));
    let int4 = round_tensor("weight", &weight, Format::Int4).unwrap();
    let widened = HostTensor::f32([5, 77], int4.to_f32().into_owned()).unwrap();
    fn product<O: Read>(ops: &O, x: &HostTensor, weight: &HostTensor) -> Vec<f32> {
        let layer = Linear { weight: ops.upload(weight).unwrap(), bias: None };
        let y = ops.linear(&ops.upload(x).unwrap(), &layer, Then::Store).unwrap();
        pollster::block_on(ops.read_back(&[&y])).unwrap().remove(0)
    }
    let expected = product(&Reference, &x, &widened);
    assert!(apart(&expected, &product(&Reference, &x, &weight)) > 0.01, "rounding changes nothing");
    assert_eq!(product(&Reference, &x, &int4), expected);
    assert!(apart(&product(&Candle::infer(Device::Cpu), &x, &int4), &expected) < 1e-5);
}
