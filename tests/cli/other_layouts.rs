//! A table, KolektorSDD and MVTec AD 2 from check to metrics, confidence intervals, and files to submit.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma};
use serde_json::Value;

use crate::workshop::{Workshop, names};

/// The photos of a class of the workshop: those to train on, good and defective ones to test, and their masks.
struct Photos {
    class: String,
    kinds: Vec<String>,
}

impl Photos {
    fn of(shop: &Workshop) -> Self {
        let class = names(&shop.path("data"))[0].clone();
        let kinds = names(&shop.path(&format!("data/{class}/ground_truth")));
        Self { class, kinds }
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_table_is_trained_on_and_evaluated_with_intervals() {
    let shop = Workshop::new();
    let Photos { class, kinds } = Photos::of(&shop);
    let mut table = "image_path,label_index,split,mask_path\n".to_owned();
    for name in names(&shop.path(&format!("data/{class}/train/good"))) {
        table += &format!("{class}/train/good/{name},0,train,\n");
    }
    for name in names(&shop.path(&format!("data/{class}/test/good"))) {
        table += &format!("{class}/test/good/{name},0,test,\n");
    }
    for kind in &kinds {
        table += &format!("{class}/test/{kind}/000.png,1,test,{class}/ground_truth/{kind}/000_mask.png\n");
    }
    fs::write(shop.path("data/parts.csv"), table).unwrap();
    let text = shop.succeed(shop.command("data check @data/parts.csv"));
    assert!(text.starts_with("layout table\n") && text.ends_with("errors: 0, warnings: 0, notes: 0\n"), "{text}");
    let trained =
        "--backbone @encoder.safetensors --resize 72 --crop 64 --batch 4 --iterations 2 --holdout 0.2 --out @model";
    shop.succeed(shop.command(&format!("train @data/parts.csv {trained}")));

    let evaluate = "evaluate @model @data/parts.csv --report @r.html --csv @m.csv --json";
    let text = shop.succeed(shop.command(&format!("{evaluate} @a.json --intervals=40")));
    assert!(text.contains("Intervals of 95 % in percent") && text.contains("drawn 40 times"), "{text}");
    shop.succeed(shop.command(&format!("{evaluate} @b.json --intervals=40 --seed 0")));
    shop.succeed(shop.command(&format!("{evaluate} @c.json --intervals=40 --seed 7")));
    let [a, b, c] = ["a", "b", "c"].map(|name| read(&shop.path(&format!("{name}.json"))));
    assert_eq!(a, b, "the same seed");
    let ends = |json: &Value, name: &str| -> [f64; 2] {
        let ends = &json["classes"][0]["intervals"][name];
        [0, 1].map(|i| ends[i].as_f64().unwrap_or_else(|| panic!("{name}: {ends}")))
    };
    for (name, metric) in [("i_ap", "i_ap"), ("p_auroc", "p_auroc"), ("p_ap", "p_ap"), ("p_f1max", "p_f1max")] {
        let ([low, high], value) = (ends(&a, name), a["classes"][0]["metrics"][metric].as_f64().unwrap());
        assert!(low <= value && value <= high, "{name}: {low} {value} {high}");
    }
    assert_ne!(ends(&a, "p_ap"), ends(&c, "p_ap"));
    assert_eq!(a["classes"][0]["intervals"], a["intervals"], "the mean of one class");
    let without = shop.succeed(shop.command("evaluate @model @data/parts.csv --json @d.json"));
    assert!(!without.contains("Intervals"), "{without}");
    assert_eq!(read(&shop.path("d.json"))["classes"][0]["metrics"], a["classes"][0]["metrics"]);
    let csv = fs::read_to_string(shop.path("m.csv")).unwrap();
    assert!(csv.lines().next().unwrap().contains(",AUPRO,AUPIMO,I-F1,SegF1,I-AUROC low,I-AUROC high,"), "{csv}");
    assert!(csv.lines().all(|line| line.matches(',').count() == csv.lines().next().unwrap().matches(',').count()));
    assert!(fs::read_to_string(shop.path("r.html")).unwrap().contains("id=\"intervals\""));

    fs::write(shop.path("data/none.csv"), "file,good\na.png,1\n").unwrap();
    let error = shop.refuse(shop.command("data check @data/none.csv"));
    assert!(error.contains("none.csv has the columns file, good: expected image_path and at least one of"), "{error}");
    let error = shop.refuse(shop.command("data check @data/parts.csv --layout mvtec"));
    assert!(error.ends_with("parts.csv is a file: the layout mvtec is one of a folder"), "{error}");
}

#[test]
fn kolektor_sdd_is_trained_on_and_evaluated() {
    let shop = Workshop::new();
    let Photos { class, kinds } = Photos::of(&shop);
    let good = names(&shop.path(&format!("data/{class}/train/good")));
    fs::create_dir_all(shop.path("kolektor/kos01")).unwrap();
    let save = |source: &str, number: usize, mask: GrayImage| {
        let photo = image::open(shop.path(&format!("data/{class}/{source}"))).unwrap();
        photo.to_rgb8().save(shop.path(&format!("kolektor/kos01/Part{number}.jpg"))).unwrap();
        mask.save(shop.path(&format!("kolektor/kos01/Part{number}_label.bmp"))).unwrap();
    };
    for (i, name) in good.iter().enumerate() {
        save(&format!("train/good/{name}"), i, GrayImage::new(64, 64));
    }
    for (i, kind) in kinds.iter().enumerate() {
        let mask = GrayImage::from_fn(64, 64, |x, y| Luma([if x < 20 && y < 20 { 255 } else { 0 }]));
        save(&format!("test/{kind}/000.png"), good.len() + i, mask);
    }
    let output = shop.command("data check @kolektor --json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &report["classes"][0];
    let counts = ["train", "good", "masks"].map(|name| found[name].as_u64().unwrap() as usize);
    assert_eq!(counts, [good.len() * 4 / 5, good.len() - good.len() * 4 / 5, kinds.len()], "{report}");
    let trained =
        "--backbone @encoder.safetensors --resize 72 --crop 64 --batch 4 --iterations 2 --holdout 0.2 --out @model";
    shop.succeed(shop.command(&format!("train @kolektor {trained}")));
    let text = shop.succeed(shop.command("evaluate @model @kolektor"));
    let row = text.lines().find(|line| line.starts_with("kolektor")).unwrap();
    assert!(row.split_whitespace().skip(3).all(|cell| cell.parse::<f64>().is_ok()), "{text}");
}

#[test]
fn maps_are_submitted_as_the_server_of_mvtec_ad_2_takes_them() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let Photos { class, kinds } = Photos::of(&shop);
    fs::create_dir_all(shop.path(&format!("ad2/{class}/test_private"))).unwrap();
    let photo = shop.path(&format!("ad2/{class}/test_private/000_regular.png"));
    fs::copy(shop.path(&format!("data/{class}/test/{}/000.png", kinds[0])), photo).unwrap();
    let detect = format!("detect @model @ad2/{class}/test_private --class {class} --submission @out");
    shop.succeed(shop.command(&detect));
    let tiff = fs::read(shop.path(&format!("out/anomaly_images/{class}/test_private/000_regular.tiff"))).unwrap();
    assert!(tiff.starts_with(b"II*\0"));
    let png = shop.path(&format!("out/anomaly_images_thresholded/{class}/test_private/000_regular.png"));
    let png = image::open(png).unwrap();
    let grey = png.as_luma8().expect("one channel of eight bits");
    assert_eq!(grey.dimensions(), (64, 64));
    assert!(grey.pixels().all(|pixel| [0, 255].contains(&pixel.0[0])));
    let low = format!("{detect} --regions --pixel-threshold 0.000001");
    shop.succeed(shop.command(&low));
    let png = shop.path(&format!("out/anomaly_images_thresholded/{class}/test_private/000_regular.png"));
    assert!(image::open(png).unwrap().to_luma8().pixels().any(|pixel| pixel.0[0] == 255));
    let error = shop.refuse(shop.command(&format!("detect @model @data/{class}/test/good --submission @out2")));
    assert!(error.contains("does not lie in CLASS/test_private or CLASS/test_private_mixed"), "{error}");
    assert!(!shop.path("out2").exists());
}
