//! `--device cuda` and `auto` where there is no NVIDIA GPU, in a build with CUDA and in one without.

use std::process::Command;

use crate::workshop::Workshop;

/// Hides the GPUs of a machine that has some.
fn without_gpu(mut command: Command) -> Command {
    command.env("CUDA_VISIBLE_DEVICES", "");
    command
}

#[test]
fn cuda_is_refused_with_what_was_found_and_what_to_do() {
    let shop = Workshop::new();
    let refused = |arguments: &str| {
        let error = shop.refuse(without_gpu(shop.command(arguments)));
        let found = match cfg!(feature = "cuda") {
            true => error.contains("no NVIDIA driver was found") || error.contains("the driver finds no GPU"),
            false => error.contains("built without CUDA: build it with native/cuda/build.sh"),
        };
        assert!(found && error.ends_with("or use --device cpu"), "{error}");
        error
    };
    let trained =
        "train @data --backbone @encoder.safetensors --out @model --resize 72 --crop 64 --iterations 2 --batch 4";
    assert!(refused(&format!("{trained} --device cuda")).contains("device cuda:0 cannot be opened"));
    assert!(refused(&format!("{trained} --device cuda:3")).contains("device cuda:3 cannot be opened"));
    assert!(!shop.path("model.training").exists(), "nothing is left of a run that never began");
    refused("distill --teacher @encoder.safetensors --student @small.safetensors --width 32 --device cuda");
    shop.succeed(shop.command(trained));
    refused("detect @model @data/blister/test/good --device cuda");
    refused("evaluate @model @data --device cuda");
    refused("calibrate @model @data --out @again --device cuda");

    let output = shop.command("detect @model @data/blister/test/good --device tpu").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("cpu, gpu, cuda, cuda:NUMBER or auto"), "{error}");
}

#[test]
fn auto_falls_back_to_the_processor_and_says_so() {
    let shop = Workshop::new();
    let run = |arguments: &str| {
        let output = without_gpu(shop.command(arguments)).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        (String::from_utf8(output.stdout).unwrap(), error)
    };
    let trained = |model: &str, device: &str| {
        let sizes = "--resize 72 --crop 64 --iterations 2 --batch 4";
        run(&format!("train @data --backbone @encoder.safetensors --out @{model} {sizes} --device {device}")).1
    };
    let said = |error: &str| error.matches("dinomaly: computing on the processor, because").count();
    assert_eq!(said(&trained("model", "auto")), 1);
    assert_eq!(said(&trained("same", "cpu")), 0);
    let photos = |model: &str, device: &str| run(&format!("detect @{model} @data/blister/test/good --device {device}"));
    let (found, error) = photos("model", "auto");
    assert_eq!(said(&error), 1, "{error}");
    assert_eq!(found, photos("same", "cpu").0);
}

#[test]
fn what_only_a_gpu_can_do_is_refused_on_the_processor() {
    let shop = Workshop::new();
    let refused = |options: &str| shop.refuse(shop.train("model", &format!("--iterations 2 {options}")));
    let error = refused("--precision tf32");
    assert!(error.contains("--precision tf32 is for NVIDIA GPUs: use f32 on the processor"), "{error}");
    let error = refused("--cache-device 1GiB");
    assert!(error.contains("--cache-device is for NVIDIA GPUs: use --cache-memory"), "{error}");
}

#[test]
fn the_processor_trains_in_bf16_and_a_run_keeps_its_precision() {
    let shop = Workshop::new();
    let printed = shop.succeed(shop.train("model", "--iterations 4 --precision bf16"));
    assert!(printed.contains("features in bf16: ") && printed.contains(" in memory"), "{printed}");
    let printed = shop.succeed(shop.train("single", "--iterations 4"));
    assert!(printed.contains("features: "), "{printed}");
    let scores = |model: &str| -> Vec<f64> {
        let printed = shop.succeed(shop.command(&format!("detect @{model} @data/blister/test/good --json")));
        let rows: Vec<serde_json::Value> = serde_json::from_str(&printed).unwrap();
        rows.iter().map(|row| row["score"].as_f64().unwrap()).collect()
    };
    let (mixed, single) = (scores("model"), scores("single"));
    assert_ne!(mixed, single);
    // Four steps move little, and eight bits round what they move.
    assert!(mixed.iter().zip(&single).all(|(m, s)| (m - s).abs() < 0.01 * s), "{mixed:?}, {single:?}");
}
