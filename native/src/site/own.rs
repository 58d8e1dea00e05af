//! What a site's own files say of everything in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
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

/// Least number of a hash's digits: fewer would fit files of others by chance, none would fit all.
const DIGITS: usize = 16;

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
    #[serde(default)]
    encoders: Vec<Model>,
    #[serde(default)]
    samples: Vec<IndexedSample>,
}

/// A sample whose path has no hash is in the service worker's list, as on sites of earlier versions.
#[derive(Deserialize)]
struct IndexedSample {
    path: String,
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
        entries.insert(without_query(&path).into(), content(&hex(&hash)).with_context(|| damaged(OFFLINE))?);
    }
    let samples = index.samples.into_iter().map(|sample| sample.path).filter(|path| path.contains('?'));
    for path in index.modules.into_values().map(|module| module.wasm).chain(samples) {
        let hash = path.split_once('?').map_or("", |(_, hash)| hash);
        entries.insert(without_query(&path).into(), content(hash).with_context(|| damaged(INDEX))?);
    }
    let published = index.models.into_iter().chain(index.encoders);
    for path in published.flat_map(|model| model.files.into_values().chain([model.manifest])) {
        let hash = content(&Path::new(&path).file_stem().unwrap_or_default().to_string_lossy());
        entries.insert(path.into(), hash.with_context(|| damaged(INDEX))?);
    }
    Ok(entries)
}

/// The content with this SHA-256, or this beginning of it.
fn content(hash: &str) -> Result<Content> {
    ensure!(hash.len() >= DIGITS, "{hash:?} is no hash");
    Ok(Content::Sha256(hash.into()))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::super::modules::Modules;
    use super::super::page::{MODULE_NAMES, halves};
    use super::super::samples::Sample;
    use super::super::write::write;
    use super::*;
    use crate::synth::Class;
    use crate::system::ownership::tests::check_broken_off_removals;
    use crate::system::ownership::walk;

    #[test]
    fn a_removal_that_was_broken_off_is_finished() {
        let place = tempfile::tempdir().unwrap();
        for half in halves(MODULE_NAMES[0]) {
            fs::write(place.path().join(half), "half").unwrap();
        }
        let (demo, site) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model"), place.path().join("site"));
        let mut photo = std::io::Cursor::new(Vec::new());
        Class::Gear.good(1, "sample", 0, 64).write_to(&mut photo, image::ImageFormat::Png).unwrap();
        let (name, bytes) = ("gear".to_owned(), photo.into_inner());
        let samples = [Sample { name, class: None, truth: None, bytes, extension: "png".into() }];
        let models = std::slice::from_ref(&demo);
        // A site is replaced, its samples too.
        for _ in 0..2 {
            write(&site, models, models, &samples, &Modules::Folder(place.path().into())).unwrap();
        }
        check_broken_off_removals(&OWNER, |folder| {
            fs::create_dir(folder).unwrap();
            for path in walk(&site).unwrap() {
                let (from, to) = (site.join(&path), folder.join(path));
                if from.is_dir() { fs::create_dir(to).unwrap() } else { fs::hard_link(from, to).unwrap() }
            }
        });
    }

    #[test]
    fn a_hash_that_is_cut_makes_nothing_ours() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("notes", "x");
        let check = |index: &str, hash: Option<&str>| {
            let listed = hash.map_or_else(|| BASE64_STANDARD.encode(Sha256::digest(index)), str::to_owned);
            write("models.json", index);
            write("offline.js", &format!(r#"const SITE = {{"files":{{"models.json":"sha256-{listed}"}}}};"#));
            OWNER.check(folder.path()).map_err(|error| error.to_string())
        };
        // The whole hash of the notes.
        let whole = hex(&Sha256::digest("x"));
        let index = |path: &str| format!(r#"{{"modules":{{"cpu":{{"wasm":"{path}"}}}},"models":[]}}"#);
        assert_eq!(check(&index(&format!("notes?{}", &whole[..16])), None), Ok(()));
        for path in ["notes".to_owned(), "notes?".to_owned(), format!("notes?{}", &whole[..2])] {
            let refusal = check(&index(&path), None).unwrap_err();
            assert!(refusal.contains("notes") && refusal.contains("models.json is not a site's"), "{path}: {refusal}");
        }
        let refusal = check(&index(&format!("notes?{whole}")), Some("")).unwrap_err();
        assert!(refusal.contains("offline.js is not a site's"), "{refusal}");
        let other = r#"{"modules":{},"models":[{"manifest":"notes","files":{}}]}"#;
        let refusal = check(other, None).unwrap_err();
        assert!(refusal.contains("models.json is not a site's"), "{refusal}");
    }
}
