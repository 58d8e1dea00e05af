//! Training against the official implementation: loss, gradients, optimiser, schedules, dropout, and whole trajectories,
//! each from the stored photos on as the trainer does it.

mod steps;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use dinomaly::features::{FeatureCache, Features, Limits, encode};
use dinomaly::training::head::TrainableHead;
use dinomaly::training::loss::{HardMining, hard_mining_loss, hard_points};
use dinomaly::training::mining;
use dinomaly::training::noise::jittered;
use dinomaly::training::optimizer::{AdamMoments, Optimizer, gradient_norm};
use dinomaly::training::schedule::{Schedule, WarmupEnd};
use dinomaly::training::trainer::{Trainer, TrainingSettings};
use dinomaly_core::executors::candle::kernels::Element;
use dinomaly_core::executors::candle::{Candle, no_noise};
use dinomaly_core::model::encoder::Stage;
use dinomaly_core::ops::{NoiseAt, Ops};
use dinomaly_tests::{Golden, device, read_golden};
use serde_json::Value;

use crate::case::{Case, Tally, cases, channels_last, entries, recorded};

/// Noise of a tensor for which none is recorded, relative to its largest value: a tenth of what is tolerated.
const RELATIVE_NOISE: f32 = 2e-7;

/// Noise of one minus a cosine, whatever remains of it: half a rounding of the one. What is recorded for a single number may
/// by chance be next to nothing.
const COSINE_NOISE: f64 = 0.5 * f32::EPSILON as f64;

#[test]
fn losses_and_gradients() {
    let mut total = Tally::default();
    for case in cases() {
        let Some(stored) = file(&case, "grads") else { continue };
        let Some(input) = input(&case) else { continue };
        let mut tally = Tally::default();
        for (rate, expected) in case.meta["loss"].as_object().into_iter().flatten() {
            gradients(&case, &input, rate, expected, &stored, &mut tally);
        }
        assert!(tally.compared > 0, "{}: nothing was compared", case.name);
        tally.print(&format!("{}/grads", case.name));
        total.add(tally);
    }
    total.finish("losses and gradients");
}

/// One hard-mining rate of a case: loss, number of hard points, points' distances, and every gradient.
fn gradients(
    case: &Case,
    input: &Golden,
    rate: &str,
    expected: &Value,
    stored: &BTreeMap<String, Golden>,
    tally: &mut Tally,
) {
    let label = |what: &str| format!("{}: {rate}/{what}", case.name);
    let mining = mining(expected);
    let trainer = trainer(case, constant(mining));
    let features = features(case, input);
    let [encoded, decoded] = trainer.groups(&features, &no_noise).unwrap();

    let (loss, gradients) = trainer.loss(&features).unwrap();
    compare_loss(tally, &label("loss"), &loss, expected);
    compare_gradients(tally, case, rate, &trainer, &gradients, &expected["grad_stats"], stored);
    let norm = gradient_norm(trainer.head.variables.iter().map(|(_, var)| var), &gradients).unwrap();
    let [single, double] = ["f32", "f64"].map(|p| expected[format!("grad_norm_total_{p}")].as_f64().unwrap());
    // Its noise is one number's, which by chance may be next to nothing.
    compare_number(tally, &label("total norm"), norm, double, (single - double).abs().max(1e-7 * double));

    if let Some(without) = case.meta["params_without_grad"].as_array() {
        let expected: BTreeSet<&str> = without.iter().filter_map(Value::as_str).collect();
        let variables = trainer.head.variables.iter().filter(|(_, var)| gradients.get(var).is_none());
        let found: BTreeSet<&str> = variables.map(|(name, _)| name.as_str()).collect();
        tally.check(&label(&format!("without a gradient are {found:?}, expected {expected:?}")), found == expected);
    }

    // What reaches the decoder's features, and what would without hard mining.
    let decoded: Vec<Tensor> = decoded.iter().map(Tensor::detach).collect();
    let gradients = |rate| hard_mining_loss(&encoded, &decoded, 0, HardMining { rate, ..mining }).unwrap().gradients;
    let (before, after) = (gradients(0.0), gradients(mining.rate));
    for (j, (encoded, features)) in encoded.iter().zip(&decoded).enumerate() {
        let distance = distances(encoded, features);
        let of_gradient = gradient_noise(case, j, features, decoded.len());
        let tensors = [
            (
                "point_dist",
                &distance.unsqueeze(2).unwrap(),
                recorded(&case.meta["forward_stats"][format!("amap_group.{j}")]),
            ),
            ("grad_de_before_hook", &before[j], of_gradient),
            ("grad_de_after_hook", &after[j], of_gradient),
        ];
        for (stem, found, noise) in tensors {
            let Some(expected) = stored.get(&format!("{rate}/{stem}.{j}")) else { continue };
            let expected = channels_last(expected);
            let noise = noise.unwrap_or_else(|| relative_noise(&expected));
            tally.compare(&label(&format!("{stem}.{j}")), &values(found), &expected, noise);
        }
        if let Some(k) = expected["hard_mining"][j.to_string()]["k"].as_u64() {
            let points = distance.elem_count();
            tally.check(&label(&format!("k.{j} = {k}")), hard_points(points, mining.rate) as u64 == k);
        }
    }
}

/// Points' distances `[photos, patches]`, of what the loss finds of them.
fn distances(encoded: &Tensor, decoded: &Tensor) -> Tensor {
    let (photos, patches, _) = decoded.dims3().unwrap();
    let stats = mining::stats(&encoded.contiguous().unwrap(), &decoded.contiguous().unwrap(), 0, 1).unwrap();
    let of_points = stats.narrow(0, 0, 3 * photos * patches).unwrap().to_vec1::<f32>().unwrap();
    let distances = of_points.chunks(3).map(mining::distance).collect();
    Tensor::from_vec(distances, (photos, patches), stats.device()).unwrap()
}

/// Noise of the gradient of a group's decoded features `d`, from the one recorded for the features: the gradient is
/// `(e/|e| - cosine · d/|d|) / |d|`, shared among photos and groups, and nearly cancels where the decoder is good.
fn gradient_noise(case: &Case, group: usize, decoded: &Tensor, groups: usize) -> Option<f32> {
    let noise = recorded(&case.meta["forward_stats"][format!("de.{group}")])?;
    let squares = decoded.sqr().unwrap().flatten_from(1).unwrap().sum(1).unwrap();
    let smallest = values(&squares).into_iter().fold(f32::INFINITY, f32::min);
    Some(noise / (smallest * (groups * squares.elem_count()) as f32))
}

/// Compares the gradient of every trained tensor where it is stored, and its magnitudes where only those are.
fn compare_gradients(
    tally: &mut Tally,
    case: &Case,
    rate: &str,
    trainer: &Trainer,
    gradients: &GradStore,
    stats: &Value,
    stored: &BTreeMap<String, Golden>,
) {
    for (name, var) in &trainer.head.variables {
        let (label, stats) = (format!("{}: {rate}/grad/{name}", case.name), &stats[name]);
        let expected = stored.get(&format!("{rate}/grad/{name}"));
        let Some(gradient) = gradients.get(var) else {
            tally.check(&format!("{label} has no gradient"), expected.is_none() && stats.is_null());
            continue;
        };
        let found = values(gradient);
        if let Some(expected) = expected {
            let noise = recorded(stats).unwrap_or_else(|| relative_noise(&expected.values));
            tally.compare(&label, &found, &expected.values, noise);
        } else if let (Some(noise), Some(maximum), Some(rms)) =
            (stats["f32_noise_max"].as_f64(), stats["maxabs"].as_f64(), stats["rms"].as_f64())
        {
            let largest = found.iter().fold(0f32, |largest, v| largest.max(v.abs()));
            let squares: f64 = found.iter().map(|&v| f64::from(v).powi(2)).sum();
            compare_number(tally, &format!("{label}, largest"), f64::from(largest), maximum, noise);
            compare_number(tally, &format!("{label}, rms"), (squares / found.len() as f64).sqrt(), rms, noise);
        }
    }
}

#[test]
fn dropout() {
    let mut total = Tally::default();
    for case in cases() {
        let Some(stored) = file(&case, "train_dropout") else { continue };
        let trainer = trainer(&case, constant(HardMining { rate: 0.9, factor: 0.1 }));
        let features = features(&case, &stored["input"]);
        let keep = case.meta["keep_scale"].as_f64().unwrap();
        // In the order of the places. Each case has three of them.
        let masks = ["mask_in", "mask_hidden", "mask_out", "mask_narrowed"].map(|name| {
            let mask = stored.get(name)?;
            Some((Tensor::from_slice(&mask.values, mask.shape.as_slice(), &device()).unwrap() * keep).unwrap())
        });
        assert_eq!(masks.iter().flatten().count(), 3);
        let noise = |x: &Tensor, at: NoiseAt| masks[at as usize].as_ref().map_or(Ok(x.clone()), |mask| x * mask);

        let mut tally = Tally::default();
        let label = |what: &str| format!("{}: {what}", case.name);
        let fused = &stored["fused"].values;
        tally.compare(&label("fused"), &values(&features.fused), fused, relative_noise(fused));
        let mut bottleneck = Vec::new();
        let mut observe = |stage, tensor: &Tensor| {
            if stage == Stage::Bottleneck {
                bottleneck = values(tensor);
            }
        };
        trainer.head.head.forward(&Candle::train(device(), &noise), &features.fused, &mut observe).unwrap();
        let noise_recorded = recorded(&case.meta["bottleneck_out_stats"]).unwrap();
        tally.compare(&label("bottleneck_out"), &bottleneck, &stored["bottleneck_out"].values, noise_recorded);

        let (loss, gradients) = trainer.loss_with(&features, &noise).unwrap();
        compare_loss(&mut tally, &label("loss"), &loss, &case.meta);
        compare_gradients(&mut tally, &case, "p0.9", &trainer, &gradients, &case.meta["grad_stats"], &stored);
        tally.print(&format!("{}/train_dropout", case.name));
        total.add(tally);
    }
    total.finish("dropout");
}

#[test]
fn feature_jitter() {
    let mut total = Tally::default();
    for case in cases() {
        let Some(stored) = file(&case, "train_jitter") else { continue };
        let trainer = trainer(&case, constant(HardMining { rate: 0.9, factor: 0.1 }));
        let features = features(&case, &stored["input"]);
        let drawn = &stored["noise"];
        let drawn = Tensor::from_slice(&drawn.values, drawn.shape.as_slice(), &device()).unwrap();
        let scale = case.config.feature_jitter;
        let noise = |x: &Tensor, at: NoiseAt| match at {
            NoiseAt::Input => jittered(x, &drawn, scale),
            NoiseAt::Narrowed | NoiseAt::Hidden | NoiseAt::Output => Ok(x.clone()),
        };
        let mut tally = Tally::default();
        let mut compare = |name: &str, found: &Tensor| {
            let expected = &stored[name].values;
            tally.compare(&format!("{}: {name}", case.name), &values(found), expected, relative_noise(expected));
        };
        compare("fused", &features.fused);
        compare("jittered", &jittered(&features.fused, &drawn, scale).unwrap());
        let bottleneck = |ops: &Candle<'_>| {
            let mut found = None;
            let mut observe = |stage, tensor: &Tensor| {
                if stage == Stage::Bottleneck {
                    found = Some(tensor.clone());
                }
            };
            trainer.head.head.forward(ops, &features.fused, &mut observe).unwrap();
            found.unwrap()
        };
        compare("bottleneck_out", &bottleneck(&Candle::train(device(), &noise)));
        compare("eval/bottleneck_out", &bottleneck(&Candle::infer(device())));
        let [encoded, decoded] = trainer.groups(&features, &no_noise).unwrap();
        let distances: Vec<Tensor> = encoded.iter().zip(&decoded).map(|(e, d)| distances(e, d)).collect();
        compare("eval/amap_mean", &Candle::infer(device()).mean(&distances).unwrap());

        let (loss, gradients) = trainer.loss_with(&features, &noise).unwrap();
        let expected = case.meta["loss_f32"].as_f64().unwrap();
        let found = f64::from(loss.to_scalar::<f32>().unwrap());
        compare_number(&mut tally, &format!("{}: loss", case.name), found, expected, COSINE_NOISE);
        // The official bottleneck is the second part of a sequence here.
        for (name, var) in &trainer.head.variables {
            let official = name.replace("bottleneck.0.", "bottleneck.0.1.");
            let Some(expected) = stored.get(&format!("p0.9/grad/{official}")) else { continue };
            let found = values(gradients.get(var).unwrap());
            tally.compare(
                &format!("{}: grad/{name}", case.name),
                &found,
                &expected.values,
                relative_noise(&expected.values),
            );
        }
        tally.print(&format!("{}/train_jitter", case.name));
        total.add(tally);
    }
    total.finish("feature jitter");
}

#[test]
fn trajectories() {
    let mut total = Tally::default();
    for case in cases() {
        let Some(runs) = case.meta["traj"].as_object() else { continue };
        let Some(input) = input(&case) else { continue };
        for (name, run) in runs {
            let mut tally = Tally::default();
            trajectory(&case, &input, name, run, &mut tally);
            tally.print(&format!("{}/traj_{name}", case.name));
            total.add(tally);
        }
    }
    total.finish("trajectories");
}

/// Repeats a logged run: every step's loss, rates and gradient norm, and the parameters wherever they are stored.
fn trajectory(case: &Case, input: &Golden, name: &str, run: &Value, tally: &mut Tally) {
    let label = |what: String| format!("{}/traj_{name}: {what}", case.name);
    let settings = &run["settings"];
    let mut schedule = Schedule::official(settings["total_iters"].as_u64().unwrap() as usize);
    schedule.warmup = settings["warmup"].as_u64().unwrap() as usize;
    if settings["pmode"] != "official" {
        schedule.mining_rate = number(&settings["pmode"]);
        schedule.mining_warmup = 0;
    }
    let mut settings = TrainingSettings { seed: 0, ..TrainingSettings::official(1, schedule) };
    if run["settings"]["public"] == "dinomaly2" {
        settings.optimizer = Optimizer::StableAdamw;
        settings.schedule = of_dinomaly2(settings.schedule);
    }
    let mut trainer = trainer_by(case, settings);
    let features = features(case, input);
    let initial = trainer.head.weights().unwrap();
    let [single, double] = ["steps_f32", "steps_f64"].map(|key| run[key].as_array().unwrap());
    // A step's noise is that of one number, which by chance may be next to nothing: the largest of the run stands for all.
    let noise = |key: &str| {
        let differences = single.iter().zip(double).map(|(s, d)| (number(&s[key]) - number(&d[key])).abs());
        differences.fold(0.0, f64::max)
    };
    let mut step_noise: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let (loss_noise, norm_noise) = (noise("loss"), noise("grad_norm_before_clip"));
    for (i, logged) in double.iter().enumerate() {
        let mining = trainer.settings.schedule.mining(trainer.iteration).rate;
        let step = trainer.step(&features).unwrap();
        for (parameter, _, moments) in &trainer.optimizer.parameters {
            add_step_noise(step_noise.entry(parameter.clone()).or_default(), moments, step.learning_rate as f32);
        }
        let at = |what: &str| label(format!("step {}, {what}", i + 1));
        compare_number(tally, &at("learning rate"), step.learning_rate, number(&logged["lr"]), 0.0);
        if let Some(of_first) = logged["lr_first_layer"].as_f64() {
            let found = trainer.settings.schedule.first_layer_rate(i);
            compare_number(tally, &at("learning rate of the first layer"), found, of_first, 0.0);
        }
        compare_number(tally, &at("hard-mining rate"), mining, number(&logged["p"]), 0.0);
        compare_number(tally, &at("loss"), step.loss, number(&logged["loss"]), loss_noise);
        let norm = number(&logged["grad_norm_before_clip"]);
        compare_number(tally, &at("gradient norm"), step.gradient_norm, norm, norm_noise);

        let weights = trainer.head.weights().unwrap();
        if i == 0 && run["params_unchanged_after_step1"] == true {
            tally.check(&at("parameters have moved"), weights == initial);
        }
        let Some(stored) = file(case, &format!("traj_{name}_step{:02}", i + 1)) else { continue };
        for (parameter, _) in &trainer.head.variables {
            let Some(expected) = stored.get(parameter) else { continue };
            let stats = &run["param_stats"][(i + 1).to_string()][parameter];
            let found = weights.0[parameter].to_f32();
            let differences: Vec<f32> = found.iter().zip(&expected.values).map(|(f, e)| f - e).collect();
            let noise = recorded(stats).unwrap_or_else(|| relative_noise(&expected.values));
            let ratios: Vec<f32> =
                differences.iter().zip(&step_noise[parameter]).map(|(d, steps)| d / (noise + steps)).collect();
            tally.compare(&at(parameter), &ratios, &vec![0.0; expected.values.len()], 1.0);
            if let Some(noise) = stats["q999_abs_f32_vs_f64"].as_f64() {
                let found = quantile(differences);
                tally.compare(&at(&format!("{parameter}, all but a thousandth")), &[found], &[0.0], noise as f32);
            }
        }
    }
    let [single, double] = ["f32", "f64"].map(|p| run[format!("final_plain_global_cosine_loss_{p}")].as_f64());
    if let (Some(single), Some(double)) = (single, double) {
        let loss = f64::from(trainer.loss(&features).unwrap().0.to_scalar::<f32>().unwrap());
        let noise = loss_noise.max((single - double).abs());
        compare_number(tally, &label("loss after the last step".into()), loss, double, noise);
    }
}

/// Adds a step's share to the noise of each value of a parameter. Adam divides gradients by their root mean square: where
/// they are next to nothing, what is rounding in them becomes a visible part of a step (all of it for the keys' bias of a
/// softmax decoder, whose gradient is zero but for rounding).
fn add_step_noise(noise: &mut Vec<f32>, moments: &AdamMoments, learning_rate: f32) {
    let roots: Vec<f32> = values(&moments.largest).iter().map(|square| square.sqrt()).collect();
    let rounding = relative_noise(&roots);
    noise.resize(roots.len(), 0.0);
    noise.iter_mut().zip(&roots).for_each(|(noise, root)| *noise += learning_rate * (rounding / root).min(1.0));
}

/// The magnitude that all but a thousandth of the differences stay below.
fn quantile(mut differences: Vec<f32>) -> f32 {
    differences.iter_mut().for_each(|d| *d = d.abs());
    differences.sort_by(f32::total_cmp);
    differences[(differences.len() - 1) * 999 / 1000]
}

/// Compares a loss with the official one in double precision.
fn compare_loss(tally: &mut Tally, name: &str, loss: &Tensor, expected: &Value) {
    let (single, double) = (number(&expected["loss_f32"]), expected["loss_f64"].as_f64());
    let double = double.unwrap_or(single);
    compare_number(tally, name, scalar(loss), double, (single - double).abs().max(COSINE_NOISE));
}

/// A tensor file of a case, if the folder has it.
fn file(case: &Case, stem: &str) -> Option<BTreeMap<String, Golden>> {
    let path = case.folder.join(format!("{stem}.safetensors"));
    entries(&case.folder).contains(&path).then(|| read_golden(&path))
}

/// The photos of a case, or `None` after saying that they are not there.
fn input(case: &Case) -> Option<Golden> {
    let input = file(case, "forward").and_then(|mut forward| forward.remove("input"));
    if input.is_none() {
        println!("not run: training of {} (its input is in forward.safetensors, which is not there)", case.name);
    }
    input
}

/// A photo batch's features as training has them: from the encoder through the cache.
fn features(case: &Case, input: &Golden) -> Features {
    let ops = Candle::infer(device());
    let encoder = case.weights.encoder(&ops, case.config.taps(), case.grid(input)).unwrap();
    let patches = case.patches(input);
    let patches = Tensor::from_slice(&patches.to_f32(), patches.shape.as_slice(), &device()).unwrap();
    let features = encode(&ops, &encoder, &case.config, &patches).unwrap();
    let (photos, tokens, _) = features.fused.dims3().unwrap();
    let limits = Limits { device: 0, memory: u64::MAX };
    let mut cache = FeatureCache::new(&case.config, tokens, Element::F32, limits, &std::env::temp_dir()).unwrap();
    cache.push(&features).unwrap();
    cache.batch(&(0..photos).collect::<Vec<_>>(), &device()).unwrap()
}

/// A trainer of the case's head without dropout.
fn trainer(case: &Case, schedule: Schedule) -> Trainer {
    trainer_by(case, TrainingSettings { seed: 0, ..TrainingSettings::official(1, schedule) })
}

/// The same with these settings.
fn trainer_by(case: &Case, settings: TrainingSettings) -> Trainer {
    let mut config = case.config.clone();
    config.bottleneck_dropout = 0.0;
    let head = TrainableHead::from_weights(&config, &case.weights, &device()).unwrap();
    Trainer::new(config, settings, head, device()).unwrap()
}

/// A schedule with the learning rates of Dinomaly2's public code.
fn of_dinomaly2(schedule: Schedule) -> Schedule {
    Schedule { warmup_end: WarmupEnd::BelowPeak, first_layer_peak: Some(2e-4), last: schedule.peak, ..schedule }
}

/// A schedule with this hard mining from the start.
fn constant(mining: HardMining) -> Schedule {
    Schedule { mining_rate: mining.rate, mining_warmup: 0, mining_factor: mining.factor, ..Schedule::official(10000) }
}

/// Hard mining of a logged loss; the plain global cosine loss has none.
fn mining(logged: &Value) -> HardMining {
    HardMining { rate: logged["p"].as_f64().unwrap_or(0.0), factor: number(&logged["factor"]) }
}

fn relative_noise(expected: &[f32]) -> f32 {
    RELATIVE_NOISE * expected.iter().fold(0f32, |largest, v| largest.max(v.abs()))
}

/// A number, which may be written as a string.
fn number(value: &Value) -> f64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_f64().or(text).unwrap_or_else(|| panic!("{value} is not a number"))
}

fn scalar(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Compares a number in double precision.
fn compare_number(tally: &mut Tally, name: &str, found: f64, expected: f64, noise: f64) {
    // Relative to the expected, so that single precision holds what remains.
    let scale = expected.abs().max(f64::MIN_POSITIVE);
    tally.compare(name, &[(found / scale) as f32], &[(expected / scale) as f32], (noise / scale) as f32);
}
