//! `quantize`: every format, with and without photos, and what is reported of the loss.

use std::fs;

use dinomaly::model_dir;
use dinomaly_core::bundle::{Kind, Model};
use dinomaly_core::tensor::Data;
use dinomaly_core::tensor::StorageType;

use crate::workshop::Workshop;

/// The most compact types of the encoder's and the head's shards.
fn storage(shop: &Workshop, model: &str) -> Vec<StorageType> {
    let manifest = model_dir::read_manifest(&shop.path(model)).unwrap();
    let shards = manifest.files.iter().filter(|file| matches!(file.kind, Kind::Encoder | Kind::Head));
    shards.filter_map(|file| file.dtype).collect()
}

fn score(model: &Model) -> f32 {
    model.self_test.as_ref().unwrap().score
}

#[test]
fn each_format_is_smaller_scores_alike_and_says_so_in_its_card() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 4"));
    let original = model_dir::read(&shop.path("model")).unwrap();
    let bytes = |name: &str| -> u64 {
        model_dir::read_manifest(&shop.path(name)).unwrap().files.iter().map(|file| file.bytes).sum()
    };
    // Random weights of 64 channels round worse than trained ones.
    for (format, stored, words, share, tolerance) in [
        ("f16", StorageType::Float16, "Tensors in f16", 0.55, 0.001),
        ("int8", StorageType::Int8, "Tensors in int8 with one scale", 0.35, 0.05),
        ("int4", StorageType::Int4, "Tensors in int4 with one scale per 32 values", 0.25, 0.2),
    ] {
        let text = shop.succeed(shop.command(&format!("quantize @model --to {format} --out @{format}")));
        assert!(text.contains(words) && text.contains("self-test picture: score"), "{text}");
        assert_eq!(storage(&shop, format), [stored, stored]);
        assert!((bytes(format) as f64) < share * bytes("model") as f64, "{format}: {} bytes", bytes(format));
        let model = model_dir::read(&shop.path(format)).unwrap();
        assert!(model.card.starts_with(&original.card) && model.card.contains(words), "{}", model.card);
        let (before, after) = (score(&original), score(&model));
        assert!(before != after && (before - after).abs() < tolerance * before, "{format}: {before} and {after}");
        assert_eq!(model.calibration, original.calibration);
        // The program that reads it computes the self-test that was written.
        shop.succeed(
            shop.command(&format!(
                "detect @{format} @data/{}/test/good",
                crate::workshop::names(&shop.path("data"))[0]
            )),
        );
    }
    let int4 = model_dir::read(&shop.path("int4")).unwrap();
    let patches = &int4.weights.0["encoder.patch_embed.proj.weight"];
    assert!(matches!(patches.data, Data::Int8 { .. }), "the patch projection keeps int8");
    let error = shop.refuse(shop.command("quantize @int4 --to int8 --out @again"));
    assert!(error.contains("int4 is quantized already"), "{error}");
    for command in ["quantize @model --out @int8/../model", "calibrate @model @data --out @model"] {
        let error = shop.refuse(shop.command(command));
        assert!(error.contains("would be written over model, which it is made of"), "{error}");
    }
    assert_eq!(model_dir::read(&shop.path("model")).unwrap(), original);
    let error = shop.refuse(shop.command("quantize @model --out @again --classes nope"));
    assert!(error.contains("--classes selects classes of --photos and --report"), "{error}");
    let class = crate::workshop::names(&shop.path("data"))[0].clone();
    fs::rename(shop.path(&format!("data/{class}/test")), shop.path("test")).unwrap();
    let output = shop.command("quantize @model --out @again --report @data").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("has no test photos") && output.stdout.is_empty(), "before the work: {error}");
}

#[test]
fn photos_change_what_is_rounded_and_the_report_holds_every_metric() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 4"));
    shop.succeed(shop.command("quantize @model --to int4 --out @generated"));
    let text = shop.succeed(shop.command("quantize @model --to int4 --photos @data --report @data --out @seen"));
    let [generated, seen] = ["generated", "seen"].map(|name| model_dir::read(&shop.path(name)).unwrap());
    assert_ne!(generated.weights, seen.weights);

    let before = shop.succeed(shop.command("evaluate @model @data --csv @before.csv"));
    shop.succeed(shop.command("evaluate @seen @data --csv @after.csv"));
    let csv = |name: &str| -> Vec<Vec<String>> {
        let text = fs::read_to_string(shop.path(name)).unwrap();
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let (first, second) = (csv("before.csv"), csv("after.csv"));
    assert_eq!(first.len(), 4, "{before}");
    for (before, after) in first.iter().zip(&second).skip(1) {
        let class = &before[0];
        // Class, good, defective, then the seven metrics, then the one at a threshold.
        for (what, row) in [("before", before), ("int4", after)] {
            assert!(
                seen.card.contains(&format!("| {class} | {what} | {} |\n", row[3..10].join(" | "))),
                "{}",
                seen.card
            );
            let printed = text.lines().find(|line| line.split_whitespace().take(2).eq([class.as_str(), what]));
            assert!(printed.unwrap().split_whitespace().skip(2).eq(row[3..10].iter()), "{text}");
        }
        let cells = seen.card.lines().find_map(|line| line.strip_prefix(&format!("| {class} | difference | ")));
        let points: Vec<f64> =
            cells.unwrap().trim_end_matches(" |").split(" | ").map(|cell| cell.parse().unwrap()).collect();
        for (i, point) in points.iter().enumerate() {
            let [before, after] = [before, after].map(|row| row[3 + i].parse::<f64>().unwrap());
            // Each of the three is rounded to hundredths.
            assert!((after - before - point).abs() < 0.016, "{class}: {before}, {after}, {point}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_the_work() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    for (options, expected) in [
        ("--to f16 --photos @data", "--photos has no effect on f16"),
        ("--photos @nowhere", "nowhere does not exist"),
        ("--report @nowhere", "nowhere does not exist"),
        ("--report @data --classes nut", "class nut is not in"),
    ] {
        let error = shop.refuse(shop.command(&format!("quantize @model --out @never {options}")));
        assert!(error.contains(expected), "{options}: {error}");
    }
    let mut unknown = shop.command("quantize @model --out @never --to int3");
    assert!(!unknown.output().unwrap().status.success());
    assert!(!shop.path("never").exists());
}
