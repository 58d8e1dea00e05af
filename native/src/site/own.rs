//! What a site's own files say of everything in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::hash::hex;
use super::page::{INDEX, OFFLINE, without_query};
use crate::system::ownership::{Content, Entries, Owner};

/// A folder is a site if its lists name everything in it, with the hashes.
pub const OWNER: Owner = Owner { what: "a site", manifests: &[INDEX, OFFLINE], list };

/// Before the service worker's list of small files.
const LIST: &str = "const SITE = ";

/// The service worker's list: hashes of small files by the path that the page asks for.
#[derive(Deserialize)]
struct Small {
    files: BTreeMap<String, String>,
}

/// The part of `models.json` that names files.
#[derive(Default, Deserialize)]
struct Index {
    modules: BTreeMap<String, Module>,
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Module {
    wasm: String,
}

#[derive(Deserialize)]
struct Model {
    manifest: String,
    files: BTreeMap<String, String>,
}

fn list(folder: &Path) -> Result<Entries> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("it has no {name}"));
    let damaged = |name: &str| format!("its {name} is not a site's");
    let script = read(OFFLINE)?;
    let list = script.split_once(LIST).map_or("", |(_, list)| list);
    let small = serde_json::Deserializer::from_str(list).into_iter::<Small>().next();
    let small = small.with_context(|| damaged(OFFLINE))?.with_context(|| damaged(OFFLINE))?;
    // Of a removal that was broken off, only the service worker is left at last.
    let index: Index = match folder.join(INDEX).exists() {
        true => serde_json::from_str(&read(INDEX)?).with_context(|| damaged(INDEX))?,
        false => Index::default(),
    };

    let mut entries: Entries = ["wasm", "files", "samples"].map(|name| (name.into(), Content::Folder)).into();
    entries.insert(OFFLINE.into(), Content::Accepted(|_| true));
    for (path, hash) in small.files {
        let base64 = hash.strip_prefix("sha256-").unwrap_or_default();
        let hash = BASE64_STANDARD.decode(base64).with_context(|| damaged(OFFLINE))?;
        entries.insert(without_query(&path).into(), Content::Sha256(hex(&hash)));
    }
    for module in index.modules.into_values() {
        let hash = module.wasm.split_once('?').map_or("", |(_, hash)| hash);
        entries.insert(without_query(&module.wasm).into(), Content::Sha256(hash.into()));
    }
    for path in index.models.into_iter().flat_map(|model| model.files.into_values().chain([model.manifest])) {
        let hash = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        entries.insert(path.into(), Content::Sha256(hash));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::super::modules::Modules;
    use super::super::page::{MODULE_NAMES, halves};
    use super::super::write::write;
    use super::*;
    use crate::system::ownership::tests::check_broken_off_removals;
    use crate::system::ownership::walk;

    #[test]
    fn a_removal_that_was_broken_off_is_finished() {
        let place = tempfile::tempdir().unwrap();
        for half in halves(MODULE_NAMES[0]) {
            fs::write(place.path().join(half), "half").unwrap();
        }
        let (demo, site) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model"), place.path().join("site"));
        write(&site, &[demo], &[], &Modules::Folder(place.path().into())).unwrap();
        check_broken_off_removals(&OWNER, |folder| {
            fs::create_dir(folder).unwrap();
            for path in walk(&site).unwrap() {
                let (from, to) = (site.join(&path), folder.join(path));
                if from.is_dir() { fs::create_dir(to).unwrap() } else { fs::hard_link(from, to).unwrap() }
            }
        });
    }
}
