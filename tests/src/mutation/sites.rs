//! Folders that say of themselves that they are a site, and may be replaced: their lists changed, and the list's hash set right.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly::site::own::OWNER;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Choices, Outcome, json, outcome};

/// A file that no site has, and its content. Some changed texts are this name, which is also how its SHA-256 begins.
const FOREIGN: (&str, &[u8]) = ("0", b"mine 59");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn site(choices: &mut Choices, folder: &Path) -> Outcome {
    let content = b"content";
    let hash = Sha256::digest(content);
    let manifest = format!("files/{}.json", hex(&hash));
    let wasm = format!("wasm/cpu_bg.wasm?{}", &hex(&hash)[..16]);
    let mut index = json!({
        "version": 2,
        "modules": { "cpu": { "glue": "wasm/cpu.js?1", "wasm": wasm, "bytes": content.len() } },
        "models": [{ "id": "1", "manifest": manifest, "files": { "README.md": manifest } }],
        "samples": [],
    });
    let listed = |bytes: &[u8]| json!(format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(bytes))));
    let mut list = json!({ "version": "1", "files": {
        "index.html": listed(content), "wasm/cpu.js?1": listed(content), "models.json": listed(b""),
    } });
    let of_index = choices.one_in(2);
    if of_index {
        json::change(choices, &mut index);
    }
    let index = index.to_string();
    list["files"]["models.json"] = listed(index.as_bytes());
    if !of_index {
        json::change(choices, &mut list);
    }
    // What the reader before this one left.
    let _ = fs::remove_dir_all(folder);
    let foreign = choices.one_in(2);
    let files = ["index.html", "wasm/cpu.js", "wasm/cpu_bg.wasm", &manifest].map(|name| (name, &content[..]));
    for name in ["wasm", "files", "samples"] {
        fs::create_dir_all(folder.join(name)).expect("a temporary folder");
    }
    let script = format!("const SITE = {list};");
    let lists = [("models.json", index.as_bytes()), ("offline.js", script.as_bytes())];
    for (name, bytes) in files.into_iter().chain(lists).chain(foreign.then_some(FOREIGN)) {
        fs::write(folder.join(name), bytes).expect("a temporary file");
    }
    let checked = OWNER.check(folder);
    assert!(!foreign || checked.is_err(), "a foreign file counts as the site's: {index} {list}");
    outcome(true, checked.map_err(|error| format!("{error:#}")))
}
