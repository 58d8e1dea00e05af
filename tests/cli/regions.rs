//! `detect --regions`: places of defects as JSON, CSV and outlines, from pixel thresholds that every way to a model sets.

use std::path::Path;

use serde_json::Value;

use crate::workshop::{Workshop, names};

const FEW: &str = "fewshot @data --out @model --backbone @encoder.safetensors --size 64 --layers 2,5,8";

fn rows(shop: &Workshop, arguments: &str) -> Vec<Value> {
    serde_json::from_str(&shop.succeed(shop.command(arguments))).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn regions_are_listed_drawn_and_dropped_by_area() {
    let shop = Workshop::new();
    shop.succeed(shop.command(FEW));
    let class = names(&shop.path("data"))[0].clone();
    let detect = format!("detect @model @data/{class}/test/good --class {class}");
    let own = dinomaly::model_dir::read(&shop.path("model")).unwrap().calibration.classes[&class].pixel_threshold;
    for row in rows(&shop, &format!("{detect} --regions --json")) {
        assert_eq!(number(&row["pixel_threshold"]) as f32, own.unwrap());
    }

    // The highest value of a photo is above the mean of its highest ones, so each has a region.
    let scores = rows(&shop, &format!("{detect} --json"));
    let low = scores.iter().map(|row| 0.99 * number(&row["score"]) as f32).fold(f32::INFINITY, f32::min);
    let found = rows(&shop, &format!("{detect} --json --regions --pixel-threshold {low}"));
    let mut areas = Vec::new();
    for row in &found {
        assert_eq!(number(&row["pixel_threshold"]) as f32, low);
        let regions = row["regions"].as_array().unwrap();
        assert!(regions.is_sorted_by(|a, b| number(&a["peak"]) >= number(&b["peak"])));
        for region in regions {
            let [x0, y0, x1, y1, area, mean] = ["x0", "y0", "x1", "y1", "area", "mean"].map(|key| number(&region[key]));
            assert!(0.0 <= x0 && x0 < x1 && x1 <= 64.0 && 0.0 <= y0 && y0 < y1 && y1 <= 64.0, "{region}");
            assert!(0.0 < area && area <= (x1 - x0) * (y1 - y0) + 0.01, "{region}");
            assert!(f64::from(low) < mean && mean <= number(&region["peak"]), "{region}");
            assert!(region["outline"].as_array().unwrap().len() >= 4, "{region}");
            areas.push(area);
        }
    }
    assert!(areas.len() >= 3, "{areas:?}");
    areas.sort_by(f64::total_cmp);
    let middle = areas[areas.len() / 2];
    let large = areas.iter().filter(|&&area| area >= middle).count();

    let csv = shop.succeed(shop.command(&format!("{detect} --regions --pixel-threshold {low} --min-area {middle}")));
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let lines: Vec<_> = csv.records().map(|line| line.unwrap()).collect();
    assert_eq!(csv.headers().unwrap().iter().next_back(), Some("outline"));
    let polygons = lines.iter().filter(|line| line.iter().next_back().unwrap().starts_with("POLYGON ((")).count();
    assert_eq!(polygons, large, "{lines:?}");

    let drawn = |options: &str, out: &str| {
        shop.succeed(shop.command(&format!("{detect} --heatmaps @{out} {options}")));
        let files = names(&shop.path(out)).into_iter().map(|name| shop.path(out).join(name));
        let pixels = files.map(|file| image::open(file).unwrap().to_rgb8());
        pixels.map(|picture| picture.pixels().filter(|pixel| pixel.0 == [0, 255, 255]).count()).sum::<usize>()
    };
    assert_eq!(drawn("", "plain"), 0);
    assert!(drawn(&format!("--regions --pixel-threshold {low}"), "outlined") > 3 * 8);
}

#[test]
fn a_model_without_pixel_threshold_says_how_to_get_one() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/released/format-1/model");
    let detect = |options: &str| {
        let mut command = shop.command("detect");
        command.arg(&released).arg(shop.path(&format!("data/{class}/test/good"))).args(options.split_whitespace());
        command
    };
    let error = shop.refuse(detect("--regions"));
    assert!(
        error.contains("has no pixel threshold: set it from photos of good parts with dinomaly calibrate"),
        "{error}"
    );
    assert!(shop.succeed(detect("--regions --pixel-threshold 0.5")).contains("pixel_threshold"));
    assert!(!shop.succeed(shop.command(&format!("inspect {}", released.display()))).contains("pixel"));

    let mut calibrate = shop.command("calibrate");
    calibrate.arg(&released).arg(shop.path("data")).arg("--out").arg(shop.path("set"));
    shop.succeed(calibrate);
    let text = shop.succeed(shop.command(&format!("detect @set @data/{class}/test/good --class {class} --regions")));
    assert!(text.contains("pixel_threshold"), "{text}");
    assert!(shop.succeed(shop.command("inspect @set")).contains("pixel threshold"));
    for option in ["--min-area 5", "--pixel-threshold 0.5"] {
        let output = detect(option).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option} without --regions");
    }
}

#[test]
fn what_does_not_count_is_out_of_score_map_and_regions() {
    let shop = Workshop::new();
    shop.succeed(shop.command(FEW));
    let class = names(&shop.path("data"))[0].clone();
    let detect = format!("detect @model @data/{class}/test/good/000.png --class {class} --json");
    let whole = &rows(&shop, &detect)[0];
    assert!(whole.get("counted").is_none());
    std::fs::write(shop.path("left.json"), "[[0, 0], [32, 0], [32, 64], [0, 64]]").unwrap();
    let white = |x: u32, _| image::Luma([if x < 32 { 255 } else { 0 }]);
    image::GrayImage::from_fn(64, 64, white).save(shop.path("left.png")).unwrap();
    let row = |options: &str| rows(&shop, &format!("{detect} {options}")).remove(0);
    let low = 0.99 * number(&whole["score"]);
    let regions = |row: &Value| row["regions"].as_array().unwrap().len();
    let by_polygon = row(&format!("--only @left.json --regions --pixel-threshold {low}"));
    assert_eq!(by_polygon, row(&format!("--only @left.png --regions --pixel-threshold {low}")));
    let right = row(&format!("--ignore @left.png --regions --pixel-threshold {low}"));
    for (half, inside) in [(&by_polygon, 0.0..=32.0), (&right, 32.0..=64.0)] {
        assert_eq!(number(&half["counted"]), 0.5);
        for region in half["regions"].as_array().unwrap() {
            assert!(inside.contains(&number(&region["x0"])) && inside.contains(&number(&region["x1"])), "{region}");
        }
    }
    assert!(regions(&by_polygon) + regions(&right) > 0);
    // The highest values lie in one half, or are shared by both.
    assert_ne!(by_polygon["score"], right["score"]);

    image::GrayImage::new(60, 64).save(shop.path("other.png")).unwrap();
    let output = shop.command(&format!("{detect} --ignore @other.png")).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("other.png is 60 × 64 pixels, the photo 64 × 64"), "{text}");
    let error = shop.refuse(shop.command(&format!("{detect} --only @none.json")));
    assert!(error.contains("none.json cannot be read"), "{error}");
    let error = shop.refuse(shop.command(&format!("{detect} --only @left.png --drift @line.json")));
    assert!(error.contains("--drift compares with scores of whole photos"), "{error}");
    assert!(!shop.path("line.json").exists());
}
