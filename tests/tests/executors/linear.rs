//! Every kernel of the linear layer on the GPU: each way of storing operands in each tile, against plain loops, at sizes
//! that are multiples of nothing.
//!
//! Tolerances are relative to the largest value of the result. Where the operands are what the reference computes with, they
//! are ten times the largest difference measured on lavapipe; activations rounded to int8 are another matter, see there.

use dinomaly_core::executors::reference::Reference;
use dinomaly_core::executors::webgpu::{GpuPrecision, Tile};
use dinomaly_core::ops::{Linear, Ops, Then};
use dinomaly_core::tensor::int4::pack;
use dinomaly_core::tensor::{Data, HostTensor};
use dinomaly_tests::executors::{After, Op, reference, run_on, webgpu};
use dinomaly_tests::max_difference;
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Batch, tokens, inputs, outputs: below, at and beyond the tiles' extents, and beyond what a vec4 holds.
const SIZES: [[usize; 4]; 8] = [
    [1, 1, 1, 1],
    [2, 3, 5, 7],
    [1, 64, 64, 64],
    [3, 23, 130, 65],
    [1, 130, 33, 66],
    [2, 33, 588, 97],
    [1, 70, 1536, 67],
    [5, 1, 18, 259],
];

/// Sums of f32 products, in whatever order: measured 1.2e-6.
const ROUNDING: f32 = 1e-5;

fn random(generator: &mut ChaCha8Rng, shape: &[usize]) -> HostTensor {
    let values = (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0)).collect();
    HostTensor::f32(shape, values).unwrap()
}

fn half(tensor: &HostTensor) -> HostTensor {
    let values = tensor.to_f32().iter().copied().map(f16::from_f32).collect();
    HostTensor { shape: tensor.shape.clone(), data: Data::F16(values) }
}

fn int8(generator: &mut ChaCha8Rng, shape: &[usize]) -> HostTensor {
    let values = (0..shape.iter().product()).map(|_| generator.random_range(-127..=127)).collect();
    let scales = (0..shape[0]).map(|_| generator.random_range(0.0001..0.002)).collect();
    HostTensor { shape: shape.to_vec(), data: Data::Int8 { values, scales } }
}

/// Activations that int8 holds exactly: whole numbers from one below zero to the 255th after it, times a power of two.
fn whole(generator: &mut ChaCha8Rng, shape: &[usize]) -> HostTensor {
    let mut tensor = random(generator, shape);
    let Data::F32(values) = &mut tensor.data else { unreachable!() };
    for row in values.chunks_exact_mut(shape[2]) {
        let scale = f32::from(generator.random_range(-9_i8..3)).exp2();
        // Zero is among them, also where none is below it or above.
        let smallest = f32::from(generator.random_range(-255_i16..=0));
        row.iter_mut().for_each(|value| *value = (smallest + (127.5 * (*value + 1.0)).round()) * scale);
        row[0] = smallest * scale;
        row[shape[2] - 1] = (smallest + 255.0) * scale;
    }
    tensor
}

/// Runs every size in every tile, with every epilogue. `operands` makes activations, the weight that the GPU gets, and the
/// one that it should compute with.
fn check(
    what: &str,
    precision: GpuPrecision,
    tolerance: f32,
    operands: impl Fn(&mut ChaCha8Rng, &[usize], &[usize]) -> [HostTensor; 3],
) {
    let Some(gpu) = webgpu() else { return };
    let mut gpu = gpu.with_precision(precision);
    let reference = reference();
    for tile in Tile::ALL {
        gpu = gpu.with_tile(tile);
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let mut worst = 0_f32;
        for (i, [batch, tokens, inputs, outputs]) in SIZES.into_iter().enumerate() {
            let [x, weight, computed_with] = operands(&mut generator, &[batch, tokens, inputs], &[outputs, inputs]);
            let bias = (i % 4 != 3).then(|| random(&mut generator, &[outputs]));
            let residual = random(&mut generator, &[batch, tokens, outputs]);
            for then in [After::Store, After::Gelu, After::Add(residual)] {
                let op = Op::Linear { x: x.clone(), weight: weight.clone(), bias: bias.clone(), then };
                let found = run_on(&gpu, &op);
                let Op::Linear { x, bias, then, .. } = op else { unreachable!() };
                let expected = reference.run(&Op::Linear { x, weight: computed_with.clone(), bias, then });
                let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, v| largest.max(v.abs()));
                let difference = max_difference(&found, &expected) / largest;
                let size = [batch, tokens, inputs, outputs];
                assert!(difference <= tolerance, "{what}, {tile:?}: {size:?} differs by {difference:e}");
                worst = worst.max(difference);
            }
        }
        println!("{what}, {tile:?}: largest difference {worst:.1e}, tolerance {tolerance:e}");
    }
}

fn f32_weight(generator: &mut ChaCha8Rng, x: &[usize], weight: &[usize]) -> [HostTensor; 2] {
    let bound = 2.0 * (x[2] as f32).powf(-0.5);
    let values = random(generator, weight).to_f32().iter().map(|v| v * bound).collect();
    [random(generator, x), HostTensor::f32(weight, values).unwrap()]
}

#[test]
fn f32_weights() {
    check("f32", GpuPrecision::F32, ROUNDING, |generator, x, weight| {
        let [x, weight] = f32_weight(generator, x, weight);
        [x, weight.clone(), weight]
    });
}

#[test]
fn f16_weights_are_used_as_they_are_stored() {
    check("f16", GpuPrecision::F32, ROUNDING, |generator, x, weight| {
        let [x, weight] = f32_weight(generator, x, weight);
        [x, half(&weight), half(&weight)]
    });
}

#[test]
fn f32_weights_are_rounded_to_f16_where_that_is_precise_enough() {
    check("f32 as f16", GpuPrecision::F16, ROUNDING, |generator, x, weight| {
        let [x, weight] = f32_weight(generator, x, weight);
        [x, weight.clone(), half(&weight)]
    });
}

#[test]
fn int8_weights() {
    check("int8", GpuPrecision::F16, ROUNDING, |generator, x, weight| {
        let [x, weight] = [random(generator, x), int8(generator, weight)];
        [x, weight.clone(), weight]
    });
}

#[test]
fn int4_weights() {
    for group in [32, 64] {
        check(&format!("int4 in groups of {group}"), GpuPrecision::Int8, ROUNDING, |generator, x, weight| {
            let (outputs, inputs) = (weight[0], weight[1]);
            let row =
                |_| pack(&(0..inputs).map(|_| generator.random_range(-8..=7)).collect::<Vec<i8>>()).collect::<Vec<_>>();
            let values = (0..outputs).flat_map(row).collect();
            let count = outputs * inputs.div_ceil(group);
            let scales = (0..count).map(|_| f16::from_f32(generator.random_range(0.001..0.02))).collect();
            let weight = HostTensor::int4("weight", weight, values, scales, group).unwrap();
            [random(generator, x), weight.clone(), weight]
        });
    }
}

/// What rounding does not change must come out as if nothing were rounded.
#[test]
fn int8_weights_times_int8_activations() {
    check("int8 times int8", GpuPrecision::Int8, ROUNDING, |generator, x, weight| {
        let [x, weight] = [whole(generator, x), int8(generator, weight)];
        [x, weight.clone(), weight]
    });
}

/// Each activation is wrong by up to 1/510 of its row's range, at random: measured 6.0e-3 of the largest sum. Where all are
/// rounded down it is more than is tolerated.
#[test]
fn activations_rounded_to_int8() {
    check("activations rounded to int8", GpuPrecision::Int8, 7e-3, |generator, x, weight| {
        let [x, weight] = [random(generator, x), int8(generator, weight)];
        [x, weight.clone(), weight]
    });
}

/// A cosine distance reads whole vec4s: what a tile computes beyond the last output must not be among them.
#[test]
fn what_pads_a_row_is_zero() {
    let Some(mut gpu) = webgpu() else { return };
    let mut generator = ChaCha8Rng::seed_from_u64(2);
    let [x, weight, other] = [&[1, 5, 3][..], &[5, 3], &[1, 5, 5]].map(|shape| random(&mut generator, shape));
    let expected = distances(&Reference, [&x, &weight, &other]).values.to_vec();
    for tile in Tile::ALL {
        gpu = gpu.with_tile(tile);
        let found = pollster::block_on(gpu.read(&distances(&gpu, [&x, &weight, &other]))).unwrap();
        assert!(max_difference(&found, &expected) < 1e-5, "{tile:?}: {found:?}, expected {expected:?}");
    }
}

fn distances<O: Ops>(ops: &O, [x, weight, other]: [&HostTensor; 3]) -> O::Tensor {
    let layer = Linear { weight: ops.upload_weight(weight).unwrap(), bias: None };
    let product = ops.linear(&ops.upload(x).unwrap(), &layer, Then::Store).unwrap();
    ops.cosine_distance(&product, &ops.upload(other).unwrap()).unwrap()
}

/// What f16 cannot hold stays f32, and a row of zeros stays zeros.
#[test]
fn what_smaller_types_cannot_hold() {
    let Some(gpu) = webgpu() else { return };
    let gpu = gpu.with_precision(GpuPrecision::Int8);
    let product = |x: &HostTensor, weight: &HostTensor| {
        let layer = Linear { weight: gpu.upload_weight(weight).unwrap(), bias: None };
        let product = gpu.linear(&gpu.upload(x).unwrap(), &layer, Then::Store).unwrap();
        pollster::block_on(gpu.read(&product)).unwrap()
    };
    let large = HostTensor::f32([1, 2], vec![1e6, 1.0]).unwrap();
    assert_eq!(product(&HostTensor::f32([1, 1, 2], vec![2.0, 3.0]).unwrap(), &large), [2e6 + 3.0]);
    let weight = HostTensor { shape: vec![1, 2], data: Data::Int8 { values: vec![3, 5], scales: vec![0.5] } };
    let x = HostTensor::f32([1, 3, 2], vec![0.0, 0.0, 255.0, 0.0, f32::INFINITY, 0.0]).unwrap();
    let found = product(&x, &weight);
    assert_eq!(found[..2], [0.0, 382.5]);
    assert!(!found[2].is_finite(), "{found:?}: what has overflowed must not look like a number");
}
