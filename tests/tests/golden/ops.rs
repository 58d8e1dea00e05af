//! The golden cases of single operations, on every executor: GELU, ELU + 1, layer norm, attention modules.
//!
//! Tolerance: ten times the float noise of the official code, which the files state or show (its f32 against its f64).

use std::collections::BTreeMap;

use dinomaly_core::tensor::HostTensor;
use dinomaly_tests::executors::{After, Executor, Op, others, reference};
use dinomaly_tests::{Golden, assert_close, golden, max_difference, read_golden, read_json};

fn host(shape: impl Into<Vec<usize>>, values: &[f32]) -> HostTensor {
    HostTensor::f32(shape, values.to_vec()).unwrap()
}

fn everyone() -> Vec<Executor> {
    let mut all = others();
    all.insert(0, reference());
    all
}

/// The file of elementwise operations, norms and attention modules, where the folder has it.
fn cases() -> Option<BTreeMap<String, Golden>> {
    let path = golden().join("ops/elementwise_norm_attention.safetensors");
    if !path.is_file() {
        println!("SKIPPED: {} is not part of this set", path.display());
        return None;
    }
    Some(read_golden(&path))
}

/// What rounding to f32 costs the official code, never less than one rounding of the largest value.
fn noise(values: &[f32], exact: &[f32]) -> f32 {
    let largest = exact.iter().fold(0f32, |largest, v| largest.max(v.abs()));
    max_difference(values, exact).max(largest * f32::EPSILON)
}

#[test]
fn gelu() {
    let Some(all) = cases() else { return };
    let mut compared = 0;
    if let (Some(x), Some(f32), Some(f64)) = (all.get("x"), all.get("gelu"), all.get("gelu_f64")) {
        // The identity layer: one input, one output.
        let op = Op::Linear {
            x: host([1, x.values.len(), 1], &x.values),
            weight: host([1, 1], &[1.0]),
            bias: Some(host([1], &[0.0])),
            then: After::Gelu,
        };
        // Relative to the argument: the cases reach from -88 to 88.
        let relative = |values: &[f32]| -> Vec<f32> {
            values.iter().zip(&x.values).map(|(value, x)| if *x == 0.0 { *value } else { value / x.abs() }).collect()
        };
        let exact = relative(&f64.values);
        let noise = noise(&relative(&f32.values), &exact);
        for executor in everyone() {
            let found = relative(&executor.run(&op));
            let what = format!("gelu(x) / |x| on {}", executor.name);
            println!("{what}: {:.1} times the noise of {noise:.1e}", max_difference(&found, &exact) / noise);
            assert_close(&what, &found, &exact, 10.0 * noise);
            compared += 1;
        }
    }
    println!("gelu: {compared} tensors compared");
}

#[test]
fn elu_plus_one() {
    let Some(all) = cases() else { return };
    let mut compared = 0;
    if let (Some(x), Some(expected)) = (all.get("x"), all.get("elu_plus_one")) {
        // No operation of its own: with the keys x and 0 and the values 1 and 0, linear attention gives phi(x) / (phi(x) + 1).
        let qkv = x.values.iter().flat_map(|&x| [0.0, x, 1.0, 0.0, 0.0, 0.0]).collect::<Vec<_>>();
        let op = Op::LinearAttention { qkv: host([x.values.len(), 2, 3], &qkv), heads: 1, hidden: None, eps: 0.0 };
        let shares: Vec<f32> = expected.values.iter().map(|phi| phi / (phi + 1.0)).collect();
        for executor in everyone() {
            let firsts: Vec<f32> = executor.run(&op).into_iter().step_by(2).collect();
            assert_close(&format!("elu + 1 on {}", executor.name), &firsts, &shares, 10.0 * f32::EPSILON);
            compared += 1;
        }
    }
    println!("elu + 1: {compared} tensors compared");
}

#[test]
fn layer_norm() {
    let Some(all) = cases() else { return };
    let executors = everyone();
    let (mut compared, mut worst) = (0, BTreeMap::<&str, f32>::new());
    for (name, official) in all.iter().filter(|(name, _)| name.starts_with("ln_out_eps") && !name.ends_with("_f64")) {
        let [x, weight, bias, exact] = ["ln_x", "ln_w", "ln_b", &format!("{name}_f64")]
            .map(|name| all.get(name).unwrap_or_else(|| panic!("{name}")));
        let (rows, channels) = (x.shape[0], x.shape[1]);
        let op = Op::LayerNorm {
            x: host([1, rows, channels], &x.values),
            weight: host([channels], &weight.values),
            bias: host([channels], &bias.values),
            eps: name["ln_out_eps".len()..].parse().unwrap(),
        };
        let Op::LayerNorm { eps, .. } = op else { unreachable!() };
        for executor in &executors {
            let found = executor.run(&op);
            // Row by row: they differ by orders of magnitude in how much they cancel.
            for row in 0..rows {
                let of_row = |values: &'_ [f32]| values[row * channels..][..channels].to_vec();
                let (found, exact) = (of_row(&found), of_row(&exact.values));
                let tolerance = 10.0 * noise(&of_row(&official.values), &exact) + rounded_mean(&of_row(&x.values), eps);
                let what = format!("{name}, row {row}, on {}", executor.name);
                let share = max_difference(&found, &exact) / tolerance;
                println!("{what}: {share:.2} of the tolerance of {tolerance:.1e}");
                assert_close(&what, &found, &exact, tolerance);
                let worst = worst.entry(executor.name).or_default();
                *worst = worst.max(share);
            }
            compared += 1;
        }
    }
    println!("layer norm: {compared} tensors compared, at most this part of the tolerance: {worst:.2?}");
}

/// What a mean in f32 can cost besides: its rounding, divided by the standard deviation. Only a constant row shows it; there
/// the official code happens to be exact.
fn rounded_mean(row: &[f32], eps: f64) -> f32 {
    let count = row.len() as f64;
    let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
    2.0 * f32::EPSILON * (mean.abs() / (variance + eps).sqrt()) as f32
}

#[test]
fn attention_modules() {
    let Some(all) = cases() else { return };
    let stated = read_json(&golden().join("ops/ops.json"));
    let executors = everyone();
    let (mut compared, mut worst) = (0, BTreeMap::<&str, f32>::new());
    for (name, expected) in all.iter().filter(|(name, _)| name.starts_with("attn_") && name.contains("/out_")) {
        let (module, kind) = name.split_once("/out_").unwrap();
        let heads: usize = module.rsplit_once('h').unwrap().1.parse().unwrap();
        let part = |part: &str| {
            let part = format!("{module}/{part}");
            let golden = all.get(&part).unwrap_or_else(|| panic!("{part} is missing"));
            host(golden.shape.clone(), &golden.values)
        };
        let noise = stated[name.as_str()]["f32_noise_max"].as_f64().unwrap_or_else(|| panic!("no noise for {name}"));
        for executor in &executors {
            let linear = |x: HostTensor, layer: &str| {
                let (weight, bias) = (part(&format!("{layer}.weight")), Some(part(&format!("{layer}.bias"))));
                let shape = [x.shape[0], x.shape[1], weight.shape[0]];
                host(shape, &executor.run(&Op::Linear { x, weight, bias, then: After::Store }))
            };
            let x = part("x");
            let shape = x.shape.clone();
            let qkv = linear(x, "qkv");
            let mixed = match kind {
                // The same numbers by way of the tokens × tokens matrix.
                "linear" | "linear_quadratic" => Op::LinearAttention { qkv, heads, hidden: None, eps: 0.0 },
                "softmax" => Op::Attention { qkv, heads, hidden: None },
                other => panic!("{name}: unknown kind of attention {other}"),
            };
            let found = linear(host(shape, &executor.run(&mixed)), "proj").to_f32().into_owned();
            let what = format!("{name} on {}", executor.name);
            let ratio = max_difference(&found, &expected.values) / noise as f32;
            println!("{what}: {ratio:.1} times the noise of {noise:.1e}");
            assert_close(&what, &found, &expected.values, 10.0 * noise as f32);
            let worst = worst.entry(executor.name).or_default();
            *worst = worst.max(ratio);
            compared += 1;
        }
    }
    println!("attention modules: {compared} tensors compared, at most so many times the official noise: {worst:.1?}");
}
