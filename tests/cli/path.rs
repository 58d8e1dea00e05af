//! Photos → model → metrics, scores, heatmaps, int8, in the commands of the README.

use std::collections::BTreeMap;
use std::fs;

use half::f16;
use safetensors::SafeTensors;

use crate::workshop::{Workshop, names};

#[test]
fn the_whole_path_from_photos_to_results() {
    let shop = Workshop::new();
    let text = shop.succeed(shop.train("model", "--iterations 6"));
    assert!(text.contains("2 classes, 16 good photos to train on, 4 held out"), "{text}");
    assert!(!shop.path("model.training").exists(), "the working folder goes with the end of the run");

    let text = shop.succeed(shop.command("evaluate @model @data --json @m.json --csv @m.csv"));
    assert!(text.lines().next().unwrap().contains("I-AUROC") && text.contains("mean"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(shop.path("m.json")).unwrap()).unwrap();
    let auroc = json["mean"]["i_auroc"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&auroc), "{auroc}");
    let csv = std::fs::read_to_string(shop.path("m.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(csv.contains(&format!("{:.2}", 100.0 * auroc)), "{csv} holds no {auroc}");

    let class = names(&shop.path("data"))[0].clone();
    let text =
        shop.succeed(shop.command(&format!("detect @model @data/{class}/test/good --class {class} --heatmaps @out")));
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.starts_with("photo,score,threshold,defective\n"), "{text}");
    assert_eq!(names(&shop.path("out")).len(), 3);
    let heatmap = image::open(shop.path("out").join(&names(&shop.path("out"))[0])).unwrap();
    assert_eq!((heatmap.width(), heatmap.height()), (64, 64));
    let text = shop.succeed(shop.command(&format!("detect @model @data/{class}/test/good --json")));
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 3);

    let bytes = |model: &str| -> u64 {
        let files = std::fs::read_dir(shop.path(model)).unwrap();
        files
            .map(|file| file.unwrap())
            .filter(|f| f.file_name().to_string_lossy().ends_with("safetensors"))
            .map(|f| f.metadata().unwrap().len())
            .sum()
    };
    shop.succeed(shop.command("quantize @model --out @int8"));
    assert!(3 * bytes("int8") < bytes("model"), "{} and {} bytes", bytes("int8"), bytes("model"));
    let score = |text: &str| -> f64 { text.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap() };
    let detect =
        |model: &str| score(&shop.succeed(shop.command(&format!("detect @{model} @data/{class}/test/good/000.png"))));
    let (f32, int8) = (detect("model"), detect("int8"));
    // Random weights of 64 channels round worse than trained ones.
    assert!((f32 - int8).abs() < 0.05 * f32, "{f32} and {int8}");
    let text = shop.succeed(shop.command("inspect @int8"));
    assert!(text.contains("int8") && text.contains(&class), "{text}");
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn a_distilled_encoder_is_a_backbone() {
    let shop = Workshop::new();
    let distill = "distill --teacher @encoder.safetensors --student @student.safetensors --width 64 --grid 2 --batch 4";
    let text = shop.succeed(shop.command(&format!("{distill} --iterations 3")));
    assert!(text.contains("encoder written to"), "{text}");
    let further = "distill --teacher @encoder.safetensors --from @student.safetensors --student @further.safetensors";
    let text = shop.succeed(shop.command(&format!("{further} --width 64 --grid 4 --batch 4 --iterations 1")));
    // The first iteration runs at rate 0: nothing but the grid of positions differs.
    assert!(text.contains("encoder written to"), "{text}");
    let [student, further_on] = ["student", "further"].map(|name| {
        let bytes = fs::read(shop.path(&format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.tensors().into_iter().map(|(name, view)| (name, halves(view.data()))).collect::<BTreeMap<_, _>>()
    });
    for (name, values) in &student {
        assert_eq!(values == &further_on[name], !name.ends_with("pos_embed"), "{name}");
    }
    let error =
        shop.refuse(shop.command(&format!("{further} --width 128 --grid 4 --batch 4 --iterations 1 --restart")));
    assert!(error.contains("expected"), "{error}");
    let train =
        "train @data --backbone @student.safetensors --out @model --resize 64 --crop 64 --batch 4 --iterations 2";
    shop.succeed(shop.command(train));
    assert!(shop.path("model/manifest.json").is_file());
}
