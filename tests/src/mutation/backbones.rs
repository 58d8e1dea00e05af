//! Checkpoints: safetensors with a changed header, PyTorch's archives with a changed pickle, folders of Hugging Face with changed JSON.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dinomaly::encoders::{backbone, import};
use dinomaly_core::model::config::{DecoderConfig, ModelConfig};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::{Choices, Outcome, json, outcome};
use crate::fixtures;

/// Numbers of attention heads: mostly that of the seeds.
const HEADS: [Option<usize>; 5] = [Some(2), Some(2), Some(2), Some(3), None];

/// Header and tensors of a safetensors file.
pub type Safetensors = (Value, Vec<u8>);

fn seeds(ending: &str) -> Vec<Vec<u8>> {
    let folders = ["foundations", "backbones"].map(|name| fs::read_dir(fixtures(name)).expect("fixtures are there"));
    let mut files: Vec<PathBuf> = folders.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending) && !path.to_string_lossy().contains("expected"));
    files.sort();
    files.iter().map(|path| fs::read(path).expect("fixtures can be read")).collect()
}

pub fn taken_apart(bytes: &[u8]) -> Safetensors {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).expect("a header"), bytes[8 + length..].to_vec())
}

pub fn put_together((header, tensors): &Safetensors) -> Vec<u8> {
    let header = serde_json::to_vec(header).expect("JSON");
    [&(header.len() as u64).to_le_bytes()[..], &header, tensors].concat()
}

fn read(path: &Path, heads: Option<usize>) -> Result<(), String> {
    backbone::read(path, heads).map(drop).map_err(|error| format!("{error:#}"))
}

pub fn safetensors(choices: &mut Choices, folder: &Path) -> Outcome {
    static SEEDS: LazyLock<Vec<Safetensors>> =
        LazyLock::new(|| seeds(".safetensors").iter().map(|bytes| taken_apart(bytes)).collect());
    let mut file = choices.pick(&SEEDS).clone();
    json::change(choices, &mut file.0);
    if choices.one_in(8) {
        let length = choices.below(file.1.len());
        file.1.truncate(length);
    }
    let path = folder.join("encoder.safetensors");
    fs::write(&path, put_together(&file)).expect("a temporary file");
    outcome(file.0.is_object(), read(&path, *choices.pick(&HEADS)))
}

/// Entries of an archive, by name.
type Archive = Vec<(String, Vec<u8>)>;

pub fn pth(choices: &mut Choices, folder: &Path) -> Outcome {
    static SEEDS: LazyLock<Vec<Archive>> = LazyLock::new(|| {
        let mut files = seeds(".pth");
        files.extend(seeds(".ckpt"));
        files.iter().filter_map(|bytes| unpacked(bytes)).collect()
    });
    if choices.one_in(6) {
        return legacy(choices, folder);
    }
    let (path, parsed) = changed_archive(choices, &SEEDS, folder);
    outcome(parsed, read(&path, *choices.pick(&HEADS)))
}

/// A file from before PyTorch 1.6: numbers and opcodes of its five pickles changed, or numbers of values before its storages.
fn legacy(choices: &mut Choices, folder: &Path) -> Outcome {
    static SEED: LazyLock<Vec<u8>> =
        LazyLock::new(|| fs::read(fixtures("backbones/legacy.pth")).expect("fixtures can be read"));
    let mut file = SEED.clone();
    let mut parsed = true;
    for _ in 0..choices.changes() {
        if choices.one_in(4) {
            // Not of the first bytes, which tell the format.
            let at = 9 + choices.below(file.len() - 9);
            file[at] = choices.below(256) as u8;
            parsed = false;
        } else {
            change_number(choices, &mut file[9..]);
        }
    }
    if choices.one_in(8) {
        let length = 9 + choices.below(file.len() - 9);
        file.truncate(length);
    }
    let path = folder.join("encoder.pth");
    fs::write(&path, file).expect("a temporary file");
    outcome(parsed, read(&path, *choices.pick(&HEADS)))
}

/// Dinomaly checkpoints of other projects.
pub fn import(choices: &mut Choices, folder: &Path) -> Outcome {
    static SEEDS: LazyLock<Vec<Archive>> =
        LazyLock::new(|| seeds(".ckpt").iter().filter_map(|bytes| unpacked(bytes)).collect());
    let (path, parsed) = changed_archive(choices, &SEEDS, folder);
    let imported = import::read(&path, *choices.pick(&HEADS), |encoder, _| {
        let mut config = ModelConfig::with_decoder(encoder.clone(), DecoderConfig::published(&encoder, 2));
        (config.target_layers, config.groups) = (vec![1, 2], vec![vec![0], vec![1]]);
        Ok(config)
    });
    outcome(parsed, imported.map(drop).map_err(|error| format!("{error:#}")))
}

/// A changed archive, and whether its pickle consists of opcodes still.
fn changed_archive(choices: &mut Choices, seeds: &[Archive], folder: &Path) -> (PathBuf, bool) {
    let mut archive = choices.pick(seeds).clone();
    let mut parsed = true;
    let pickle = archive.iter_mut().find(|(name, _)| name.ends_with("data.pkl")).expect("a pickle");
    for _ in 0..choices.changes() {
        if choices.one_in(8) {
            // Any byte: mostly another opcode.
            let at = choices.below(pickle.1.len());
            pickle.1[at] = choices.below(256) as u8;
            parsed = false;
        } else {
            change_number(choices, &mut pickle.1);
        }
    }
    if choices.one_in(6) {
        let at = choices.below(archive.len());
        match choices.below(3) {
            0 => drop(archive.remove(at)),
            1 => archive[at].1.clear(),
            _ => archive[at].0 = archive[choices.below(archive.len())].0.replace('0', "1") + "0",
        }
    }
    let path = folder.join("encoder.pth");
    fs::write(&path, packed(&archive)).expect("a temporary file");
    (path, parsed)
}

/// Replaces an integer of a pickle: its opcodes `K`, `M`, `J` are followed by one, two and four bytes. Texts hold such letters, too,
/// which changes names.
fn change_number(choices: &mut Choices, pickle: &mut [u8]) {
    let width = |byte: u8| match byte {
        b'K' => 1,
        b'M' => 2,
        b'J' => 4,
        _ => 0,
    };
    let places: Vec<usize> = (0..pickle.len()).filter(|&i| width(pickle[i]) > 0 && i + 4 < pickle.len()).collect();
    let at = *choices.pick(&places);
    let value = *choices.pick(&[0i64, 1, 2, -1, 127, 128, 255, 256, 65_535, i64::from(i32::MAX), i64::from(i32::MIN)]);
    let width = width(pickle[at]);
    pickle[at + 1..=at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

/// The entries of an archive; none if the file is older than PyTorch's archives.
fn unpacked(bytes: &[u8]) -> Option<Archive> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let entries = (0..archive.len()).map(|i| {
        let mut entry = archive.by_index(i).ok()?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        Some((entry.name().ok()?.into_owned(), content))
    });
    entries.collect()
}

fn packed(archive: &Archive) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in archive {
        // A second entry of a name is refused by the writer, and left out.
        if writer.start_file(name, SimpleFileOptions::default()).is_ok() {
            writer.write_all(content).expect("memory");
        }
    }
    writer.finish().expect("memory").into_inner()
}

pub fn folder(choices: &mut Choices, folder: &Path) -> Outcome {
    static SEED: LazyLock<Vec<u8>> =
        LazyLock::new(|| fs::read(fixtures("foundations/vit.safetensors")).expect("fixtures can be read"));
    let (header, _) = taken_apart(&SEED);
    let tensors =
        header.as_object().into_iter().flatten().map(|(name, _)| (name.clone(), json!("model-1.safetensors")));
    let index = json!({
        "metadata": { "total_size": SEED.len() },
        "weight_map": Value::Object(tensors.filter(|(name, _)| !name.starts_with("__")).collect()),
    });
    let files = [
        ("model.safetensors.index.json", index),
        ("config.json", json!({ "num_attention_heads": 2, "layer_norm_eps": 1e-6, "hidden_size": 8 })),
        ("preprocessor_config.json", json!({ "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5] })),
    ];
    let changed = choices.below(files.len());
    for (i, (name, mut content)) in files.into_iter().enumerate() {
        if i == changed {
            json::change(choices, &mut content);
        }
        fs::write(folder.join(name), content.to_string()).expect("a temporary file");
    }
    fs::write(folder.join("model-1.safetensors"), &*SEED).expect("a temporary file");
    outcome(true, read(folder, None))
}
