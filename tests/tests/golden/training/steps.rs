//! What a step is made of, each alone: loss, optimiser, schedules.

use candle_core::{Tensor, Var};
use dinomaly::training::loss::{HardMining, hard_mining_loss, hard_points};
use dinomaly::training::optimizer::{self, StableAdamW};
use dinomaly::training::schedule::Schedule;
use dinomaly_tests::{Golden, device, fixtures, golden, read_golden, read_json};

use super::{COSINE_NOISE, compare_number, number, of_dinomaly2, relative_noise, scalar, values};
use crate::case::{Tally, channels_last};

#[test]
fn loss_alone() {
    let folder = golden().join("ops");
    let (path, list) = (folder.join("loss.safetensors"), folder.join("ops.json"));
    if !(path.is_file() && list.is_file()) {
        return println!("loss: nothing to compare without {} and {}", path.display(), list.display());
    }
    let stored = read_golden(&path);
    let mut tally = Tally::default();
    for (name, expected) in read_json(&list)["loss"].as_object().into_iter().flatten() {
        let (size, rate) = name.split_once('/').unwrap();
        let group = |part: &str, j: usize| stored.get(&format!("{size}/{part}.{j}"));
        let tensor = |golden: &Golden| {
            let [batch, channels, height, width] = golden.shape[..] else { panic!("{name}: {:?}", golden.shape) };
            Tensor::from_vec(channels_last(golden), (batch, height * width, channels), &device()).unwrap()
        };
        let encoded: Vec<Tensor> = (0..).map_while(|j| group("en", j)).map(tensor).collect();
        let decoded: Vec<Tensor> = (0..).map_while(|j| group("de", j)).map(tensor).collect();
        if decoded.is_empty() {
            println!("not run: loss of {size} (its features are not there)");
            continue;
        }
        let mining = HardMining { rate: rate.strip_prefix('p').map_or(0.0, |p| p.parse().unwrap()), factor: 0.1 };
        if let (Some(k), Some(points)) = (expected["k"].as_u64(), expected["numel"].as_u64()) {
            tally.check(&format!("{name}: k = {k}"), hard_points(points as usize, mining.rate) as u64 == k);
        }
        let loss = hard_mining_loss(&encoded, &decoded, 0, mining).unwrap();
        let value = number(&expected["loss"]);
        compare_number(&mut tally, &format!("{name}: loss"), scalar(&loss.value), value, COSINE_NOISE);
        for (j, gradient) in loss.gradients.iter().enumerate() {
            let Some(expected) = stored.get(&format!("{name}/grad_de.{j}")) else { continue };
            let (found, expected) = (values(gradient), channels_last(expected));
            tally.compare(&format!("{name}: gradient {j}"), &found, &expected, relative_noise(&expected));
        }
    }
    tally.finish("loss alone");
}

#[test]
fn optimiser_alone() {
    let folder = golden().join("ops");
    let (path, list) = (folder.join("stable_adamw.safetensors"), folder.join("ops.json"));
    if !(path.is_file() && list.is_file()) {
        return println!("optimiser: nothing to compare without {} and {}", path.display(), list.display());
    }
    let stored = read_golden(&path);
    let tensor = |golden: &Golden| Tensor::from_slice(&golden.values, golden.shape.as_slice(), &device()).unwrap();
    let mut tally = Tally::default();
    for (name, s) in read_json(&list)["optimizer"].as_object().into_iter().flatten() {
        let prefix = format!("{name}/");
        let names = stored.keys().filter_map(|key| key.strip_prefix(&prefix)?.strip_suffix("/init"));
        let parameters: Vec<(String, Var)> = names
            .map(|tensor_name| {
                let init = tensor(&stored[&format!("{prefix}{tensor_name}/init")]);
                (tensor_name.to_owned(), Var::from_tensor(&init).unwrap())
            })
            .collect();
        let settings = optimizer::OptimizerSettings {
            betas: serde_json::from_value(s["betas"].clone()).unwrap(),
            weight_decay: number(&s["weight_decay"]),
            eps: number(&s["eps"]),
            amsgrad: s["amsgrad"] == true,
            clip_threshold: number(&s["clip_threshold"]),
        };
        let mut optimizer = StableAdamW::new(parameters.clone(), settings).unwrap();
        for t in 0..s["steps"].as_u64().unwrap() {
            // The gradient of a sum of products is the other factor, to the bit.
            let products = parameters.iter().filter_map(|(tensor_name, var)| {
                let gradient = stored.get(&format!("{prefix}{tensor_name}/grad.{t}"))?;
                Some((var.as_tensor() * tensor(gradient)).unwrap().sum_all().unwrap())
            });
            let Some(loss) = products.reduce(|a, b| (a + b).unwrap()) else { continue };
            optimizer.step(&loss.backward().unwrap(), &|_| number(&s["lr"]), 1.0).unwrap();
            for (tensor_name, var) in &parameters {
                let Some(expected) = stored.get(&format!("{prefix}{tensor_name}/param.{t}")) else { continue };
                let label = format!("{name}/{tensor_name} after {} steps", t + 1);
                tally.compare(&label, &values(var.as_tensor()), &expected.values, relative_noise(&expected.values));
            }
        }
    }
    tally.finish("optimiser alone");
}

#[test]
fn schedules() {
    let path = golden().join("ops/ops.json");
    if !path.is_file() {
        return println!("schedules: nothing to compare without {}", path.display());
    }
    let list = read_json(&path);
    let mut tally = Tally::default();
    for (name, rates) in list["lr_used_by_optimizer_step_at_iteration"].as_object().into_iter().flatten() {
        let numbers = name.strip_prefix("total").and_then(|rest| rest.split_once("_warmup"));
        let (total, warmup) = numbers.unwrap_or_else(|| panic!("schedule {name}"));
        let schedule = Schedule { warmup: warmup.parse().unwrap(), ..Schedule::official(total.parse().unwrap()) };
        for (iteration, expected) in rates.as_object().unwrap() {
            let found = schedule.learning_rate(iteration.parse().unwrap());
            exactly(&mut tally, &format!("{name}, iteration {iteration}"), found, number(expected));
        }
    }
    for (iteration, expected) in list["p_schedule"].as_object().into_iter().flatten() {
        let found = Schedule::official(10000).mining(iteration.parse().unwrap()).rate;
        exactly(&mut tally, &format!("hard-mining rate, iteration {iteration}"), found, number(expected));
    }
    tally.finish("schedules");
}

/// Of Dinomaly2, constant and with a fall of 10, as its option `lr_decay_ratio` makes it.
#[test]
fn schedules_of_dinomaly2() {
    let meta = read_json(&fixtures("dinomaly2/dinomaly2/meta.json"));
    let mut tally = Tally::default();
    for run in meta["schedules"].as_array().unwrap() {
        let (total, ratio) = (run["total"].as_u64().unwrap() as usize, number(&run["final_ratio"]));
        let schedule = of_dinomaly2(Schedule::official(total));
        let schedule = Schedule { last: ratio * schedule.peak, ..schedule };
        for (iteration, rates) in run["rates"].as_object().unwrap() {
            let at = iteration.parse().unwrap();
            let label = |what: &str| format!("{total} iterations, {what} at {iteration}");
            exactly(&mut tally, &label("rate"), schedule.learning_rate(at), number(&rates[0]));
            exactly(&mut tally, &label("rate of the first layer"), schedule.first_layer_rate(at), number(&rates[1]));
        }
    }
    tally.finish("schedules of Dinomaly2");
}

/// Double precision on both sides: a few roundings may differ, of the cosine's sum.
fn exactly(tally: &mut Tally, name: &str, found: f64, expected: f64) {
    tally.check(&format!("{name}: {found}, expected {expected}"), (found - expected).abs() <= 1e-14 * expected.abs());
}
