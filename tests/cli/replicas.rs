//! `--devices`: several devices train as one does, and stop and go on together.

use crate::broken_off::{end_and_go_on, interrupt, kill, start};
use crate::workshop::{Workshop, names};

#[test]
fn two_devices_train_as_one_does_and_one_of_them_speaks() {
    let shop = Workshop::new();
    shop.succeed(shop.train("one", "--iterations 12"));
    let output = shop
        .train("two", "--iterations 12 --devices cpu,cpu --tensorboard events")
        .current_dir(shop.path(""))
        .output()
        .unwrap();
    let (printed, shown) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{shown}");
    for once in ["features: ", "calibrating on the processor"] {
        assert_eq!(printed.matches(once).count(), 1, "{printed}");
    }
    assert_eq!(shown.matches("training 12/12").count(), 1, "{shown}");
    assert_eq!(names(&shop.path("events")).len(), 1);
    // Sums in another order; 12 steps of warm-up move the scores by thousands of times as much.
    assert_close(&shop, "one", "two", 1e-5);
}

/// Compares the scores of two models' photos, relative to them.
fn assert_close(shop: &Workshop, one: &str, other: &str, tolerance: f64) {
    let class = names(&shop.path("data"))[0].clone();
    let scores = |model: &str| -> Vec<f64> {
        let printed = shop.succeed(shop.command(&format!("detect @{model} @data/{class}/test/good --json")));
        let rows: Vec<serde_json::Value> = serde_json::from_str(&printed).unwrap();
        rows.iter().map(|row| row["score"].as_f64().unwrap()).collect()
    };
    let (one, other) = (scores(one), scores(other));
    assert!(!one.is_empty());
    assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < tolerance * a), "{one:?}, {other:?}");
}

/// On the NVIDIA GPUs that `DINOMALY_DEVICES` names, such as 0,1, in a build for them.
#[test]
fn gpus_train_as_one_does() {
    let Ok(devices) = std::env::var("DINOMALY_DEVICES") else {
        return println!("SKIPPED: DINOMALY_DEVICES names no GPUs");
    };
    let first = devices.split(',').next().unwrap();
    let shop = Workshop::new();
    let options = "--iterations 60 --precision f32 --cache-device 0";
    shop.succeed(shop.train("one", &format!("{options} --device cuda:{first}")));
    shop.succeed(shop.train("several", &format!("{options} --devices {devices}")));
    assert_close(&shop, "one", "several", 1e-3);
}

#[test]
fn a_killed_run_of_two_devices_goes_on_and_ends_in_the_same_bits() {
    end_and_go_on(&Workshop::new(), "--iterations 60 --devices cpu,cpu", kill);
}

#[cfg(unix)]
#[test]
fn two_devices_stop_cleanly_together() {
    let shop = Workshop::new();
    let train = shop.train("model", "--iterations 100000 --checkpoint-every 3 --devices cpu,cpu");
    interrupt(start(train, &shop.path("model.training/checkpoint.safetensors")));
    assert_eq!(names(&shop.path("model.training")), ["checkpoint.safetensors"]);
}

#[test]
fn devices_that_cannot_train_together_are_refused() {
    let shop = Workshop::new();
    let refused = |options: &str| {
        let mut command = shop.train("model", &format!("--iterations 2 {options}"));
        command.env("CUDA_VISIBLE_DEVICES", "");
        shop.refuse(command)
    };
    let error = refused("--devices cpu,cpu --batch 5");
    assert!(error.contains("--batch 5 cannot be shared evenly by 2 devices: make it a multiple of 2"), "{error}");
    let error = refused("--devices 1,0,1 --batch 6");
    assert!(error.contains("--devices names GPU 1 twice"), "{error}");
    let error = refused("--devices cpu,0");
    assert!(error.contains("names the processor and GPUs"), "{error}");
    let error = refused("--devices 1,2");
    assert!(error.contains("device cuda:1 cannot be opened: "), "{error}");
    assert!(!shop.path("model.training").exists(), "nothing is left of a run that never began");
    // Ten photos are left to train on, and make the only batch.
    let error = refused("--devices cpu,cpu,cpu --batch 30");
    assert!(error.contains("a batch of 10 photos cannot be split evenly over 3 devices"), "{error}");
    let output = shop.train("model", "--devices tpu").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("numbers of NVIDIA GPUs, such as 0,1"), "{error}");
}
