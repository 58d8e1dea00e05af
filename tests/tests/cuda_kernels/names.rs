//! Names, which only a GPU looks up: every kernel that is launched is defined, and every one that is defined is launched.

use std::collections::BTreeSet;

use dinomaly_core::executors::candle::kernels::adamw::{self, Buffers, Pieces, Settings};
use dinomaly_core::executors::candle::kernels::dropout::{Mask, dropout};
use dinomaly_core::executors::candle::kernels::linear_attention::{self, Grad, Heads};
use dinomaly_core::executors::candle::kernels::mining::{self, Points};
use dinomaly_core::executors::candle::kernels::residual::add_bias_residual;
use dinomaly_core::executors::candle::kernels::softmax::softmax;
use dinomaly_core::executors::candle::kernels::{Launch, Rows, bias, layer_norm};

use crate::ELEMENTS;
use crate::machine::{files, kernels, module, names};

/// One launch of each kind.
fn launches() -> Vec<Launch<u64>> {
    let rows = Rows { count: 1, width: 1 };
    let heads = Heads { batch: 1, tokens: 1, heads: 1, size: 1 };
    let attention =
        Grad { qkv: 0, grad: 0, sums: 0, totals: 0, inverses: 0, slopes: 0, of_sums: 0, of_totals: 0, out: 0 };
    let mask = Mask { seed: [0; 32], stream: 0, first: 0, limit: 0, kept: 1.0 };
    let points = Points { photos: 1, first: 0, patches: 1, channels: 1 };
    let buffers = Buffers { tensors: 0, pieces: 0, sums: 0, decision: 0, steps: 0, loss: 0, record: 0 };
    let settings = Settings { betas: (0.9, 0.999), eps: 1e-8, amsgrad: true, threshold: 1.0, limit: 1.0 };
    let mut launches = adamw::step(&Pieces::new(vec![1]), &buffers, &settings).to_vec();
    launches.extend(mining::stats([0; 3], points, 1));
    launches.push(mining::losses([0; 2], points));
    launches.push(mining::grad([0; 5], points, 0.0));
    for (element, _) in ELEMENTS {
        launches.extend([
            bias::add_bias(element, [0; 3], rows),
            bias::add_bias_gelu(element, [0; 3], rows),
            bias::add_bias_gelu_grad(element, [0; 4], rows),
            add_bias_residual(element, [0; 4], rows),
            dropout(element, [0; 2], 1, &mask),
            layer_norm::forward(element, [0; 4], rows, 1e-6),
            layer_norm::grad_x(element, [0; 4], None, rows, 1e-6),
            linear_attention::key_value_sums(element, [0; 3], heads),
            linear_attention::attend(element, [0; 4], heads, 0.0),
            softmax(element, [0; 2], rows, 1.0),
        ]);
        launches.extend(bias::column_sum(element, [0; 3], rows));
        launches.extend(layer_norm::grad_weight(element, [0; 5], rows, 1e-6));
        launches.extend(linear_attention::grad(element, &attention, heads, 0.0));
    }
    launches
}

#[test]
fn every_kernel_that_is_launched_is_defined_and_the_other_way_round() {
    let launched: BTreeSet<_> =
        launches().into_iter().map(|launch| (launch.module.to_owned(), launch.kernel)).collect();
    let of_file = |file| names(file).into_iter().map(|kernel| (module(file), kernel)).collect::<Vec<_>>();
    let defined: BTreeSet<_> = files().iter().flat_map(|file| of_file(file)).collect();
    let missing: Vec<_> = launched.difference(&defined).collect();
    let unused: Vec<_> = defined.difference(&launched).collect();
    assert!(missing.is_empty(), "launched, but not defined: {missing:?}");
    assert!(unused.is_empty(), "defined, but not launched here: {unused:?}");
}

#[test]
fn every_file_of_kernels_is_part_of_the_program() {
    let device = std::fs::read_to_string(kernels().join("device.rs")).unwrap();
    let (_, list) = device.split_once("compiled!(\n").unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let listed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    let there: Vec<String> = files().iter().map(|file| module(file)).collect();
    assert_eq!(listed, there);
}
