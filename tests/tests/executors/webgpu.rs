//! What the GPU executor promises beside its results: one submission a photo, buffers used again, faults as errors.

use dinomaly_core::Error;
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::executors::webgpu::WebGpu;
use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::maps::score::MapLayout;
use dinomaly_core::ops::{Linear, Neighbours, Norm, Ops, Read, Then};
use dinomaly_core::tensor::{Data, HostTensor};
use dinomaly_tests::assert_close;
use dinomaly_tests::executors::webgpu;
use pollster::block_on;

fn waves(shape: &[usize], frequency: f32) -> HostTensor {
    let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * frequency).sin()).collect();
    HostTensor::f32(shape, values).unwrap()
}

fn layer<O: Ops>(ops: &O, inputs: usize, outputs: usize) -> Linear<O::Tensor> {
    let weight = waves(&[outputs, inputs], 0.37).to_f32().iter().map(|v| v / (inputs as f32).sqrt()).collect();
    Linear {
        weight: ops.upload(&HostTensor::f32([outputs, inputs], weight).unwrap()).unwrap(),
        bias: Some(ops.upload(&waves(&[outputs], 1.3)).unwrap()),
    }
}

/// Ten times the largest difference measured over a chain; a mixed-up buffer makes one of the order of 1.
const CHAIN: f32 = 1.5e-4;

/// Twelve steps of which each drops the tensor before it, as a net's blocks do.
fn chain<O: Ops>(ops: &O, x: &HostTensor) -> O::Tensor {
    let (wide, narrow) = (layer(ops, 33, 99), layer(ops, 33, 33));
    let ones = ops.upload(&HostTensor::f32([33], vec![1.0; 33]).unwrap()).unwrap();
    let norm = Norm { weight: ones.clone(), bias: ones, eps: 1e-6 };
    let mut x = ops.upload(x).unwrap();
    for _ in 0..3 {
        let qkv = ops.linear(&ops.layer_norm(&x, &norm).unwrap(), &wide, Then::Store).unwrap();
        let mixed = ops.attention(&qkv, 3, None, None).unwrap();
        drop(qkv);
        x = ops.linear(&mixed, &narrow, Then::Add(&x)).unwrap();
    }
    x
}

#[test]
fn buffers_are_used_again_and_a_photo_is_one_submission() {
    let Some(gpu) = webgpu() else { return };
    let photos: Vec<_> = [0.11, 0.23, 0.51, 0.77].map(|frequency| waves(&[2, 19, 33], frequency)).into();
    let mut sizes = Vec::new();
    for (i, photo) in photos.iter().enumerate() {
        let before = gpu.usage().submissions;
        let found = block_on(gpu.read(&chain(&gpu, photo))).unwrap();
        assert_eq!(gpu.usage().submissions, before + 1, "photo {i}");
        let expected = chain(&Reference, photo).values;
        assert_close(&format!("photo {i}"), &found, &expected, CHAIN);
        sizes.push(gpu.usage());
    }
    println!("{sizes:?}");
    assert_eq!(sizes[2].buffers, sizes[3].buffers, "the fourth photo needed new buffers");
    // Twelve results of three sizes: without reuse there would be more than twelve for them alone.
    assert!(sizes[0].buffers <= 12, "{} buffers for the first photo", sizes[0].buffers);
}

#[test]
fn idle_buffers_go_after_a_while() {
    let Some(gpu) = webgpu() else { return };
    let small = gpu.upload(&waves(&[1, 1, 4], 0.5)).unwrap();
    drop(gpu.upload(&waves(&[1, 100, 100], 0.5)).unwrap());
    assert!(gpu.usage().bytes >= 40_000);
    for _ in 0..4 {
        block_on(gpu.read(&small)).unwrap();
    }
    assert_eq!(gpu.usage().bytes, 16);
}

#[test]
fn an_upload_does_not_overtake_recorded_commands() {
    let Some(gpu) = webgpu() else { return };
    let first = waves(&[1, 5, 8], 0.3);
    let mean = gpu.mean(&[gpu.upload(&first).unwrap()]).unwrap();
    // The first operand's buffer is free by now, but still to be read by the mean.
    let second = gpu.upload(&waves(&[1, 5, 8], 0.9)).unwrap();
    let found = block_on(gpu.read_all(&[&mean, &second])).unwrap();
    assert_eq!(found[0], *first.to_f32());
    assert_eq!(found[1], *waves(&[1, 5, 8], 0.9).to_f32());
}

#[test]
fn several_tensors_come_back_at_once_without_their_padding() {
    let Some(gpu) = webgpu() else { return };
    let tensors = [waves(&[2, 3, 5], 0.3), waves(&[7], 0.4), waves(&[3, 8], 0.5), waves(&[0, 4, 3], 0.6)];
    let uploaded: Vec<_> = tensors.iter().map(|tensor| gpu.upload(tensor).unwrap()).collect();
    let found = block_on(gpu.read_all(&uploaded.iter().collect::<Vec<_>>())).unwrap();
    for (found, tensor) in found.iter().zip(&tensors) {
        assert_eq!(*found, *tensor.to_f32());
    }
    assert_eq!(gpu.usage().submissions, 1);
}

#[test]
fn maps_are_read_in_one_submission_unless_a_distance_is_no_number() {
    let Some(gpu) = webgpu() else { return };
    let layout = MapLayout { prefix: 2, grid: 3, input_side: 42, border: MapBorder::Zero };
    let maps = |spoilt: f32| {
        let mut distances = waves(&[2, 11], 0.3).to_f32().to_vec();
        distances[11 + 2 + 4] = spoilt;
        let groups = [waves(&[2, 11], 0.7), HostTensor::f32([2, 11], distances).unwrap()];
        let before = gpu.usage().submissions;
        let beside = gpu.upload(&waves(&[2, 1, 5], 0.2)).unwrap();
        let groups = groups.map(|group| gpu.upload(&group).unwrap());
        let found = block_on(gpu.read_maps(&groups, Some(&beside), 2, &layout));
        (found, gpu.usage().submissions - before)
    };
    let (found, submissions) = maps(0.5);
    let (found, beside) = found.unwrap();
    assert_eq!((found.len(), submissions), (2, 1));
    assert_eq!(beside, *waves(&[2, 1, 5], 0.2).to_f32());
    for spoilt in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let why = format!("distances of group 1: patch 4 has the distance {spoilt}, expected a finite number");
        refused(maps(spoilt).0, &why);
    }
    let tokens = gpu.upload(&waves(&[2, 10], 0.7)).unwrap();
    refused(block_on(gpu.read_maps(&[tokens], None, 2, &layout)), "distances: expected shape [2, 11], found [2, 10]");
    refused(block_on(gpu.read_maps(&[], None, 2, &layout)), "no tensors to average");
}

#[test]
fn int8_weights_stay_int8() {
    let Some(gpu) = webgpu() else { return };
    let data = Data::Int8 { values: vec![1; 64 * 62], scales: vec![1.0; 64] };
    let weight = gpu.upload_weight(&HostTensor { shape: vec![64, 62], data }).unwrap();
    // A byte each in rows of whole words; a scale and a sum for each row.
    assert_eq!(gpu.usage().bytes, 64 * 64 + 2 * 64 * 4);
    let bias = gpu.upload(&waves(&[64], 0.1)).unwrap();
    refused(block_on(gpu.read(&weight)), "expected f32 values, found a smaller type");
    refused(gpu.embed(&gpu.upload(&waves(&[1, 64, 62], 0.1)).unwrap(), &weight, &weight), "found a smaller type");
    let x = gpu.upload(&waves(&[1, 2, 62], 0.1)).unwrap();
    gpu.linear(&x, &Linear { weight, bias: Some(bias) }, Then::Store).unwrap();
}

#[test]
fn kernels_are_timed_one_by_one() {
    let Some(gpu) = webgpu() else { return };
    let photo = waves(&[2, 19, 33], 0.2);
    block_on(gpu.read(&chain(&gpu, &photo))).unwrap();
    assert_eq!(gpu.profile(), []);
    if let Err(reason) = gpu.start_profile() {
        assert!(reason.to_string().contains("offers no timestamps"), "{reason}");
        return println!("SKIPPED: {reason}");
    }
    for _ in 0..2 {
        let found = block_on(gpu.read(&chain(&gpu, &photo))).unwrap();
        assert_close("while timed", &found, &chain(&Reference, &photo).values, CHAIN);
    }
    let times = gpu.profile();
    println!("{times:?}");
    let count =
        |start: &str| times.iter().filter(|time| time.kernel.starts_with(start)).map(|time| time.count).sum::<u64>();
    assert_eq!([count("linear_f32"), count("layer_norm"), count("attention"), count("")], [12, 6, 6, 24]);
    assert!(times.iter().all(|time| time.nanoseconds > 0));
    assert!(times.is_sorted_by_key(|time| std::cmp::Reverse(time.nanoseconds)));
    assert_eq!(gpu.profile(), []);
}

#[test]
fn wrong_shapes_are_named() {
    let Some(gpu) = webgpu() else { return };
    let x = gpu.upload(&waves(&[1, 2, 9], 0.1)).unwrap();
    refused(gpu.linear(&x, &layer(&gpu, 8, 4), Then::Store), "linear weight: expected shape [4, 9], found [4, 8]");
    refused(gpu.linear(&x, &layer(&gpu, 9, 4), Then::Add(&x)), "linear residual: expected shape [1, 2, 4]");
    refused(gpu.attention(&x, 2, None, None), "9 channels cannot be split into 3 parts of 2 heads");
    refused(gpu.attention(&x, 0, None, None), "0 heads");
    let window = Neighbours { prefix: 1, reach: 1 };
    refused(
        gpu.attention(&gpu.upload(&waves(&[1, 4, 9], 0.1)).unwrap(), 1, Some(window), None),
        "3 patches do not form a square grid",
    );
    let kernels = gpu.upload(&waves(&[9, 1, 2, 2], 0.1)).unwrap();
    refused(
        gpu.depthwise_conv(&gpu.upload(&waves(&[1, 4, 9], 0.1)).unwrap(), &kernels),
        "kernels of shape [9, 1, 2, 2]",
    );
    refused(gpu.mean(&[]), "no tensors to average");
    refused(gpu.cosine_distance(&x, &gpu.upload(&waves(&[1, 2, 8], 0.1)).unwrap()), "cosine operand");
}

#[test]
fn what_no_gpu_holds_is_refused() {
    let Some(gpu) = webgpu() else { return };
    let x = gpu.upload(&waves(&[1, 9000, 1], 0.1)).unwrap();
    refused(gpu.linear(&x, &layer(&gpu, 1, 4096), Then::Store), "147456000 bytes");
    // Nothing was broken by it.
    gpu.linear(&x, &layer(&gpu, 1, 3), Then::Store).unwrap();
}

#[test]
fn a_lost_device_is_an_error_from_then_on() {
    let Some(gpu) = webgpu() else { return };
    let x = waves(&[2, 19, 33], 0.2);
    // Lost with commands recorded, and a layer whose weights were there.
    let (result, layer) = (chain(&gpu, &x), layer(&gpu, 33, 5));
    gpu.lose_device();
    refused(block_on(gpu.read(&result)), "the GPU was lost");
    refused(gpu.upload(&x), "the GPU was lost");
    refused(gpu.linear(&result, &layer, Then::Store), "the GPU was lost");
    drop((result, layer, gpu));

    let gpu = block_on(WebGpu::new()).unwrap();
    let found = block_on(gpu.read(&chain(&gpu, &x))).unwrap();
    assert_close("after the loss", &found, &chain(&Reference, &x).values, CHAIN);
}

fn refused<T>(outcome: Result<T, Error>, why: &str) {
    let reason = outcome.err().expect("should be refused").to_string();
    assert!(reason.contains(why), "{reason:?} does not say {why:?}");
}
