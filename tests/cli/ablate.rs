//! Ablations: broken off, gone on with, and the numbers in their tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use dinomaly::ablation::Cell;
use dinomaly::inference::evaluation::Evaluation;

use crate::broken_off::{interrupt, kill, start};
use crate::workshop::{Workshop, names};

const PLAN: &str = r#"
backbone = "nowhere.safetensors"
resize = 72
crop = 64
batch = 4
iterations = 60
checkpoint-every = 7
seeds = [1, 2]

[[variant]]
name = "default"

[[variant]]
name = "bare: no noise, softmax"
dropout = 0
decoder = "softmax"
groups = 1
mining-rate = 0
"#;

fn ablate(shop: &Workshop, plan: &str, out: &str) -> Command {
    fs::write(shop.path("plan.toml"), plan).unwrap();
    shop.command(&format!("ablate @plan.toml --data @data --backbone @encoder.safetensors --out @{out}"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_killed_and_an_interrupted_ablation_ends_in_the_same_table() {
    let shop = Workshop::new();
    let text = shop.succeed(ablate(&shop, PLAN, "unbroken"));
    assert!(text.contains("cell 4 of 4: bare: no noise, softmax seed 2"), "{text}");

    let checkpoint = |cell: &str| shop.path(&format!("broken/models/{cell}.training/checkpoint.safetensors"));
    kill(start(ablate(&shop, PLAN, "broken"), &checkpoint("bare--no-noise--softmax-seed-1")));
    let finished = read(&shop.path("broken/cells/default-seed-1.json"));
    #[cfg(unix)]
    {
        interrupt(start(ablate(&shop, PLAN, "broken"), &checkpoint("default-seed-2")));
        assert!(checkpoint("default-seed-2").exists());
        assert!(read(&shop.path("broken/table.md")).contains("| bare: no noise, softmax | 1 |"));
    }
    let text = shop.succeed(ablate(&shop, PLAN, "broken"));
    assert!(text.contains("resuming after iteration") && !text.contains("cell 1 of 4"), "{text}");
    assert_eq!(read(&shop.path("broken/cells/default-seed-1.json")), finished);
    for file in ["table.md", "table.csv"] {
        assert_eq!(
            read(&shop.path(&format!("unbroken/{file}"))),
            read(&shop.path(&format!("broken/{file}"))),
            "{file}"
        );
    }
    assert_eq!(names(&shop.path("broken/models")), names(&shop.path("unbroken/models")), "no working folder stays");
    let text = shop.succeed(ablate(&shop, PLAN, "broken"));
    assert!(!text.contains("cell ") && text.contains("±"), "all is done: {text}");
}

/// Kills at moments that are too short to meet: before the first cell stands, before its working folder is removed, before the tables.
#[test]
fn what_a_kill_left_of_an_ablation_is_taken_up() {
    let shop = Workshop::new();
    let plan = PLAN.replace("iterations = 60", "iterations = 4").replace("[1, 2]", "[1]");
    fs::create_dir_all(shop.path("out/cells")).unwrap();
    fs::write(shop.path("out/cells/.dinomaly-partial-000000-x"), "{").unwrap();
    shop.succeed(ablate(&shop, &plan, "out"));
    let tables = || ["table.md", "table.csv"].map(|name| read(&shop.path(&format!("out/{name}"))));
    let (expected, models) = (tables(), names(&shop.path("out/models")));

    let cell = shop.path("out/cells/default-seed-1.json");
    let mut unfinished: Cell = serde_json::from_str(&read(&cell)).unwrap();
    unfinished.evaluation = None;
    fs::write(&cell, serde_json::to_vec(&unfinished).unwrap()).unwrap();
    fs::create_dir(shop.path("out/models/default-seed-1.training")).unwrap();
    fs::write(shop.path("out/models/default-seed-1.training/lock"), "").unwrap();
    shop.succeed(ablate(&shop, &plan, "out"));
    assert_eq!((tables(), names(&shop.path("out/models"))), (expected.clone(), models));

    for name in ["table.md", "table.csv"] {
        fs::remove_file(shop.path(&format!("out/{name}"))).unwrap();
    }
    shop.succeed(ablate(&shop, &plan, "out"));
    assert_eq!(tables(), expected);
}

#[test]
fn the_table_holds_mean_and_deviation_of_the_cells() {
    let shop = Workshop::new();
    let printed = shop.succeed(ablate(&shop, &PLAN.replace("iterations = 60", "iterations = 4"), "out"));
    let (markdown, csv) = (read(&shop.path("out/table.md")), read(&shop.path("out/table.csv")));
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 2 * 3, "two variants; the mean and two classes");
    for (variant, file) in [("default", "default"), ("bare: no noise, softmax", "bare--no-noise--softmax")] {
        let cells: [Cell; 2] = [1, 2].map(|seed| {
            let cell: Cell =
                serde_json::from_str(&read(&shop.path(&format!("out/cells/{file}-seed-{seed}.json")))).unwrap();
            assert_eq!((cell.variant.as_str(), cell.seed), (variant, seed));
            cell
        });
        let means = cells.each_ref().map(|cell| cell.evaluation.as_ref().unwrap().mean.values());
        let line = lines.iter().find(|line| line[0] == *variant && line[1] == *"mean").unwrap();
        let mut row = format!("| {variant} | 2 ");
        for metric in 0..7 {
            let [a, b] = means.map(|values| 100.0 * values[metric].unwrap());
            // Of two values: the half of their sum, and their distance over the root of two.
            let (mean, std) = ((a + b) / 2.0, (a - b).abs() / 2f64.sqrt());
            assert!((line[3 + 2 * metric].parse::<f64>().unwrap() - mean).abs() < 1e-4, "{line:?}");
            assert!((line[4 + 2 * metric].parse::<f64>().unwrap() - std).abs() < 1e-4, "{line:?}");
            row += &format!("| {mean:.2} ± {std:.2} ");
        }
        assert!(markdown.contains(&row), "no {row} in {markdown}");
        assert!(printed.lines().any(|line| line.starts_with(variant) && line.contains(" ± ")), "{printed}");
    }
    let model = shop.succeed(shop.command("inspect @out/models/bare--no-noise--softmax-seed-2"));
    assert!(model.to_lowercase().contains("softmax"), "{model}");
}

#[test]
fn each_class_can_have_a_model_of_its_own() {
    let shop = Workshop::new();
    let plan = format!("separate = true\n{}", PLAN.replace("iterations = 60", "iterations = 4"));
    shop.succeed(ablate(&shop, &plan, "out"));
    let cell: Cell = serde_json::from_str(&read(&shop.path("out/cells/default-seed-1.json"))).unwrap();
    let found = cell.evaluation.unwrap();
    let models = shop.path("out/models/default-seed-1");
    assert_eq!(found.classes.iter().map(|class| class.class.clone()).collect::<Vec<_>>(), names(&models));
    assert!(found.classes.len() > 1);
    for class in &found.classes {
        // The model of this class, as if it had been trained and evaluated by hand.
        let name = &class.class;
        let common = format!("@data --classes {name}");
        shop.succeed(shop.command(&format!(
            "train {common} --backbone @encoder.safetensors --resize 72 --crop 64 --batch 4 --iterations 4 --out @{name}"
        )));
        shop.succeed(shop.command(&format!("evaluate @{name} {common} --json @{name}.json")));
        let mut by_hand: Evaluation = serde_json::from_str(&read(&shop.path(&format!("{name}.json")))).unwrap();
        // Beside the seven metrics, which tables of variants do not have.
        let found = &mut by_hand.classes[0];
        assert!(found.seg_f1.take().is_some() && found.i_f1.take().is_some());
        assert_ne!(found.aupimo.take().is_some(), found.aupimo_undefined.take().is_some());
        assert_eq!(&by_hand.classes[0], class);
    }
    let error = shop.refuse(ablate(&shop, &plan.replace("separate = true", ""), "out"));
    assert!(error.contains("a model for each class, now one model for all classes"), "{error}");
}

#[test]
fn what_a_plan_cannot_say_is_named_before_any_training() {
    let shop = Workshop::new();
    for (plan, expected) in [
        (PLAN.replace("dropout = 0", "droput = 0"), "variant bare: no noise, softmax: train has no option --droput"),
        (PLAN.replace("batch = 4", "batches = 4"), "variant default: train has no option --batches"),
        (PLAN.replace("\"softmax\"", "\"hard\""), "invalid value 'hard' for '--decoder <KIND>'"),
        (PLAN.replace("iterations = 60", "tensorboard = 'x'"), "tensorboard is not an option of a plan"),
        (PLAN.replace("dropout = 0", "layers = [1, 40]"), "variant bare: no noise, softmax: "),
        (PLAN.replace("[[variant]]", "[[variants]]"), "plan.toml cannot be used: it holds no [[variant]]"),
    ] {
        let error = shop.refuse(ablate(&shop, &plan, "out"));
        assert!(error.contains("plan plan.toml cannot be used") && error.contains(expected), "{error}");
        assert!(!shop.path("out/models").exists() && !shop.path("out/cells").exists());
    }
    let error = shop.refuse(shop.command("ablate @none.toml --out @out"));
    assert!(error.contains("plan none.toml cannot be read"), "{error}");
    fs::create_dir_all(shop.path("full")).unwrap();
    fs::write(shop.path("full/precious.txt"), "x").unwrap();
    let error = shop.refuse(ablate(&shop, PLAN, "full"));
    assert!(error.contains("full is not empty and not an ablation"), "{error}");
    let few = PLAN.replace("iterations = 60", "iterations = 2");
    shop.succeed(ablate(&shop, &few, "out"));
    let error = shop.refuse(ablate(&shop, &few.replace("batch = 4", "batch = 5"), "out"));
    assert!(
        error.contains("cell default seed 1 in out was begun with other settings (--batch=4, now --batch=5)"),
        "{error}"
    );
}
