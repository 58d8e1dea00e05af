//! Every number of a valid file at its extremes: read or refused in a sentence, at once and without much memory. Random damage never
//! finds these.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use dinomaly::encoders::backbone;
use dinomaly_core::Model;
use dinomaly_core::bundle::MANIFEST;
use dinomaly_tests::fixtures;
use dinomaly_tests::mutation::{Choices, Outcome, READERS, Reader};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Longest time of one file. Checking hashes of the whole model is a tenth of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most memory that refusing may take, in bytes.
const MEMORY: u64 = 1 << 30;

/// Pointers of all numbers in a JSON value.
fn numbers(value: &Value, here: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(here.to_owned()),
        // The first, the second and the last of a list stand for all.
        Value::Array(items) => {
            let chosen = [0, 1, items.len().saturating_sub(1)];
            let items = items.iter().enumerate().filter(|(i, _)| chosen.contains(i));
            items.for_each(|(i, item)| numbers(item, &format!("{here}/{i}"), found));
        }
        Value::Object(entries) => entries.iter().for_each(|(key, item)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            numbers(item, &format!("{here}/{key}"), found);
        }),
        _ => {}
    }
}

fn extremes() -> [Value; 12] {
    [
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(255),
        json!(65_537),
        json!(1_000_000_000),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e308),
        json!(-0.5),
    ]
}

/// Runs a reader, which must end soon, and says whether it accepted.
fn timed(what: &str, read: impl FnOnce() -> Result<(), String>) -> bool {
    let begun = Instant::now();
    let outcome = read();
    assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", begun.elapsed());
    if let Err(error) = &outcome {
        assert!(!error.contains('\n') && error.len() < 2000, "{what}: {error}");
    }
    outcome.is_ok()
}

/// Largest memory of this process so far, where the system tells it.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default() << 10
}

#[test]
fn numbers_of_a_model_folder() {
    let entries = fs::read_dir(fixtures("released/format-1/model-int8")).unwrap().map(Result::unwrap);
    let files: BTreeMap<String, Vec<u8>> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    let read = |files: &BTreeMap<String, Vec<u8>>| {
        let fetch = |name: &str| files.get(name).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        Model::read(fetch).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(read(&files), Ok(()));
    let before = peak();
    let (mut tried, mut accepted) = (0, 0);
    for name in files.keys().filter(|name| name.ends_with(".json")) {
        let original: Value = serde_json::from_slice(&files[name]).unwrap();
        let mut found = Vec::new();
        numbers(&original, "", &mut found);
        assert!(name == "self_test.json" || !found.is_empty(), "{name} has no numbers");
        for pointer in found {
            for extreme in extremes() {
                let mut changed = original.clone();
                *changed.pointer_mut(&pointer).unwrap() = extreme.clone();
                let bytes = serde_json::to_vec(&changed).unwrap();
                let mut files = files.clone();
                if name != MANIFEST {
                    let mut manifest: Value = serde_json::from_slice(&files[MANIFEST]).unwrap();
                    let entries = manifest["files"].as_array_mut().unwrap();
                    let entry = entries.iter_mut().find(|entry| entry["name"] == name.as_str()).unwrap();
                    entry["bytes"] = json!(bytes.len());
                    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    entry["sha256"] = json!(hash);
                    files.insert(MANIFEST.into(), serde_json::to_vec(&manifest).unwrap());
                }
                files.insert(name.clone(), bytes);
                tried += 1;
                accepted += usize::from(timed(&format!("{name} {pointer} = {extreme}"), || read(&files)));
            }
        }
    }
    println!("{tried} files, {accepted} of them read");
    assert!(tried > 300 && accepted > 0, "{tried} tried, {accepted} accepted");
    assert!(peak() - before < MEMORY, "{} MB more", (peak() - before) >> 20);
}

#[test]
fn numbers_of_a_safetensors_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let released = fixtures("released/format-1");
    let mut shards = walk(&released);
    shards.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    shards.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let bytes = fs::read(shards.first().expect("a small shard")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut found = Vec::new();
    numbers(&header, "", &mut found);
    found.truncate(60);
    let before = peak();
    for pointer in &found {
        for extreme in extremes() {
            let mut changed = header.clone();
            *changed.pointer_mut(pointer).unwrap() = extreme.clone();
            let text = serde_json::to_vec(&changed).unwrap();
            let file = [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[8 + length..]].concat();
            fs::write(&path, file).unwrap();
            timed(&format!("{pointer} = {extreme}"), || {
                backbone::read(&path, Some(2)).map(drop).map_err(|error| format!("{error:#}"))
            });
        }
    }
    // Block numbers are numbers, too.
    let text = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    for number in ["99", "1000000000", "18446744073709551615", "99999999999999999999"] {
        let text = text.replace("blocks.0.", &format!("blocks.{number}."));
        let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[8 + length..]].concat();
        fs::write(&path, file).unwrap();
        let read = || backbone::read(&path, Some(2)).map(drop).map_err(|error| format!("{error:#}"));
        assert!(!timed(&format!("block {number}"), read));
    }
    assert!(peak() - before < MEMORY, "{} MB more", (peak() - before) >> 20);
}

/// A few of the files of `--bin mutations`, which tries many.
#[test]
fn changed_files_reach_the_code_behind_the_first_parser() {
    for reader in READERS {
        let folder = tempfile::tempdir().unwrap();
        let outcomes: Vec<Outcome> = (0..300)
            .map(|number| {
                let own = folder.path().join(number.to_string());
                fs::create_dir(&own).unwrap();
                (reader.attempt)(&mut Choices::random(number), &own)
            })
            .collect();
        let count = |outcome: Outcome| outcomes.iter().filter(|&&found| found == outcome).count();
        let (unparsed, read) = (count(Outcome::Unparsed), count(Outcome::Read));
        assert!(unparsed < 210, "{}: {unparsed} of 300 are refused by {}", reader.name, reader.first);
        assert!(read > 0 && read < 300, "{}: {read} of 300 are read", reader.name);
    }
}

#[test]
fn every_reader_of_changed_files_is_fuzzed() {
    let fuzz = fixtures("../fuzz");
    let listed = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for Reader { name, .. } in READERS {
        assert!(listed.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
        let target = fs::read_to_string(fuzz.join(format!("targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("run(\"{name}\", bytes)")), "{target}");
    }
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
