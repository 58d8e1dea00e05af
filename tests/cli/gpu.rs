//! `--device gpu`: what a processor finds, and a sentence where there is none.

use crate::workshop::{Workshop, names};

#[test]
fn photos_are_looked_at_on_a_gpu() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let class = names(&shop.path("data"))[0].clone();
    let scores = |device: &str| -> Option<Vec<f64>> {
        let output =
            shop.command(&format!("detect @model @data/{class}/test/good --json --device {device}")).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            assert!(device == "gpu" && error.contains("no GPU was found"), "{error}");
            assert!(std::env::var_os("DINOMALY_REQUIRE_DATA").is_none(), "{error}");
            return None;
        }
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        Some(rows.iter().map(|row| row["score"].as_f64().unwrap()).collect())
    };
    let expected = scores("cpu").unwrap();
    let Some(found) = scores("gpu") else { return println!("SKIPPED: no GPU was found") };
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?}, expected {expected:?}");

    let printed = shop.succeed(shop.command("calibrate @model @data --out @again --device gpu"));
    assert!(printed.contains("calibrating on ") && !printed.contains("the processor"), "{printed}");
    shop.succeed(shop.command("calibrate @model @data --out @same"));
    let [found, expected] = ["again", "same"].map(|model| {
        let text = std::fs::read(shop.path(model).join("calibration.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["overall"]["threshold"].as_f64().unwrap()
    });
    assert!((found - expected).abs() < 1e-3, "{found}, expected {expected}");

    let printed = shop.succeed(shop.command("bench @model --device gpu"));
    assert!(printed.contains("ms per photo") && printed.contains("GFLOP/s"), "{printed}");
    assert!(printed.contains("layer_norm") || printed.contains("offers no timestamps"), "{printed}");
    assert!(shop.succeed(shop.command("bench @model")).contains("ms per photo"));
}

#[test]
fn a_machine_without_a_gpu_says_so() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let mut command = shop.command("detect @model @encoder.safetensors --device gpu");
    // Vulkan's loader then finds no driver.
    command.env("VK_ICD_FILENAMES", "/nowhere").env("VK_DRIVER_FILES", "/nowhere");
    if cfg!(target_os = "linux") {
        let error = shop.refuse(command);
        assert!(error.contains("no GPU was found") && error.contains("install a Vulkan"), "{error}");
    }
    let error = shop.refuse(shop.train("other", "--iterations 2 --device gpu"));
    assert!(error.contains("device gpu only runs models on photos: use cpu"), "{error}");
}
