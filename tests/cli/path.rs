//! Photos → model → metrics, scores, heatmaps, int8, in the commands of the README.

use std::collections::BTreeMap;
use std::fs;

use dinomaly_core::bundle::Calibration;
use dinomaly_core::model::config::{BottleneckInput, Recentring};
use half::f16;
use safetensors::SafeTensors;

use crate::broken_off::weights;
use crate::workshop::{Workshop, names};

#[test]
fn the_whole_path_from_photos_to_results() {
    let shop = Workshop::new();
    let output = shop.train("model", "--iterations 6").output().unwrap();
    assert!(output.status.success());
    let (text, progress) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("2 classes, 10 good photos to train on, 10 held out"), "{text}");
    let last = progress.lines().find(|line| line.starts_with("training 6/6 iterations")).unwrap_or_default();
    for part in ["seconds left", "loss 0.", "lr 1.01e-4", "photos/s"] {
        assert!(last.contains(part), "no {part} in: {progress}");
    }
    assert!(progress.contains("scoring 10/10 photos"), "{progress}");
    assert!(!shop.path("model.training").exists(), "the working folder goes with the end of the run");

    let text = shop.succeed(shop.command("evaluate @model @data --json @m.json --csv @m.csv"));
    assert!(text.lines().next().unwrap().contains("I-AUROC") && text.contains("mean"), "{text}");
    assert!(text.lines().next().unwrap().trim_end().ends_with("SegF1"), "{text}");
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
    assert!(text.starts_with("photo,score,threshold,normalised,defective,verdict,nearest\n"), "{text}");
    assert_eq!(names(&shop.path("out")).len(), 3);
    let heatmap = image::open(shop.path("out").join(&names(&shop.path("out"))[0])).unwrap().to_rgb8();
    assert_eq!((heatmap.width(), heatmap.height()), (64, 64));
    // The centre of 64 of 72 pixels is looked at: what lies outside is grey and hatched.
    let grey = |x, y| heatmap.get_pixel(x, y).0.windows(2).all(|pair| pair[0] == pair[1]);
    let centre = (20..44).flat_map(|y| (20..44).map(move |x| (x, y)));
    assert!([(0, 0), (63, 32), (20, 1)].iter().all(|&(x, y)| grey(x, y)), "the border is coloured");
    assert!(centre.filter(|&(x, y)| !grey(x, y)).count() > 500, "the centre is not");
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
    fs::write(shop.path("note.md"), "Photos: drawn.\n").unwrap();
    shop.succeed(shop.command("quantize @model --out @int8 --note @note.md"));
    assert!(fs::read_to_string(shop.path("int8/README.md")).unwrap().ends_with("\n\nPhotos: drawn.\n"));
    assert!(3 * bytes("int8") < bytes("model"), "{} and {} bytes", bytes("int8"), bytes("model"));
    let score = |text: &str| -> f64 { text.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap() };
    let detect =
        |model: &str| score(&shop.succeed(shop.command(&format!("detect @{model} @data/{class}/test/good/000.png"))));
    let (f32, int8) = (detect("model"), detect("int8"));
    // Random weights of 64 channels round worse than trained ones.
    assert!((f32 - int8).abs() < 0.05 * f32, "{f32} and {int8}");
    let text = shop.succeed(shop.command("inspect @int8"));
    assert!(text.contains(&class), "{text}");
    let line = |start: &str| text.lines().rfind(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    // Width 64, hidden 128: a block has 64·(4·64 + 2·128) weights and 9·64 + 128 others; ten are kept of the encoder, which
    // begins with 768·64 + 64 of the patches, 64 of the class token, and 17 positions of 64.
    let (embedding, encoder) = (768 * 64 + 64 + 64 + 17 * 64, 10 * (64 * 512 + 9 * 64 + 128));
    // The decoder's MLPs are four times as wide, like the bottleneck's.
    let (bottleneck, decoder) = (2 * 64 * 256 + 256 + 64, 8 * (64 * 768 + 9 * 64 + 256));
    for (part, parameters) in
        [("embedding", embedding), ("encoder", encoder), ("bottleneck", bottleneck), ("decoder", decoder)]
    {
        assert_eq!(line(&format!("{part}  ")).split_whitespace().nth(1), Some(&*parameters.to_string()), "{text}");
    }
    assert!(shop.succeed(shop.command("inspect @int8 --speed")).contains(" photos/s, "));
    assert!(line("encoder-").ends_with("int8") && line("head-").ends_with("int8"), "{text}");
}

/// With an alarm for every third good photo the threshold is one of the scores.
#[test]
fn thresholds_are_set_again_from_other_good_photos() {
    let shop = Workshop::new();
    let printed = shop.succeed(shop.train("model", "--iterations 2 --false-alarm-rate 0.2"));
    assert!(printed.contains("calibrating on the processor with "), "{printed}");
    let inspected = shop.succeed(shop.command("inspect @model"));
    assert!(inspected.contains("at these thresholds: 20 % of good parts"), "{inspected}");
    let class = names(&shop.path("data"))[0].clone();
    shop.succeed(shop.command("calibrate @model @data --out @again --false-alarm-rate 0.34"));
    let text = shop.succeed(shop.command(&format!("detect @again @data/{class}/train/good --class {class} --json")));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let of = |row: &serde_json::Value, key: &str| row[key].as_f64().unwrap();
    let mut scores: Vec<f64> = rows.iter().map(|row| of(row, "score")).collect();
    scores.sort_by(f64::total_cmp);
    let above = (0.34 * (scores.len() + 1) as f64) as usize;
    assert!(above > 1, "{text}");
    assert_eq!(of(&rows[0], "threshold"), scores[scores.len() - above]);
    assert_eq!(rows.iter().filter(|row| row["defective"] == true).count(), above - 1);
    let at_threshold = rows.iter().find(|row| of(row, "score") == of(row, "threshold")).unwrap();
    assert!((of(at_threshold, "normalised") - 1.0).abs() < 1e-6, "{at_threshold}");
    let one = format!("calibrate @again @data --classes {class} --out @one");
    let error = shop.refuse(shop.command(&one));
    assert!(error.contains("which are for --false-alarm-rate 0.34"), "{error}");
    shop.succeed(shop.command(&format!("{one} --false-alarm-rate 0.34")));
    let [again, one] = ["again", "one"].map(|model| dinomaly::model_dir::read(&shop.path(model)).unwrap().calibration);
    assert_eq!(again, one, "the same photos of one class, and what was known of the other");
    let alone = format!("calibrate @again @data/{class} --out @alone");
    let text = shop.succeed(shop.command(&alone));
    assert!(text.contains("classes removed from the model") && text.contains("count as held out"), "{text}");
    let cards = ["model", "again"].map(|model| fs::read_to_string(shop.path(model).join("README.md")).unwrap());
    let changed: Vec<_> = cards[0].lines().zip(cards[1].lines()).filter(|(before, after)| before != after).collect();
    let [(before, after)] = changed[..] else { panic!("{changed:?}") };
    assert!(before.contains("20 % of good parts") && after.contains("34 % of good parts"), "{before} {after}");
}

#[test]
fn known_defective_photos_show_what_thresholds_find_or_set_them() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    let class = names(&shop.path("data"))[0].clone();
    let kinds = names(&shop.path("data").join(&class).join("test"));
    for kind in kinds.iter().filter(|kind| *kind != "good") {
        let (from, to) = (format!("data/{class}/test/{kind}"), format!("defective/{class}/{kind}"));
        fs::create_dir_all(shop.path(&to)).unwrap();
        for photo in names(&shop.path(&from)) {
            fs::copy(shop.path(&from).join(&photo), shop.path(&to).join(&photo)).unwrap();
        }
    }
    let count = kinds.len() - 1;
    let text = shop.succeed(shop.command("calibrate @model @data --out @seen --defective @defective"));
    assert!(text.contains(&format!("with 20 good and {count} defective photos")), "{text}");
    assert!(text.contains(&format!("of {count} defective photos (recall ")), "{text}");
    assert!(text.contains("of 10 good photos defective"), "{text}");
    shop.succeed(shop.command("calibrate @model @data --out @best --defective @defective --best-f1"));
    let [seen, best] = ["seen", "best"].map(|model| dinomaly::model_dir::read(&shop.path(model)).unwrap().calibration);
    let threshold = |calibration: &Calibration, class: &str| calibration.classes[class].threshold;
    assert!(threshold(&seen, &class) != threshold(&best, &class));
    let other = &names(&shop.path("data"))[1];
    assert_eq!(threshold(&seen, other), threshold(&best, other), "no defective photos of it");
    fs::rename(shop.path("defective").join(&class), shop.path("defective/unknown")).unwrap();
    let error = shop.refuse(shop.command("calibrate @model @data --out @none --defective @defective"));
    assert!(error.contains("is in no folder of a class"), "{error}");
    let mut command = shop.command("calibrate @model @data --out @none --best-f1");
    let output = command.output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--defective"));
}

#[test]
fn a_report_holds_the_table_and_nothing_from_elsewhere() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    shop.succeed(shop.command("evaluate @model @data --csv @m.csv --report @r.html --gallery 2"));
    let (csv, html) =
        (fs::read_to_string(shop.path("m.csv")).unwrap(), fs::read_to_string(shop.path("r.html")).unwrap());
    for line in csv.lines().skip(1) {
        let cells: String = line.split(',').skip(1).map(|cell| format!("<td>{cell}</td>")).collect();
        assert!(html.contains(&cells), "{line}");
    }
    assert_eq!(html.matches("<figure class=\"shot\">").count(), 2 * 2);
    assert!(!html.contains("<script") && !html.contains("http:") && !html.contains("https:"));
    assert!(html.contains("default-src 'none'"));
    let error = shop.refuse(shop.command("evaluate @model @data --report @data"));
    assert!(error.contains("data is a folder"), "{error}");
}

#[test]
fn a_class_is_trained_from_its_own_folder_and_evaluated_where_only_tests_are() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    let mut train =
        shop.command("train . --backbone @encoder.safetensors --out @model --resize 64 --crop 64 --batch 4");
    train.args(["--iterations", "2"]).current_dir(shop.path(&format!("data/{class}")));
    shop.succeed(train);
    assert!(shop.succeed(shop.command("inspect @model")).contains(&class));
    fs::remove_dir_all(shop.path(&format!("data/{class}/train"))).unwrap();
    let text = shop.succeed(shop.command(&format!("evaluate @model @data --classes {class}")));
    assert!(text.contains(&class), "{text}");
}

/// Each is a value in the model's config, so every other command takes it as it takes the published model.
#[test]
fn variants_are_trained_published_and_run() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    let variants = [
        "--decoder conv3 --groups dense",
        "--decoder softmax --neighbour-mask 3 --groups 1",
        "--neighbour-mask 3 --remove-class-token --groups every2",
        "--groups concatenated --jitter 20 --dropout 0 --mining-rate 0",
        "--preset vitad --mining-rate 0.9",
        "--patch-masking 0.5 --layers 1,3,5 --groups 0/1,2 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5",
        "--preset dinomaly2 --bottleneck-width 24",
        "--recentring layers --optimizer stable-adamw --first-layer-lr 1e-3",
    ];
    for (i, variant) in variants.iter().enumerate() {
        let train = |out: &str, rest: &str| shop.train(out, &format!("--iterations 4 {variant} {rest}"));
        let model = format!("model{i}");
        shop.succeed(train(&model, ""));
        shop.succeed(train(&format!("{model}-disk"), "--cache-memory 0"));
        shop.succeed(shop.command(&format!("quantize @{model} --out @{model}-int8")));
        let score = |model: &str| -> f64 {
            let text = shop.succeed(shop.command(&format!("detect @{model} @data/{class}/test/good/000.png")));
            text.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap()
        };
        let (f32, disk, int8) = (score(&model), score(&format!("{model}-disk")), score(&format!("{model}-int8")));
        assert_eq!(f32, disk, "{variant}");
        assert!((f32 - int8).abs() < 0.05 * f32, "{variant}: {f32} and {int8}");
    }
    let vitad = dinomaly::model_dir::read(&shop.path("model4")).unwrap().config;
    let vitad = vitad.dinomaly("this test").unwrap();
    assert_eq!((vitad.target_layers.clone(), vitad.decoder.num_hidden_layers), (vec![2, 5, 8, 11], 9));
    assert_eq!(vitad.decoder_groups.clone(), Some(vec![vec![2], vec![5], vec![8]]));
    assert_eq!((vitad.bottleneck_input, vitad.bottleneck_dropout), (BottleneckInput::Last, 0.0));
    let two = dinomaly::model_dir::read(&shop.path("model6")).unwrap().config;
    let two = two.dinomaly("this test").unwrap();
    assert_eq!((two.recentring, two.bottleneck_width, two.bottleneck_dropout), (Recentring::Target, Some(24), 0.4));
    assert_eq!(two.decoder.attention_eps, 1e-8);
    let error = shop.refuse(shop.train("model", "--iterations 2 --decoder conv4"));
    assert!(error.contains("odd side"), "{error}");
}

/// Every draw of a photo is another view, which depends on the run's seed alone.
#[test]
fn a_few_photos_are_trained_on_with_augmentation() {
    let shop = Workshop::new();
    let train = |out: &str, rest: &str| {
        let shots = if rest.contains("--shots") { "" } else { "--shots 2" };
        shop.train(out, &format!("--preset dinomaly2 --bottleneck-width 24 --batch 16 --iterations 4 {shots} {rest}"))
    };
    let text = shop.succeed(train("views", "--augmentation few-shot"));
    assert!(text.contains("2 classes, 4 good photos to train on"), "{text}");
    assert!(
        text.contains("4 photos to train on are fewer than a batch: each batch draws 16 with replacement"),
        "{text}"
    );
    shop.succeed(train("again", "--augmentation few-shot"));
    shop.succeed(train("plain", ""));
    let head = |model: &str| weights(&shop.path(model));
    assert_eq!(head("views"), head("again"));
    assert_ne!(head("views"), head("plain"));
    let error = shop.refuse(train("other", "--shots 9 --augmentation few-shot"));
    assert!(error.contains("--shots") && error.contains("good photos besides"), "{error}");
}

/// What a file does not tell of its encoder is told, kept in the model, and asked for again by a run that goes on.
#[test]
fn the_origin_of_an_encoder_decides_how_its_positions_fit_the_photo() {
    let shop = Workshop::new();
    let config = |model: &str| fs::read_to_string(shop.path(model).join("config.json")).unwrap();
    for (model, origin, expected) in [
        ("original", "--origin original", None),
        ("timm", "--origin timm", Some("antialiased")),
        ("anomalib", "--origin anomalib", Some("exact")),
        ("untold", "", None),
    ] {
        shop.succeed(shop.train(model, &format!("--iterations 2 --resize 96 --crop 96 {origin}")));
        let found = config(model);
        let resampling = expected.map(|name| format!("\"resampling\": \"{name}\""));
        assert_eq!(found.contains("resampling"), expected.is_some(), "{origin}: {found}");
        assert!(resampling.is_none_or(|field| found.contains(&field)), "{origin}: {found}");
    }
    let few = |out: &str, origin: &str| {
        shop.succeed(
            shop.command(&format!("fewshot @data --backbone @encoder.safetensors --size 96 --out @{out} {origin}")),
        )
    };
    few("few", "--origin transformers");
    assert!(config("few").contains("\"resampling\": \"exact\""), "{}", config("few"));
    shop.succeed(shop.command("fewshot @data --add @few --out @more"));
    assert!(config("more").contains("\"resampling\": \"exact\""), "{}", config("more"));
    let error = shop.command("train @data --backbone @encoder.safetensors --out @x --origin keras").output().unwrap();
    let text = String::from_utf8(error.stderr).unwrap();
    assert!(text.contains("possible values: original, timm, transformers, anomalib"), "{text}");
}

/// Our names are the official ones, so a model's own tensors make an official checkpoint.
#[test]
fn an_imported_checkpoint_scores_as_the_model_it_was_made_of() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 3 --decoder softmax"));
    let model = dinomaly::model_dir::read(&shop.path("model")).unwrap();
    let bytes = dinomaly_core::tensor::safetensors_io::write(&model.weights, None).unwrap();
    fs::write(shop.path("official.safetensors"), bytes).unwrap();
    // The checkpoint holds the ten encoder blocks that are run, not all twelve.
    let layers = "--layers 2,3,4,5,6,7,8,9 --decoder softmax --resize 72 --crop 64";
    let import = format!("import @official.safetensors --data @data --out @imported {layers}");
    let text = shop.succeed(shop.command(&import));
    assert!(text.contains("of the official implementation"), "{text}");
    let class = names(&shop.path("data"))[0].clone();
    let scores = |model: &str| -> Vec<f64> {
        let text = shop.succeed(shop.command(&format!("detect @{model} @data/{class}/test/good --json")));
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        rows.iter().map(|row| row["score"].as_f64().unwrap()).collect()
    };
    assert_eq!(scores("imported"), scores("model"));
    assert!(fs::read_to_string(shop.path("imported/README.md")).unwrap().contains("estimated from 20 training photos"));
    let error = shop.refuse(shop.command("import @encoder.safetensors --data @data --out @never"));
    assert!(error.contains("encoder.safetensors cannot be imported: it has no bottleneck.0.fc1.weight"), "{error}");
    assert!(!shop.path("never").exists());
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
