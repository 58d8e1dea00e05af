//! StableAdamW's step over many tensors.

use candle_core::{DType, Device, Tensor, Var};
use dinomaly::training::optimizer::{OptimizerSettings, StableAdamW};
use dinomaly_core::executors::candle::kernels::adamw::{self, Buffers, Pieces, Settings};

use crate::machine::{Machine, is_there};
use crate::{compare, random};

#[test]
fn steps_over_many_tensors_with_one_that_is_left_out() {
    if is_there() {
        for amsgrad in [true, false] {
            steps_on(Machine::default(), amsgrad);
            // Where packs of values cannot begin.
            steps_on(Machine::unaligned(), amsgrad);
        }
    }
}

fn steps_on(mut machine: Machine, amsgrad: bool) {
    // The last two take more than one block.
    let sizes = [1, 7, 300, 8193, 20_000];
    // More decay than in the official code, so that it shows.
    let settings = OptimizerSettings { weight_decay: 0.5, amsgrad, ..OptimizerSettings::default() };
    let variables: Vec<Var> = sizes.iter().enumerate().map(|(i, &n)| random(i as u64, &[n])).collect();
    let named = variables.iter().enumerate().map(|(i, var)| (format!("{i}"), var.clone())).collect();
    let start: Vec<Tensor> = variables.iter().map(|var| var.as_tensor().copy().unwrap()).collect();
    let mut expected = StableAdamW::new(named, settings).unwrap();

    let pieces = Pieces::new(sizes.to_vec());
    let zeros = |n: usize| Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
    let state: Vec<[usize; 4]> = start
        .iter()
        .map(|t| {
            [t.clone(), zeros(t.elem_count()), zeros(t.elem_count()), zeros(t.elem_count())].map(|t| machine.tensor(&t))
        })
        .collect();
    let table = machine.tensor(&Tensor::new(pieces.table.as_slice(), &Device::Cpu).unwrap());
    let sums = machine.room(DType::F32, pieces.count());
    let decision = machine.room(DType::F32, 2);
    let counted = machine.tensor(&Tensor::new(&[0u32], &Device::Cpu).unwrap());

    // The second is not a number; the third and fourth are clipped, of which the fourth is far larger than those before.
    // The first two tensors have a rate of their own.
    let (limit, rates) = (0.1, [2e-4, 2e-4, 2e-3, 2e-3, 2e-3]);
    let mut records = Vec::new();
    for (step, scale) in [1e-5, f64::NAN, 0.01, 100.0].into_iter().enumerate() {
        let gradients: Vec<Tensor> = sizes
            .iter()
            .enumerate()
            .map(|(i, &n)| (random((10 * step + i + 50) as u64, &[n]).as_tensor() * scale).unwrap())
            .collect();
        let loss = Tensor::new(0.5f32 + step as f32, &Device::Cpu).unwrap();
        // The gradient of a sum of products is the other factor, to the bit.
        let products = variables.iter().zip(&gradients).map(|(v, g)| (v.as_tensor() * g).unwrap().sum_all().unwrap());
        let store = products.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap();
        let taken = expected.clipped_step(&loss, &store, &|name| rates[name.parse::<usize>().unwrap()], limit).unwrap();

        let gradients: Vec<usize> = gradients.iter().map(|g| machine.tensor(g)).collect();
        let addresses: Vec<[u64; 5]> = state
            .iter()
            .zip(gradients)
            .map(|(&[parameter, mean, square, largest], gradient)| {
                [parameter, gradient, mean, square, largest].map(Machine::address)
            })
            .collect();
        let record = machine.room(DType::F32, 2);
        let buffers = Buffers {
            tensors: machine.table(&pieces.tensors(&addresses, &rates, settings.weight_decay)),
            pieces: table,
            sums,
            decision,
            steps: counted,
            loss: machine.tensor(&loss),
            record,
        };
        let settings =
            Settings { betas: settings.betas, eps: settings.eps, amsgrad, threshold: settings.clip_threshold, limit };
        machine.launch(adamw::step(&pieces, &buffers, &settings));
        records.push((record, taken));
    }
    machine.run();
    assert_eq!(machine.read(counted, DType::U32, &[1]).to_vec1::<u32>().unwrap(), [3]);
    for (step, (record, taken)) in records.into_iter().enumerate() {
        let (found, taken) = (machine.read(record, DType::F32, &[2]), taken.to_vec1::<f32>().unwrap());
        if step == 1 {
            assert!(found.to_vec1::<f32>().unwrap()[1].is_nan() && taken[1].is_nan());
        } else {
            compare(&format!("loss and norm of step {step}"), &found, &Tensor::new(taken, &Device::Cpu).unwrap(), 3e-6);
        }
    }
    for (i, ((_, var, moments), buffers)) in expected.parameters.iter().zip(&state).enumerate() {
        let parts = [("parameter", var.as_tensor()), ("mean", &moments.mean), ("square", &moments.square)];
        let parts = parts.into_iter().chain([("largest", &moments.largest)]);
        for ((what, tensor), &buffer) in parts.zip(buffers) {
            let found = machine.read(buffer, DType::F32, &[sizes[i]]);
            compare(&format!("{what} of tensor {i}"), &found, tensor, 3e-6);
        }
        let moved = (var.as_tensor() - &start[i]).unwrap();
        let found = (machine.read(buffers[0], DType::F32, &[sizes[i]]) - &start[i]).unwrap();
        // The difference of nearly equal numbers: their rounding is large beside it.
        compare(&format!("movement of tensor {i}"), &found, &moved, 1e-3);
    }
}
