//! What of a photo is looked at: all of it or its centre, and with `--tile-size` in overlapping tiles, in every command that takes models.

use std::fs;
use std::path::Path;

use dinomaly::model_dir;
use dinomaly_core::photo::tiles::Tiles;
use image::{GrayImage, Luma};

use crate::workshop::{Workshop, names};

const SMALL: &str = "--backbone @encoder.safetensors --size 64 --layers 2,5 --tile-size 32";

/// Score, threshold and verdict of the only photo.
fn found(text: &str) -> (f64, f64, bool) {
    let row: Vec<&str> = text.lines().nth(1).unwrap().split(',').collect();
    (row[1].parse().unwrap(), row[2].parse().unwrap(), row[4] == "true")
}

#[test]
fn a_model_of_tiles_goes_where_one_of_whole_photos_goes() {
    let shop = Workshop::new();
    let class = names(&shop.path("data")).remove(0);
    let photo = format!("@data/{class}/test/good/000.png");
    shop.succeed(shop.train("trained", "--iterations 2 --crop 64 --resize 64 --tile-size 32"));
    for memory in ["subspace", "bank"] {
        shop.succeed(shop.command(&format!("fewshot @data --out @{memory} --memory {memory} {SMALL}")));
    }
    for model in ["trained", "subspace", "bank"] {
        let tiles = model_dir::read(&shop.path(model)).unwrap().preprocessor.tiles;
        assert_eq!(tiles, Some(Tiles::new(32)));
        let text = shop.succeed(shop.command(&format!("inspect @{model}")));
        assert!(text.contains("whole photos in tiles of 32 × 32 pixels that overlap by 25 %"), "{text}");
        let before = found(&shop.succeed(shop.command(&format!("detect @{model} {photo} --heatmaps @{model}-maps"))));
        let picture = image::open(shop.path(&format!("{model}-maps/000_000.png"))).unwrap();
        assert_eq!((picture.width(), picture.height()), (64, 64));
        let text = shop.succeed(shop.command(&format!("evaluate @{model} @data --report @{model}.html")));
        assert!(text.contains("P-AUROC") && !text.contains("P-AUROC is undefined"), "{text}");
        shop.succeed(shop.command(&format!("calibrate @{model} @data --out @{model}-again")));
        shop.succeed(shop.command(&format!("quantize @{model} --to f16 --out @{model}-f16")));
        let after = found(&shop.succeed(shop.command(&format!("detect @{model}-f16 {photo}"))));
        assert!((before.0 - after.0).abs() < 0.02 * before.0, "{model}: {before:?} and {after:?}");
    }
    let error = shop.refuse(shop.command(&format!("attention @trained {photo} --out @a")));
    assert!(error.contains("looks at photos in tiles"), "{error}");
    let error = shop.refuse(shop.train("trained", "--iterations 2 --crop 64 --resize 64 --tile-size 48"));
    assert!(error.contains("--tile-size 32, now 48"), "{error}");
    let error = shop.refuse(shop.train("other", "--iterations 2 --tile-size 32"));
    assert!(error.contains("--tile-size: ") && error.contains("leaves its border out: resize to 64"), "{error}");
    let error = shop.refuse(shop.command(&format!("fewshot @data --out @other {SMALL}").replace("size 32", "size 2")));
    assert!(error.contains("tiles of 2 pixels cannot be resized to 64"), "{error}");
}

/// The centre of 64 of 72 pixels is looked at, 3.6 to 60.4 of the photo's 64.
#[test]
fn defects_that_a_cropping_model_cannot_see_are_counted() {
    let shop = Workshop::new();
    for name in ["good", "bad", "masks"] {
        fs::create_dir_all(shop.path("labelled").join(name)).unwrap();
    }
    let picture = |name: &str, left: u32| {
        let defect = |x: u32, y: u32| (left..left + 4).contains(&x) && (30..34).contains(&y);
        GrayImage::from_fn(64, 64, |x, y| Luma([if defect(x, y) { 255 } else { 0 }]))
            .save(shop.path("labelled").join(name))
            .unwrap();
    };
    picture("good/0.png", 90);
    for (number, left) in [(0, 0), (1, 2), (2, 30)] {
        picture(&format!("bad/{number}.png"), left);
        picture(&format!("masks/{number}.png"), left);
    }
    shop.succeed(shop.train("centre", "--iterations 1"));
    let text = shop.succeed(shop.command("evaluate @centre @labelled --json @metrics.json"));
    // Columns 0 to 3, 2 and 3 of 2 to 5, and none of 30 to 33.
    assert!(text.contains("50.0 % of the defects' pixels lie outside"), "{text}");
    assert!(text.contains("1 of 3 defective photos show no defect in it"), "{text}");
    assert!(fs::read_to_string(shop.path("metrics.json")).unwrap().contains("\"unseen\""));
    shop.succeed(shop.train("whole", "--iterations 1 --resize 64"));
    let text = shop.succeed(shop.command("evaluate @whole @labelled --json @metrics.json"));
    assert!(!text.contains("lie outside"), "{text}");
    assert!(!fs::read_to_string(shop.path("metrics.json")).unwrap().contains("\"unseen\""));
}

/// A long photo of brushed metal: fine noise, lines along it, and cells that are slightly brighter or darker. A defect is four pixels
/// wide.
fn write_photo(path: &Path, seed: u32, defective: bool) {
    let mut state = seed;
    let mut random = |span: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % span
    };
    let (width, height) = (1200, 75);
    let cells: Vec<u32> = (0..width / 15 * (height / 15)).map(|_| random(17)).collect();
    let lines: Vec<u32> = (0..height).map(|_| random(13)).collect();
    let mut photo = GrayImage::from_fn(width, height, |x, y| {
        let cell = cells[(y / 15 * (width / 15) + x / 15) as usize];
        Luma([(97 + cell + lines[y as usize] + random(32)) as u8])
    });
    if defective {
        (0..4)
            .flat_map(|y| (0..4).map(move |x| (757 + x, 33 + y)))
            .for_each(|(x, y)| photo.put_pixel(x, y, Luma([60])));
    }
    photo.save(path).unwrap();
}

/// As in [large photos](../../docs/large-photos.md), a twelfth as large.
#[test]
fn a_small_defect_of_a_large_photo_is_found_in_tiles_and_missed_without() {
    let shop = Workshop::new();
    fs::create_dir(shop.path("good")).unwrap();
    (0..6).for_each(|i| write_photo(&shop.path(&format!("good/{i}.png")), 7 + i, false));
    write_photo(&shop.path("good.png"), 99, false);
    write_photo(&shop.path("defective.png"), 99, true);
    let verdicts = |model: &str, options: &str| {
        shop.succeed(shop.command(&format!("fewshot @good --out @{model} --size 80 --layers 2,5 {options}")));
        ["good", "defective"].map(|photo| found(&shop.succeed(shop.command(&format!("detect @{model} @{photo}.png")))))
    };
    let (tiles, whole) = (verdicts("tiles", "--tile-size 75"), verdicts("whole", ""));
    println!("scores, thresholds and verdicts in tiles: {tiles:?}, whole: {whole:?}");
    assert!(!tiles[0].2 && tiles[1].2, "in tiles: {tiles:?}");
    assert!(!whole[0].2 && !whole[1].2, "whole: {whole:?}");
}
