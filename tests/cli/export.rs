//! `export`: every kind of model as ONNX, run by another project's runtime, and what is refused.

use std::fs;
use std::path::Path;

use crate::workshop::{Workshop, names};

/// Ten times the largest difference that was measured, of the embedded model.
const TOLERANCE: f64 = 1.2e-5;

/// Largest difference that `--check` printed, as a share of the map's largest value.
fn difference(text: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with("check: ")).unwrap_or_else(|| panic!("no check in {text}"));
    let after = line.split("largest difference of the map ").nth(1).unwrap();
    after.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn every_kind_of_model_computes_the_same_as_onnx() {
    let shop = Workshop::new();
    let mut models = Vec::new();
    for (model, options) in [
        ("model", "--iterations 4"),
        ("convolution", "--iterations 1 --decoder conv3"),
        ("masked", "--iterations 1 --decoder softmax --neighbour-mask 3 --remove-class-token"),
        ("dinomaly2", "--iterations 1 --preset dinomaly2"),
    ] {
        shop.succeed(shop.train(model, options));
        models.push(model.to_owned());
    }
    for format in ["f16", "int8", "int4"] {
        shop.succeed(shop.command(&format!("quantize @model --to {format} --out @{format}")));
        models.push(format.to_owned());
    }
    for memory in ["bank", "subspace", "rad"] {
        let few = "--backbone @encoder.safetensors --size 64 --layers 2,5,8";
        shop.succeed(shop.command(&format!("fewshot @data --out @{memory} --memory {memory} {few}")));
        models.push(memory.to_owned());
    }
    // Resized photos are floats.
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/libraries/anomalib/recentred.ckpt");
    shop.succeed(shop.command(&format!("import {} --heads 2 --data @data --out @anomalib", checkpoint.display())));
    models.push("anomalib".into());
    let mut worst = (0.0, String::new());
    for (model, options) in models.iter().zip(["", "--opset 22 --input patches", "--external-data"].iter().cycle()) {
        let text = shop.succeed(shop.command(&format!("export @{model} --out @{model}.onnx --check {options}")));
        assert!(text.contains(".onnx written: ") && text.contains("float32 [batch, 256, 256]"), "{text}");
        let found = difference(&text);
        assert!(found < TOLERANCE, "{model} {options}: {text}");
        if found > worst.0 {
            worst = (found, format!("{model} {options}"));
        }
    }
    println!("{} models, largest difference {:.1e} ({})", models.len(), worst.0, worst.1);
    let data = fs::metadata(shop.path("masked.onnx.data")).unwrap().len();
    assert!(
        data > 10 * fs::metadata(shop.path("masked.onnx")).unwrap().len(),
        "the weights lie in a file of their own"
    );

    let text = shop.succeed(shop.command("export @model --out @model.onnx --int8 --check"));
    let found = difference(&text);
    assert!(found > TOLERANCE && found < 0.5, "inputs are rounded to 256 steps: {text}");
    let small = fs::metadata(shop.path("model.onnx")).unwrap().len();
    let float = fs::metadata(shop.path("convolution.onnx")).unwrap().len();
    assert!(small < float, "{small} bytes in int8, {float} in single precision");
}

#[test]
fn the_file_says_what_its_numbers_mean() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 1"));
    shop.succeed(shop.command("export @model --out @model.onnx"));
    let file = fs::read(shop.path("model.onnx")).unwrap();
    let calibration = fs::read_to_string(shop.path("model/calibration.json")).unwrap();
    let calibration = serde_json::from_str::<serde_json::Value>(&calibration).unwrap().to_string();
    let holds = |text: &str| file.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    for text in ["dinomaly.calibration", "dinomaly.preprocessor", "dinomaly.config", "encoder.blocks.3.attn.qkv.weight"]
    {
        assert!(holds(text), "{text}");
    }
    let classes: serde_json::Value = serde_json::from_str(&calibration).unwrap();
    for class in classes["classes"].as_object().unwrap().keys() {
        assert!(holds(class), "{class}");
    }
}

#[test]
fn what_cannot_be_exported_is_refused_before_the_work() {
    let shop = Workshop::new();
    let few = "--backbone @encoder.safetensors --size 64 --layers 2,5,8";
    shop.succeed(shop.command(&format!("fewshot @data --out @tiled --tile-size 32 {few}")));
    shop.succeed(shop.command(&format!("fewshot @data --out @model {few}")));
    fs::write(shop.path("other.onnx"), "the work of another program").unwrap();
    for (command, expected) in [
        ("export @tiled --out @a.onnx", "looks at photos in tiles"),
        ("export @model --out @a.txt", "a.txt does not end in .onnx"),
        ("export @model --out @other.onnx", "other.onnx is there already, and not a file that `export` wrote"),
        ("export @nothing --out @a.onnx", "there is no such folder"),
    ] {
        let error = shop.refuse(shop.command(command));
        assert!(error.contains(expected), "{command}: {error}");
    }
    assert_eq!(fs::read_to_string(shop.path("other.onnx")).unwrap(), "the work of another program");
    assert!(!names(&shop.path("")).iter().any(|name| name.starts_with("a.")), "nothing was written");
    fs::write(shop.path("b.onnx.data"), "weights of another program").unwrap();
    let error = shop.refuse(shop.command("export @model --out @b.onnx --external-data"));
    assert!(error.contains("b.onnx.data is there already"), "{error}");
    assert_eq!(fs::read_to_string(shop.path("b.onnx.data")).unwrap(), "weights of another program");
    assert!(!shop.path("b.onnx").exists());
    // Its own files are replaced.
    for _ in 0..2 {
        shop.succeed(shop.command("export @model --out @a.onnx"));
    }
}
