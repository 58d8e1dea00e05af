//! Folders that hold what the program did not write, as `--out` of every command that writes a folder: nothing in them changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workshop::{Workshop, names};

/// Files of folders that other programs and people make, each with the name that our models or sites use for their list.
const FOREIGN: [&[(&str, &str)]; 15] = [
    &[("src/thesis.tex", "x")],
    &[("manifest.json", r#"{"name":"my web app"}"#), ("src/app.js", "x")],
    &[("manifest.json", r#"{"manifest_version":3,"name":"extension"}"#), ("background.js", "x")],
    &[("manifest.json", "not json"), ("data/1.csv", "x")],
    &[("manifest.json", "")],
    &[("manifest.json/inside", "x")],
    &[("manifest.json", r#"{"format_version":1,"name":"m","classes":[],"files":[]}"#), ("a", "x")],
    &[("manifest.json", r#"{"format_version":2}"#), ("a", "x")],
    &[("models.json", r#"{"version":2}"#), ("index.html", "mine")],
    &[("models.json", r#"{"version":2,"modules":{},"models":[],"samples":[]}"#), ("notes", "x")],
    &[("models.json", "[]"), ("offline.js", "const SITE = { \"files\": {} };"), ("notes", "x")],
    &[
        ("models.json", r#"{"modules":{"cpu":{"wasm":"notes"}},"models":[]}"#),
        ("offline.js", r#"const SITE = {"files":{"models.json":"sha256-"}};"#),
        ("notes", "x"),
    ],
    &[("training.json", r#"{"config":{},"settings":{},"data":""}"#)],
    &[(".git/config", "x")],
    &[("cells/a.json", "{}"), ("table.md", "my table"), ("table.csv", "my table")],
];

/// Changes that make a folder of ours one that holds other things, too.
const HALF_OURS: [fn(&Path); 5] = [
    |folder| fs::write(folder.join("notes.txt"), "my notes").unwrap(),
    |folder| {
        fs::create_dir_all(folder.join("backup/older")).unwrap();
        fs::write(folder.join("backup/older/a.bin"), "x").unwrap();
    },
    |folder| fs::create_dir(folder.join("my photos")).unwrap(),
    |folder| {
        let edited = ["README.md", "index.html"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        fs::write(edited.unwrap(), "edited by hand").unwrap();
    },
    |folder| {
        let list =
            ["manifest.json", "models.json"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        fs::rename(list.unwrap(), folder.join("list.bak")).unwrap();
    },
];

/// Every file and folder below, with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(path).unwrap()));
        }
    }
    found
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn no_command_replaces_what_the_program_did_not_write() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    fake_modules(&shop.path("modules"));
    shop.succeed(shop.command("site @model --wasm @modules --out @site"));
    // What is wholly ours is replaced.
    shop.succeed(shop.command("site @model --wasm @modules --out @site"));
    shop.succeed(shop.command("quantize @model --out @int8"));
    shop.succeed(shop.command("quantize @model --to f16 --out @int8"));
    shop.succeed(shop.train("int8", "--iterations 2 --restart"));
    shop.succeed(shop.train("int8", "--iterations 3 --restart"));

    let mut zoo = Vec::new();
    for (i, files) in FOREIGN.iter().enumerate() {
        let folder = shop.path(&format!("foreign-{i}"));
        for (name, text) in *files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        zoo.push(folder);
    }
    for ours in ["model", "site"] {
        for (i, change) in HALF_OURS.iter().enumerate() {
            let folder = shop.path(&format!("half-{ours}-{i}"));
            copy(&shop.path(ours), &folder);
            change(&folder);
            zoo.push(folder);
        }
    }
    fs::write(shop.path("plan.toml"), format!("data = {:?}\n[[variant]]\nname = \"a\"\n", shop.path("data"))).unwrap();
    let encoder = shop.path("encoder.safetensors").display().to_string();
    for folder in &zoo {
        let before = content(folder);
        let out = folder.file_name().unwrap().to_str().unwrap();
        let commands = [
            shop.command(&format!("quantize @model --out @{out}")),
            shop.command(&format!("calibrate @model @data --out @{out}")),
            shop.command(&format!("import @encoder.safetensors --data @data --out @{out}")),
            shop.train(out, "--iterations 2 --restart"),
            shop.command(&format!("site @model --wasm @modules --out @{out}")),
            shop.command(&format!("ablate @plan.toml --backbone {encoder} --out @{out}")),
            shop.command(&format!("generate @{out} --size 64 --train 1 --good 1 --defective 1")),
        ];
        for command in commands {
            let shown = format!("{command:?}");
            shop.refuse(command);
            assert!(content(folder) == before, "changed by {shown}");
        }
        assert!(!shop.path(&format!("{out}.training")).exists());
    }
    let error = shop.refuse(shop.command("quantize @model --out @half-model-0"));
    let expected = "half-model-0 holds other things than a model (notes.txt); move them away, or name another place";
    assert!(error.contains(expected), "{error}");
}

/// Stand-ins for the page's modules: this test is about folders.
pub fn fake_modules(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for name in dinomaly::site::page::MODULE_NAMES {
        dinomaly::site::page::halves(name).iter().for_each(|half| fs::write(folder.join(half), half).unwrap());
    }
}
