//! Bad input: one sentence that names the thing, and nothing half-written.

use std::fs;

use crate::workshop::{Workshop, names};

/// A workshop with a model and the name of its first class.
fn with_model() -> (Workshop, String) {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let class = names(&shop.path("data"))[0].clone();
    (shop, class)
}

#[test]
fn training_names_what_is_wrong_with_its_input() {
    let shop = Workshop::new();
    let error = shop.refuse(shop.command("train @nowhere --backbone @encoder.safetensors --out @model"));
    assert_eq!(
        error,
        "dinomaly: nowhere does not exist: expected a folder of photos of good parts, or of class folders, or a table of photos (.csv, .parquet)"
    );
    let error = shop.refuse(shop.command("train @data --backbone @none.pth --out @model"));
    assert!(error.contains("backbone none.pth cannot be used"), "{error}");
    fs::write(shop.path("text.safetensors"), "not a checkpoint").unwrap();
    let error = shop.refuse(shop.command("train @data --backbone @text.safetensors --out @model"));
    assert!(error.contains("backbone text.safetensors cannot be used"), "{error}");
    let error = shop.refuse(shop.train("model", "--classes bolt"));
    assert!(error.contains("class bolt is not in data"), "{error}");
    // After 1,000 iterations the easier nine of ten patches count less, and here there are four.
    let error = shop.refuse(shop.train("model", "--iterations 1001 --batch 1 --resize 32 --crop 32"));
    assert!(error.contains("a batch of 1 photo has 4 patches, and hard mining at rate 0.9 leaves none"), "{error}");
    assert!(!shop.path("model").exists());
    let error = shop.refuse(shop.train("model", "--crop 60"));
    assert!(error.contains("--resize 72 --crop 60") && error.contains("such as 48 or 64"), "{error}");

    let class = names(&shop.path("data"))[1].clone();
    let photo = shop.path(&format!("data/{class}/train/good/003.png"));
    let bytes = fs::read(&photo).unwrap();
    fs::write(&photo, &bytes[..bytes.len() / 2]).unwrap();
    let error = shop.refuse(shop.train("model", "--iterations 2 --holdout 0"));
    assert!(error.contains(&format!("data/{class}/train/good/003.png")), "{error}");
    fs::create_dir_all(shop.path("data/empty/train/good")).unwrap();
    let error = shop.refuse(shop.train("model", "--iterations 2"));
    assert!(error.contains("data/empty/train/good holds no photos of good parts"), "{error}");
    assert!(!shop.path("model").exists() && !shop.path("model.training").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_training() {
    let shop = Workshop::new();
    fs::write(shop.path("file"), "x").unwrap();
    let error = shop.refuse(shop.train("file/model", "--iterations 2"));
    assert!(error.contains("file"), "{error}");
    fs::create_dir_all(shop.path("full")).unwrap();
    fs::write(shop.path("full/precious.txt"), "x").unwrap();
    let error = shop.refuse(shop.train("full", "--iterations 2"));
    assert!(error.contains("full") && error.contains("other things than a model"), "{error}");
    assert_eq!(names(&shop.path("full")), ["precious.txt"]);
}

#[test]
fn results_that_cannot_be_written_are_named_before_the_work() {
    let (shop, class) = with_model();
    fs::write(shop.path("file"), "x").unwrap();
    for option in ["--json", "--csv"] {
        let error = shop.refuse(shop.command(&format!("evaluate @model @data {option} @file/m")));
        assert!(error.contains("file/m cannot be written"), "{error}");
    }
    let error = shop.refuse(shop.command("evaluate @model @data --json @data"));
    assert!(error.contains("data is a folder"), "{error}");
    let error = shop.refuse(shop.command(&format!("detect @model @data/{class}/test/good --heatmaps @file")));
    assert!(error.contains("file/photo.png cannot be written: file cannot be written to: it is a file"), "{error}");
    let distill = "distill --teacher @encoder.safetensors --student @file/s.safetensors --width 64 --iterations 1";
    let error = shop.refuse(shop.command(distill));
    assert!(error.contains("file/s.safetensors cannot be written"), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let shop = Workshop::new();
    let folder = shop.path("model.training");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("checkpoint.safetensors"), "half of it").unwrap();
    let error = shop.refuse(shop.train("model", "--iterations 2"));
    assert!(
        error.contains("model.training/checkpoint.safetensors is damaged") && error.contains("--restart"),
        "{error}"
    );
    shop.succeed(shop.train("model", "--iterations 2 --restart"));
}

#[test]
fn evaluation_names_what_is_wrong_with_masks_and_classes() {
    let (shop, class) = with_model();
    let kind = names(&shop.path(&format!("data/{class}/ground_truth")))[0].clone();
    let mask = shop.path(&format!("data/{class}/ground_truth/{kind}/000_mask.png"));
    image::GrayImage::new(10, 20).save(&mask).unwrap();
    let error = shop.refuse(shop.command("evaluate @model @data --json @m.json"));
    assert!(error.contains("000_mask.png is 10 × 20 pixels, its photo 64 × 64"), "{error}");
    fs::remove_file(&mask).unwrap();
    let error = shop.refuse(shop.command("evaluate @model @data --json @m.json"));
    assert!(error.contains(&format!("{kind}/000_mask.png of photo")) && error.contains("is missing"), "{error}");
    fs::remove_dir_all(shop.path(&format!("data/{class}/test"))).unwrap();
    let error = shop.refuse(shop.command("evaluate @model @data --json @m.json"));
    assert!(error.contains(&format!("class {class} has no test photos")), "{error}");
    assert!(!shop.path("m.json").exists());
}

#[test]
fn detection_names_each_bad_photo_and_does_the_others() {
    let (shop, class) = with_model();
    fs::write(shop.path("text.png"), "not a photo").unwrap();
    fs::write(shop.path("empty.jpg"), "").unwrap();
    // A bitmap's header, 20,000 × 20,000 of 24 bits; no pixel of it is ever asked for.
    let fields = [0, 0, 54, 40, 20_000, 20_000, 24 << 16 | 1, 0, 0, 0, 0, 0, 0_u32];
    let header = fields.iter().flat_map(|field| field.to_le_bytes());
    fs::write(shop.path("huge.bmp"), b"BM".iter().copied().chain(header).collect::<Vec<u8>>()).unwrap();
    let good = format!("@data/{class}/test/good/000.png");
    let command = format!("detect @model @text.png {good} @empty.jpg @none.jpg @huge.bmp");
    let output = shop.command(&command).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!output.status.success());
    assert_eq!(out.lines().count(), 2, "{out}");
    for name in ["text.png", "empty.jpg", "none.jpg", "huge.bmp", "4 of 5 photos could not be read"] {
        assert!(err.contains(name), "{err}");
    }
    assert!(err.contains("20000x20000 pixels are 400 megapixels, the limit is 120"), "{err}");
    let folder = shop.path("mixed");
    fs::create_dir_all(folder.join("below")).unwrap();
    for copy in ["mixed/1.png", "mixed/below/2.png"] {
        fs::copy(shop.path(&format!("data/{class}/test/good/000.png")), shop.path(copy)).unwrap();
    }
    fs::write(folder.join("3.gif"), "").unwrap();
    let output = shop.command("detect @model @mixed").output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && out.lines().count() == 2, "{out}{err}");
    assert!(err.contains("mixed: 1 in subfolders, 1 of an unsupported format"), "{err}");
    assert!(err.contains("the threshold of the class that each photo is nearest to applies"), "{err}");
    image::RgbImage::new(1, 1).save(shop.path("dot.png")).unwrap();
    image::DynamicImage::new_luma16(40, 40).save(shop.path("deep.png")).unwrap();
    let output = shop.command("detect @model @dot.png @deep.png").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("tiny or very long: ") && err.contains("in 16-bit grey, whose values"), "{err}");
    let output = shop.command(&format!("detect @model @mixed/1.png --class {class}")).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let error = shop.refuse(shop.command(&format!("detect @model {good} --class bolt")));
    assert!(error.contains("has no class bolt") && error.contains(&class), "{error}");
}

#[test]
fn damaged_models_are_refused_by_file() {
    let (shop, class) = with_model();
    let detect = || shop.command(&format!("detect @model @data/{class}/test/good/000.png"));
    let shard = names(&shop.path("model")).into_iter().find(|name| name.starts_with("head-")).unwrap();
    let path = shop.path(&format!("model/{shard}"));
    let bytes = fs::read(&path).unwrap();
    let mut altered = bytes.clone();
    altered[bytes.len() - 5] ^= 1;
    for damaged in [&altered[..], &bytes[..bytes.len() - 1]] {
        fs::write(&path, damaged).unwrap();
        let error = shop.refuse(detect());
        assert!(error.contains(&shard), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = shop.refuse(detect());
    assert!(error.contains(&shard), "{error}");
    fs::write(&path, &bytes).unwrap();
    shop.succeed(detect());
    let manifest = shop.path("model/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"format_version\": 1", "\"format_version\": 99")).unwrap();
    let error = shop.refuse(detect());
    assert!(error.contains("manifest.json") && error.contains("99"), "{error}");
}

/// A file system of one megabyte stands for a full disk; where it cannot be mounted (only root may) the test says so.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_leaves_nothing_half_written() {
    use std::process::Command;
    let shop = Workshop::new();
    let small = shop.path("small");
    fs::create_dir_all(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("DINOMALY_REQUIRE_DATA").is_none(), "a small file system cannot be mounted");
        println!("SKIPPED: a small file system cannot be mounted");
        return;
    }
    struct Unmount<'a>(&'a std::path::Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let unmounted = Command::new("umount").arg(self.0).status();
            assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
        }
    }
    let mount = Unmount(&small);
    // 131 kB of features a photo, and a checkpoint of 7 MB.
    let cache = shop.refuse(shop.train("small/a", "--iterations 2 --cache-memory 0 --resize 256 --crop 256"));
    let checkpoint = shop.refuse(shop.train("small/b", "--iterations 2"));
    let left = names(&small);
    drop(mount);
    assert!(cache.contains("the feature cache is full after") && cache.contains("free disk space"), "{cache}");
    assert!(checkpoint.contains("small/b.training/checkpoint.safetensors"), "{checkpoint}");
    assert!(left.is_empty(), "{left:?}");
}
