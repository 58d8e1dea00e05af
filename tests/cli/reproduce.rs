//! `reproduce`: every plan of the paper from end to end with encoders of random weights, what is missing, and what is never mixed;
//! `verify-model`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use dinomaly::dataset::published::DataSet;
use dinomaly::reproduction::tables;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;

use crate::workshop::{Workshop, names};

/// Photos of two classes, eight to train on and a few to test, under their names in a data set of the paper.
fn photos(shop: &Workshop, folder: &str, classes: [&str; 2]) {
    let plan = GenerationPlan { classes: Class::ALL[..2].to_vec(), size: 48, seed: 5, train: 8, good: 2, defective: 1 };
    let raw = shop.path(&format!("{folder}.raw"));
    plan.write(&raw, || Ok(())).unwrap();
    for (from, to) in names(&raw).into_iter().filter(|name| raw.join(name).is_dir()).zip(classes) {
        fs::create_dir_all(shop.path(folder)).unwrap();
        fs::rename(raw.join(from), shop.path(folder).join(to)).unwrap();
    }
    fs::remove_dir_all(raw).unwrap();
}

/// Files below a folder, relative to it, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names(folder) {
        match folder.join(&name).is_dir() {
            true => found.extend(files(&folder.join(&name)).into_iter().map(|below| format!("{name}/{below}"))),
            false => found.push(name),
        }
    }
    found
}

/// BTAD: `ok` and `ko` in place of `good` and the defects.
fn btad(shop: &Workshop) {
    photos(shop, "btad", ["01", "02"]);
    for class in ["01", "02"] {
        let folder = shop.path(&format!("btad/{class}"));
        for name in files(&folder) {
            let parts: Vec<&str> = name.split('/').collect();
            let (kind, file) = (parts[parts.len() - 2], parts[parts.len() - 1]);
            let to = match (parts[0], kind) {
                ("ground_truth", kind) => format!("ground_truth/ko/{kind}{}", file.replace("_mask", "")),
                (split, "good") => format!("{split}/ok/{file}"),
                (split, kind) => format!("{split}/ko/{kind}{file}"),
            };
            fs::create_dir_all(folder.join(&to).parent().unwrap()).unwrap();
            fs::rename(folder.join(&name), folder.join(to)).unwrap();
        }
        for (split, kind) in [("train", "good"), ("test", "good")] {
            fs::remove_dir(folder.join(split).join(kind)).unwrap();
        }
        for split in ["test", "ground_truth"] {
            for kind in names(&folder.join(split)).into_iter().filter(|kind| !["ok", "ko"].contains(&kind.as_str())) {
                fs::remove_dir(folder.join(split).join(kind)).unwrap();
            }
        }
    }
}

/// VisA as downloaded: a list of all photos.
fn visa(shop: &Workshop) {
    photos(shop, "visa", ["candle", "pcb4"]);
    let mut list = "object,split,label,image,mask\n".to_owned();
    for class in ["candle", "pcb4"] {
        for name in files(&shop.path(&format!("visa/{class}"))) {
            let parts: Vec<&str> = name.split('/').collect();
            let (label, mask) = match parts[..] {
                ["ground_truth", ..] => continue,
                [_, "good", _] => ("normal", String::new()),
                [_, kind, file] => {
                    ("anomaly", format!("{class}/ground_truth/{kind}/{}", file.replace(".png", "_mask.png")))
                }
                _ => unreachable!("{name}"),
            };
            writeln!(list, "{class},{},{label},{class}/{name},{mask}", parts[0]).unwrap();
        }
    }
    fs::create_dir_all(shop.path("visa/split_csv")).unwrap();
    fs::write(shop.path("visa/split_csv/1cls.csv"), list).unwrap();
}

/// Real-IAD: a list for each class.
fn real_iad(shop: &Workshop) {
    photos(shop, "real-iad/realiad_1024", ["audiojack", "zipper"]);
    fs::create_dir_all(shop.path("real-iad/realiad_jsons")).unwrap();
    for class in ["audiojack", "zipper"] {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for name in files(&shop.path(&format!("real-iad/realiad_1024/{class}"))) {
            let parts: Vec<&str> = name.split('/').collect();
            let (kind, mask) = match parts[..] {
                ["ground_truth", ..] => continue,
                [_, "good", _] => ("OK", None),
                [_, kind, file] => (kind, Some(format!("ground_truth/{kind}/{}", file.replace(".png", "_mask.png")))),
                _ => unreachable!("{name}"),
            };
            let entry = serde_json::json!({
                "category": class, "anomaly_class": kind, "image_path": name, "mask_path": mask
            });
            if parts[0] == "train" { train.push(entry) } else { test.push(entry) }
        }
        let list = serde_json::json!({
            "meta": {"prefix": format!("{class}/"), "normal_class": "OK"}, "train": train, "test": test
        });
        fs::write(shop.path(&format!("real-iad/realiad_jsons/{class}.json")), list.to_string()).unwrap();
    }
}

fn read(shop: &Workshop, name: &str) -> String {
    fs::read_to_string(shop.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Checks that a table's files hold every row with its published figures, and figures for those that are computed.
fn check_table(shop: &Workshop, number: &str) {
    let table = tables::find(number).unwrap();
    let [markdown, page] = ["md", "html"].map(|ending| read(shop, &format!("out/table-{number}.{ending}")));
    for text in [&markdown, &page] {
        assert!(text.contains("Stand-in encoders with random weights, two iterations"), "{text}");
    }
    let csv = read(shop, &format!("out/table-{number}.csv"));
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(&csv.headers().unwrap()[6], "stand-in");
    let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), table.rows.len() * table.metrics.len(), "Table {number}");
    for (row, lines) in table.rows.iter().zip(lines.chunks(table.metrics.len())) {
        assert!(markdown.contains(&row.name) && page.contains("published"), "Table {number}: {}", row.name);
        // The tiny data sets have two classes each.
        let present = match row.data {
            DataSet::Visa => ["candle", "pcb4"],
            DataSet::RealIad => ["audiojack", "zipper"],
            _ => ["bottle", "screw"],
        };
        let computed = row.method.is_none() && row.class.as_deref().is_none_or(|class| present.contains(&class));
        for (line, published) in lines.iter().zip(&row.published) {
            let said = format!("Table {number}, {}: {line:?}", row.name);
            assert_eq!(line[4].parse::<f64>().ok(), Some(*published).filter(|value| !value.is_nan()), "{said}");
            let found = line[6].parse::<f64>();
            assert_eq!(found.is_ok(), computed, "{said}");
            assert!(found.is_err() || (0.0..=100.0).contains(&found.unwrap()), "{said}");
        }
    }
}

#[test]
fn a_table_runs_from_end_to_end_and_goes_on() {
    let shop = Workshop::new();
    photos(&shop, "mvtec", ["bottle", "screw"]);
    let line = "reproduce A10 A14 --data @mvtec --out @out --stand-in";
    let text = shop.succeed(shop.command(line));
    assert!(text.contains("Table A10: Scaling of ViTAD on MVTec-AD (6 of 6 rows)"), "{text}");
    assert!(text.contains("cell 7 of 7: ") && text.contains("is no result"), "{text}");
    ["A10", "A14"].iter().for_each(|number| check_table(&shop, number));
    let markdown = read(&shop, "out/table-A14.md");
    assert!(markdown.contains("Found: means over 2 classes of MVTec-AD, which has 15."), "{markdown}");
    let text = shop.succeed(shop.command(&line.replace("A10", "5")));
    assert!(text.contains("cell 2 of 3") && !text.contains("cell 3 of 3"), "the default is trained already: {text}");
    check_table(&shop, "5");

    // Real encoders never stand beside random ones, and none is here.
    let error = shop.refuse(shop.command("reproduce A14 --data @mvtec --out @out"));
    assert!(error.contains("out holds runs with stand-in encoders (stand-in mvtec"), "{error}");
    assert!(error.ends_with("and these have real encoders: name another --out"), "{error}");
    let mut absent = shop.command("reproduce A1 A9 --data @mvtec --out @real");
    absent.env("HF_HOME", shop.path("empty"));
    let output = absent.output().unwrap();
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let fetch = "dinov2-base has not been fetched: run `dinomaly backbone fetch dinov2-base` first";
    assert!(text.contains(fetch) && text.contains("ibot-base is not on the hub: download"), "{text}");
    assert!(text.contains("RD4AD + NB + LL: RD4AD is not computed here"), "{text}");
    assert!(error.contains("no row of Table A1, A9 can be computed"), "{error}");
    assert_eq!(output.status.code(), Some(1));
}

/// A folder of someone else in the place of a model fails that row alone.
#[test]
fn a_row_that_fails_does_not_lose_the_others() {
    let shop = Workshop::new();
    photos(&shop, "mvtec", ["bottle", "screw"]);
    shop.succeed(shop.command("reproduce A5 --data @mvtec --rows 0.1 --out @out --stand-in"));
    let place = shop.path("out/models/stand-in-mvtec-dinov2-reg-base-dropout-0-4-seed-1");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("precious.txt"), "x").unwrap();
    let mut command = shop.command("reproduce A5 --data @mvtec --rows 0.1,0.4,0.5 --out @out --stand-in");
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("dropout 0.4 seed 1 failed; the others go on: "), "{error}");
    let failed = "dinomaly: 1 of 3 cells failed (stand-in mvtec dinov2-reg-base dropout 0.4 seed 1; the same command";
    assert!(error.contains(failed), "{error}");
    let markdown = read(&shop, "out/table-A5.md");
    assert_eq!(markdown.matches("| stand-in |").count(), 2, "{markdown}");
    assert!(markdown.contains("- Not computed: 0 (noiseless), 0.2, 0.3: not asked for (--rows)."), "{markdown}");
    fs::remove_dir_all(&place).unwrap();
    let text = shop.succeed(shop.command("reproduce A5 --data @mvtec --rows 0.1,0.4,0.5 --out @out --stand-in"));
    assert_eq!(text.lines().filter(|line| line.starts_with("cell ")).count(), 1, "{text}");
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    let shop = Workshop::new();
    for (options, expected) in [
        ("7 --data @data", "the paper has no Table 7: expected 1 to 5 or A1 to A19"),
        ("3 --data @nowhere", "nowhere cannot be opened"),
        ("3 --data @data --rows XX", "there is no row XX: the rows are none, NB, LA, LC, LL"),
        ("1 --data @data", "does not say of which data set: expected --data mvtec="),
        ("1 --data mpdd=x", "x cannot be opened"),
    ] {
        let error = shop.refuse(shop.command(&format!("reproduce {options} --out @out")));
        assert!(error.contains(expected), "{options}: {error}");
        assert!(!shop.path("out").exists(), "{options}");
    }
    let text = shop.succeed(shop.command("reproduce --list"));
    assert!(text.contains("A12") && text.contains("Figure 3: "), "{text}");
}

/// Every table of the paper on every data set. `tests/reproduce.sh` runs it.
#[test]
#[ignore = "minutes"]
fn every_plan_yields_its_table() {
    let shop = Workshop::new();
    photos(&shop, "mvtec", ["bottle", "screw"]);
    photos(&shop, "mpdd", ["connector", "tubes"]);
    photos(&shop, "uni-medical", ["brain", "liver"]);
    btad(&shop);
    visa(&shop);
    real_iad(&shop);
    let sets = ["mvtec", "visa", "real-iad", "mpdd", "btad", "uni-medical"];
    let data: String = sets.iter().map(|set| format!(" --data {set}={}", shop.path(set).display())).collect();
    let numbers: Vec<&str> = tables::all().iter().map(|table| table.number).collect();
    // A9 has other methods' rows alone: with the others its table is written, too.
    let line = format!("reproduce {}{data} --out @out --stand-in", numbers.join(" "));
    let begun = std::time::Instant::now();
    let text = shop.succeed(shop.command(&line));
    let cells = text.lines().filter(|line| line.starts_with("cell ")).count();
    eprintln!("{cells} trainings with their evaluations in {:.0} s", begun.elapsed().as_secs_f64());
    assert!(cells > 100, "{cells}");
    numbers.iter().for_each(|number| check_table(&shop, number));
}

#[test]
fn a_model_is_compared_with_the_paper_by_class() {
    let shop = Workshop::new();
    photos(&shop, "mvtec", ["bottle", "screw"]);
    shop.succeed(shop.command(
        "train @mvtec --backbone @encoder.safetensors --out @model --resize 72 --crop 64 --batch 4 --iterations 2",
    ));
    let output = shop.command("verify-model @model --data @mvtec").output().unwrap();
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        text.contains("bottle is off by more than 1: ") && text.contains("not evaluated: cable, capsule"),
        "{text}"
    );
    assert!(error.contains("rows of MVTec-AD are off by more than 1 points: "), "{error}");
    let text = shop.succeed(shop.command("verify-model @model --data @mvtec --tolerance 100 --dataset mvtec"));
    assert!(text.ends_with("every class is within 100 points of the paper's figures\n"), "{text}");
    let error = shop.refuse(shop.command("verify-model @model --data @data"));
    assert!(error.contains("are not those of one data set with figures by class: name it by --dataset"), "{error}");
}
