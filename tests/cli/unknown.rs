//! Photos of other products: called unknown by every model, and each photo judged by the class that it is nearest to.

use std::fs;
use std::path::{Path, PathBuf};

use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;
use dinomaly_core::bundle::SelfTest;
use serde_json::Value;

use crate::workshop::{Workshop, names};

fn rows(shop: &Workshop, arguments: &str) -> Vec<Value> {
    serde_json::from_str(&shop.succeed(shop.command(arguments))).unwrap()
}

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model")
}

/// The demo model knows four drawn products, and neither coloured shapes nor an empty frame.
#[test]
fn photos_of_other_products_are_unknown_and_own_ones_have_their_own_threshold() {
    let shop = Workshop::new();
    let demo = demo_model().display().to_string();
    let plan = GenerationPlan { classes: Class::ALL.to_vec(), size: 256, seed: 91, train: 0, good: 3, defective: 1 };
    plan.write(&shop.path("own"), || Ok(())).unwrap();
    let calibration = model_dir::read(&demo_model()).unwrap().calibration;
    for class in names(&shop.path("own")) {
        let own = &calibration.classes[&class];
        for kind in names(&shop.path(&format!("own/{class}/test"))) {
            for row in rows(&shop, &format!("detect {demo} @own/{class}/test/{kind} --regions --json")) {
                let (nearest, verdict) = (row["nearest"].as_str().unwrap(), row["verdict"].as_str().unwrap());
                assert_eq!((nearest, verdict == "unknown"), (class.as_str(), false), "{row}");
                assert_eq!(row["threshold"].as_f64().unwrap() as f32, own.threshold, "{row}");
                assert_eq!(row["pixel_threshold"].as_f64().map(|value| value as f32), own.pixel_threshold, "{row}");
                let above = row["score"].as_f64() > row["threshold"].as_f64();
                assert_eq!(
                    (verdict, row["defective"].as_bool()),
                    (["good", "defective"][usize::from(above)], Some(above))
                );
            }
        }
    }

    fs::create_dir(shop.path("others")).unwrap();
    let shapes = SelfTest::picture_of(4);
    let shapes = image::RgbImage::from_raw(shapes.width, shapes.height, shapes.rgb).unwrap();
    shapes.save(shop.path("others/shapes.png")).unwrap();
    image::RgbImage::from_pixel(200, 200, image::Rgb([250; 3])).save(shop.path("others/white.png")).unwrap();
    let mut command = shop.command(&format!("detect {demo} @others"));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the threshold of the class that each photo is nearest to applies"), "{said}");
    let unknown = said.lines().find(|line| line.contains("unlike anything that the model knows")).unwrap();
    assert!(unknown.contains("shapes.png") && unknown.contains("white.png"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("photo,score,threshold,normalised,defective,verdict,nearest\n"), "{text}");
    let verdicts: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(verdicts.len(), 2);
    assert!(verdicts.iter().all(|row| row[4..6] == ["true", "unknown"]), "unknown never counts as good: {text}");
    // A given class decides the threshold, not whether the product is known.
    let given = rows(&shop, &format!("detect {demo} @others --class gear --json"));
    assert!(given.iter().all(|row| row["verdict"] == "unknown" && row["defective"] == true), "{given:?}");
    assert!(given.iter().all(|row| row["threshold"].as_f64().unwrap() as f32 == calibration.classes["gear"].threshold));
}

/// Training, quantizing, calibrating and making without training keep what tells products, and files bring it back.
#[test]
fn every_way_to_a_model_keeps_what_its_products_look_like() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let calibration = |model: &str| model_dir::read(&shop.path(model)).unwrap().calibration;
    let trained = calibration("model");
    assert!(trained.tells_products() && trained.overall.good_descriptors.is_none());
    let inspected = shop.succeed(shop.command("inspect @model"));
    assert!(inspected.contains("unknown beyond") && !inspected.contains("are not told"), "{inspected}");
    for format in ["f16", "int8", "int4"] {
        shop.succeed(shop.command(&format!("quantize @model --to {format} --out @{format}")));
        assert_eq!(calibration(format), trained, "{format}");
    }
    shop.succeed(shop.command("calibrate @model @data --out @again"));
    let again = calibration("again");
    assert!(again.tells_products() && again != trained, "other photos have other descriptors");
    let few = "fewshot @data --backbone @encoder.safetensors --size 64 --layers 2,5,8";
    for memory in ["subspace", "bank", "rad"] {
        shop.succeed(shop.command(&format!("{few} --memory {memory} --out @{memory}")));
        assert!(calibration(memory).tells_products(), "{memory}");
    }
    let of = |memory: &str| {
        calibration(memory).classes.into_values().map(|class| class.good_descriptors).collect::<Vec<_>>()
    };
    assert_eq!(of("bank"), of("subspace"), "the memory has no part in it");
    // Ten photos of a class: two directions of 64 values.
    let good = calibration("bank").classes.into_values().next().unwrap().good_descriptors.unwrap();
    assert_eq!((good.centre.len(), good.directions.len()), (64, 2 * 64));
}

/// Models of earlier versions give what they gave, and say what they lack; `calibrate` adds it.
#[test]
fn a_model_of_an_earlier_version_calls_nothing_unknown_until_it_is_calibrated() {
    let shop = Workshop::new();
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/released/format-1");
    let (model, photos) = (released.join("model"), released.join("photos"));
    let detect = |model: &str| format!("detect {model} {} --json", photos.display());
    let found = rows(&shop, &detect(&model.display().to_string()));
    let old = model_dir::read(&model).unwrap();
    for row in &found {
        let above = row["score"].as_f64() > row["threshold"].as_f64();
        assert_eq!((&row["defective"], &row["nearest"]), (&Value::Bool(above), &Value::Null), "{row}");
        assert_eq!(row["verdict"], ["good", "defective"][usize::from(above)], "{row}");
        assert_eq!(row["threshold"].as_f64().unwrap() as f32, old.calibration.overall.threshold, "{row}");
    }
    let inspected = shop.succeed(shop.command(&format!("inspect {}", model.display())));
    assert!(inspected.contains("photos of other products are not told from those of these classes"), "{inspected}");
    let class = old.calibration.classes.keys().next().unwrap();
    fs::rename(shop.path("data").join(&names(&shop.path("data"))[0]), shop.path("data").join("renamed")).unwrap();
    fs::create_dir(shop.path("own")).unwrap();
    fs::rename(shop.path("data/renamed"), shop.path("own").join(class)).unwrap();
    shop.succeed(shop.command(&format!("calibrate {} @own --out @new", model.display())));
    let new = model_dir::read(&shop.path("new")).unwrap();
    assert!(new.calibration.tells_products() && new.weights == old.weights);
    assert!(
        rows(&shop, &detect(&shop.path("new").display().to_string()))
            .iter()
            .all(|row| row["nearest"] == class.as_str())
    );
}
