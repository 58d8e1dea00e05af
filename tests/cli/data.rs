//! Data sets in other layouts than the generator's, and `data check`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::workshop::{Workshop, names};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

#[test]
fn data_is_checked_before_training() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    let text = shop.succeed(shop.command("data check @data"));
    assert!(text.starts_with("layout mvtec\n") && text.ends_with("\nerrors: 0, warnings: 0, notes: 0\n"), "{text}");
    let row = text.lines().find(|line| line.starts_with(&class)).unwrap();
    assert!(row.contains("64 × 64") && row.contains("PNG"), "{row}");
    let good = shop.path(&format!("data/{class}/train/good/000.png"));
    copy(&good, &shop.path(&format!("data/{class}/test/good/000.png")));
    assert_eq!(shop.refuse(shop.command("data check @data")), "dinomaly: errors in data: 1");
    let output = shop.command("data check @data --json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!((&finding["severity"], &finding["class"]), (&json!("error"), &json!(class)));
    assert!(finding["files"][0].as_str().unwrap().contains(" = "), "{finding}");
    let error = shop.refuse(shop.command("data check @data --layout visa"));
    assert!(error.starts_with("dinomaly: data does not have the layout visa (it holds "), "{error}");
    assert!(error.ends_with("): no split_csv/1cls.csv"), "{error}");
}

#[test]
fn a_folder_of_photos_is_enough_to_train() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    for name in names(&shop.path(&format!("data/{class}/train/good"))) {
        copy(&shop.path(&format!("data/{class}/train/good/{name}")), &shop.path(&format!("parts/{name}")));
    }
    let train = "train @parts --backbone @encoder.safetensors --out @model --crop 64 --batch 4 --iterations 4 --preset mvtec --resize 72";
    let text = shop.succeed(shop.command(train));
    let preset = text.lines().find(|line| line.starts_with("preset mvtec (dinomaly_mvtec_uni.py): ")).unwrap();
    assert!(preset.contains("dropout 0.2") && !preset.contains("iterations"), "{preset}");
    assert!(text.contains("given instead of the preset's: iterations, resize, crop, batch"), "{text}");
    assert!(shop.succeed(shop.command("inspect @model")).contains("parts"));
    let other = train.replace("@model", "@other") + " --optimizer-eps 1";
    shop.succeed(shop.command(&other));
    let head = |model: &str| {
        let file = names(&shop.path(model)).into_iter().find(|name| name.starts_with("head-")).unwrap();
        fs::read(shop.path(model).join(file)).unwrap()
    };
    assert!(head("model") != head("other"), "the optimiser does not know its epsilon");
    let two = "train @data --backbone @encoder.safetensors --out @b --preset visa-separate --resize 64 --crop 64";
    let error = shop.refuse(shop.command(two));
    assert!(error.contains("the data has 2 classes: choose one with --classes"), "{error}");
}

#[test]
fn a_class_without_masks_has_image_metrics() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let class = names(&shop.path("data"))[0].clone();
    fs::remove_dir_all(shop.path(&format!("data/{class}/ground_truth"))).unwrap();
    let text = shop.succeed(shop.command("evaluate @model @data --json @m.json"));
    assert!(text.contains(&format!("{class}: pixel metrics are left out: there are no masks")), "{text}");
    assert!(text.contains("mean: AUPRO is defined in 1 of 2 classes"), "{text}");
    let row = text.lines().find(|line| line.starts_with(&class)).unwrap();
    assert_eq!(row.split_whitespace().filter(|cell| *cell == "–").count(), 6, "{row}");
    let metrics: Value = serde_json::from_slice(&fs::read(shop.path("m.json")).unwrap()).unwrap();
    assert!(
        metrics["classes"][0]["metrics"]["i_auroc"].is_f64() && metrics["classes"][0]["metrics"]["aupro"].is_null()
    );
}

#[test]
fn parts_with_several_views_have_metrics_of_their_own() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let class = names(&shop.path("data"))[0].clone();
    let source = shop.path(&format!("data/{class}"));
    let kind = names(&source.join("ground_truth"))[0].clone();
    let target = shop.path("real/realiad_256/toy");
    let mut test = Vec::new();
    for i in 0..2 {
        for view in 1..=2 {
            let name = format!("OK/S{i:04}/toy_C{view}.png");
            copy(&source.join(format!("test/good/{:03}.png", i + view - 1)), &target.join(&name));
            test.push(json!({"anomaly_class": "OK", "image_path": name, "mask_path": null}));
        }
    }
    let (photo, mask) = ("NG/AK/S0000/toy_C1.png", "NG/AK/S0000/toy_C1_mask.png");
    copy(&source.join(format!("test/{kind}/000.png")), &target.join(photo));
    copy(&source.join(format!("ground_truth/{kind}/000_mask.png")), &target.join(mask));
    test.push(json!({"anomaly_class": "AK", "image_path": photo, "mask_path": mask}));
    let list = json!({"meta": {"prefix": "toy/", "normal_class": "OK"}, "train": [], "test": test});
    fs::create_dir_all(shop.path("real/realiad_jsons")).unwrap();
    fs::write(shop.path("real/realiad_jsons/toy.json"), list.to_string()).unwrap();
    let text = shop.succeed(shop.command("evaluate @model @real"));
    let cells = |start: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
        line[start.len()..].split_whitespace().map(Into::into).collect()
    };
    assert_eq!(cells("toy  ")[..2], ["4", "1"]);
    assert_eq!(cells("toy by part")[..2], ["2", "1"]);
    assert_eq!(cells("mean by part").len(), 12);
    assert_eq!(cells("toy by part")[5..], ["–"; 7]);
    fs::remove_file(shop.path(&format!("real/realiad_256/toy/{photo}"))).unwrap();
    let error = shop.refuse(shop.command("evaluate @model @real"));
    assert!(error.contains("photo real/realiad_256/toy/NG/AK/S0000/toy_C1.png is missing"), "{error}");
}

#[test]
fn a_photo_of_something_else_is_the_oddest_among_good_ones() {
    let shop = Workshop::new();
    let classes = names(&shop.path("data"));
    let photos = shop.path("photos");
    std::fs::create_dir(&photos).unwrap();
    for i in 0..6 {
        let name = format!("{i:03}.png");
        std::fs::copy(shop.path(&format!("data/{}/train/good/{name}", classes[0])), photos.join(name)).unwrap();
    }
    std::fs::copy(shop.path(&format!("data/{}/train/good/000.png", classes[1])), photos.join("other.png")).unwrap();
    let command = "data check @photos --suspects";
    let text = shop.succeed(shop.command(&format!("{command} --report @suspects.html")));
    let oddest = text.lines().position(|line| line.contains("the 3 oddest of 7 training photos")).unwrap();
    assert!(text.lines().nth(oddest + 1).unwrap().contains("other.png"), "{text}");
    let page = std::fs::read_to_string(shop.path("suspects.html")).unwrap();
    assert_eq!(page.matches("data:image/jpeg").count(), 3);
    let json: serde_json::Value =
        serde_json::from_str(&shop.succeed(shop.command(&format!("{command} --json")))).unwrap();
    let suspects = json["suspects"][0]["photos"].as_array().unwrap();
    assert_eq!(suspects.len(), 7);
    assert!(suspects[0]["photo"].as_str().unwrap().ends_with("other.png"));
    assert!(json["suspects"][0]["photos"][6]["oddness"].as_f64().unwrap() <= 1.0);

    for photo in ["003.png", "004.png", "005.png", "other.png"] {
        std::fs::remove_file(photos.join(photo)).unwrap();
    }
    let text = shop.succeed(shop.command(command));
    assert!(text.contains("too few training photos to judge each other"), "{text}");
    let error = shop.refuse(shop.command("data check @photos --suspects --backbone @nothing.pth"));
    assert!(error.contains("nothing.pth"), "{error}");
}
