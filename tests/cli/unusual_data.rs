//! Data as people have it: what a command leaves out or reads in its own way is said, and not only by `data check`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workshop::Workshop;

/// Standard output and standard error of a command that succeeds, without the folder's name.
fn said(shop: &Workshop, mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{command:?}: {text}");
    text.replace(&shop.path("").display().to_string(), "")
}

/// A photo of 16-bit grey with values from 1,000 to 47,000.
fn grey16(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let value = |x: u32, y: u32| 1000 + (x * 997 + y * 1009 + seed * 7919) % 46_001;
    let photo = image::ImageBuffer::from_fn(64, 48, |x, y| image::Luma([value(x, y) as u16]));
    photo.save(path).unwrap();
}

#[test]
fn grey_of_16_bits_has_a_window_that_the_model_keeps() {
    let shop = Workshop::new();
    for i in 0..14 {
        grey16(&shop.path(&format!("xray/{i}.tif")), i);
    }
    let train = |out: &str, window: &str| {
        let options =
            format!("--backbone @encoder.safetensors --resize 72 --crop 64 --batch 4 --iterations 2 {window}");
        said(&shop, shop.command(&format!("train @xray --out @{out} {options}")))
    };
    let printed = train("model", "");
    assert!(printed.contains("16-bit grey: values 1000..47000 become black to white"), "{printed}");
    let file = fs::read_to_string(shop.path("model/preprocessor_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(config["grey16_window"], serde_json::json!([1000, 47_000]));
    let found = said(&shop, shop.command("detect @model @xray/3.tif"));
    assert!(!found.contains("unreliable"), "{found}");

    let printed = train("clipped", "--window clip");
    assert!(
        printed.contains("14 of 14 photos are in 16-bit grey, such as xray/0.tif: values above 255 are white"),
        "{printed}"
    );
    let found = said(&shop, shop.command("detect @clipped @xray/3.tif"));
    assert!(found.contains("verdicts are unreliable for photos in 16-bit grey"), "{found}");
    let calibrated = said(&shop, shop.command("calibrate @clipped @xray --out @again"));
    assert!(calibrated.contains("values above 255 are white"), "{calibrated}");
    // Another window is another model.
    let options = "--backbone @encoder.safetensors --resize 72 --crop 64 --batch 4 --iterations 2 --window 0..65535";
    let error = shop.refuse(shop.command(&format!("train @xray --out @model {options}")));
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn training_and_evaluation_say_what_is_odd_about_their_photos() {
    let shop = Workshop::new();
    let class = fs::read_dir(shop.path("data")).unwrap().next().unwrap().unwrap().path();
    let (good, defect) = (class.join("train/good"), fs::read_dir(class.join("ground_truth")).unwrap().next().unwrap());
    let defect = defect.unwrap().file_name().into_string().unwrap();
    // A mask beside a good photo, and a good photo that is tested, too.
    image::GrayImage::from_pixel(64, 64, image::Luma([255])).save(good.join("000_mask.png")).unwrap();
    fs::copy(good.join("001.png"), class.join("test/good/900.png")).unwrap();
    fs::write(good.join("photo.heic"), "").unwrap();
    let trained = said(&shop, shop.train("model", "--iterations 2"));
    for expected in [
        "photos to train on whose masks show a defect: 1: ",
        "same file for training and for testing: ",
        "ignored: 1 that are masks of others: ",
        "ignored: 1 of an unsupported format: ",
        "dinomaly data check data",
    ] {
        assert!(trained.contains(expected), "no {expected:?} in {trained}");
    }
    assert!(trained.contains("10 good photos to train on, 10 held out"), "the mask is no photo: {trained}");

    // Masks in other words: nearly all white, and of two photos of one name.
    image::GrayImage::from_pixel(64, 64, image::Luma([255]))
        .save(class.join(format!("ground_truth/{defect}/000_mask.png")))
        .unwrap();
    let kind = class.join("test").join(&defect);
    let photo = image::open(kind.join("000.png")).unwrap().to_rgb8();
    photo.save(kind.join("000.bmp")).unwrap();
    let evaluated = said(&shop, shop.command("evaluate @model @data"));
    for expected in ["black and white may be exchanged: ", "photos of one name, which share a mask: "] {
        assert!(evaluated.contains(expected), "no {expected:?} in {evaluated}");
    }
}
