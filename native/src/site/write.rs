//! Writes the folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly_core::bundle::{FileEntry, Kind, MANIFEST, Manifest};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::hash::hash;
use super::modules::Modules;
use super::own::OWNER;
use super::packed::{PACKED, pack};
use super::page::{self, INDEX, MODULE_NAMES, OFFLINE, PAGE, halves, without_query};
use super::samples::{Sample, Truth};
use super::thumbnails::{COLUMNS, thumbnails};
use crate::model_dir;
use crate::system::atomic;

/// Version of `models.json` as the page of this version reads it.
const INDEX_VERSION: u32 = 2;

/// The line of the service worker in whose place the site's own list comes.
const NO_SITE: &str = "const SITE = { version: '', files: {} };";

/// `models.json`.
#[derive(Serialize)]
struct Index<'a> {
    version: u32,
    /// Version of this program, for exported results.
    program: &'static str,
    /// What computes, by name. The demo has the first alone until the others are built.
    modules: BTreeMap<&'static str, IndexedModule>,
    models: Vec<IndexedModel>,
    /// Encoders for detectors that visitors make; their classes are empty. Pages of earlier versions do not know them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    encoders: Vec<IndexedModel>,
    samples: Vec<IndexedSample<'a>>,
    /// Pages that know none show the samples themselves, and so does this one where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnails: Option<IndexedThumbnails>,
}

/// Paths that change with the content: a browser may keep what it fetched from them for ever.
#[derive(Serialize)]
struct IndexedModule {
    glue: String,
    wasm: String,
    /// Size of `wasm`, for the progress bar.
    bytes: u64,
}

#[derive(Serialize)]
struct IndexedModel {
    /// Beginning of the manifest's hash: changes with the model.
    id: String,
    name: String,
    classes: Vec<String>,
    /// Of all files.
    bytes: u64,
    /// Path of the manifest.
    manifest: String,
    /// Paths by name.
    files: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct IndexedSample<'a> {
    name: &'a str,
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<Truth>,
    path: String,
}

/// One picture of all samples, in squares, row by row.
#[derive(Serialize)]
struct IndexedThumbnails {
    path: &'static str,
    /// Squares in a row, if it is a full one.
    columns: u32,
}

const THUMBNAILS: &str = "samples/thumbnails.jpg";

/// How large a site is.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Files of all kinds.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

/// Writes a site of these model folders, in the order in which they are offered, with the page's modules. An
/// earlier site in the same place is replaced in one step. Of `encoders`, folders of
/// [`publish::encoder`](crate::publish::encoder()), all but the head is offered, for detectors that visitors make.
///
/// # Errors
/// Naming the model or file that cannot be used; if something else than a site stands at `out`, or it cannot be written.
/// What was there is unchanged then.
pub fn write(
    out: &Path,
    models: &[PathBuf],
    encoders: &[PathBuf],
    samples: &[Sample],
    modules: &Modules,
) -> Result<Written> {
    check(out, models, encoders)?;
    atomic::replace_folder(out, &OWNER, |folder| fill(folder, models, encoders, samples, modules))
        .with_context(|| format!("the site {} was not written", out.display()))?;
    measure(out)
}

/// Checks that a site of these models can be written, before the page's modules are built for minutes.
///
/// # Errors
/// As [`write()`].
pub fn check(out: &Path, models: &[PathBuf], encoders: &[PathBuf]) -> Result<()> {
    if models.is_empty() && encoders.is_empty() {
        bail!("a site needs at least one model or encoder");
    }
    models.iter().try_for_each(|model| model_dir::read(model).map(drop))?;
    OWNER.check(out)?;
    atomic::check_folder(out)
}

fn fill(folder: &Path, models: &[PathBuf], encoders: &[PathBuf], samples: &[Sample], modules: &Modules) -> Result<()> {
    for name in ["wasm", "files", "samples"] {
        fs::create_dir(folder.join(name)).with_context(|| format!("folder {name} cannot be made"))?;
    }
    let page = PAGE.iter().filter(|(name, _)| *name != OFFLINE);
    let mut small = Vec::new();
    for (name, bytes) in page {
        atomic::write_new(folder, name, bytes)?;
        small.push((*name).to_owned());
    }
    let mut names = modules.names();
    if names.is_empty() {
        // Whose first file is missing then, and named.
        names.push(MODULE_NAMES[0]);
    }
    let mut indexed = BTreeMap::new();
    for name in names {
        let [glue, wasm] = halves(name).map(|half| add_half(folder, modules, &half));
        let ((glue, _), (wasm, bytes)) = (glue?, wasm?);
        indexed.insert(name, IndexedModule { glue, wasm, bytes });
    }
    let modules = indexed;
    small.extend(modules.values().map(|module| module.glue.clone()));
    let models = models.iter().map(|model| add_model(folder, model, |_| true)).collect::<Result<Vec<_>>>()?;
    let without_head = |file: &FileEntry| file.kind != Kind::Head;
    let mut encoders =
        encoders.iter().map(|encoder| add_model(folder, encoder, without_head)).collect::<Result<Vec<_>>>()?;
    encoders.iter_mut().for_each(|encoder| encoder.classes.clear());
    let mut indexed = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let path = format!("samples/{:03}.{}", i + 1, sample.extension);
        atomic::write_new(folder, &path, &sample.bytes)?;
        // The page keeps those that were looked at.
        let path = format!("{path}?{}", &hash(&sample.bytes)[..16]);
        indexed.push(IndexedSample { name: &sample.name, class: sample.class.as_deref(), truth: sample.truth, path });
    }
    let sheet = thumbnails(samples)?;
    if let Some(sheet) = &sheet {
        atomic::write_new(folder, THUMBNAILS, sheet)?;
        small.push(THUMBNAILS.to_owned());
    }
    let thumbnails = sheet.map(|_| IndexedThumbnails { path: THUMBNAILS, columns: COLUMNS });
    let index = Index {
        version: INDEX_VERSION,
        program: env!("CARGO_PKG_VERSION"),
        modules,
        models,
        encoders,
        samples: indexed,
        thumbnails,
    };
    atomic::write_new(folder, INDEX, &serde_json::to_vec_pretty(&index)?)?;
    small.push(INDEX.to_owned());
    atomic::write_new(folder, OFFLINE, service_worker(folder, &small)?.as_bytes())
}

/// The service worker of a site that is written already but for it: lists these files, as the page asks for them, with the
/// hashes of their content as browsers check it. So it changes with any of them, which is how browsers notice a newer site.
fn service_worker(folder: &Path, small: &[String]) -> Result<String> {
    let mut files = BTreeMap::new();
    for path in small {
        let file = folder.join(without_query(path));
        let bytes = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        files.insert(path, format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(&bytes))));
    }
    let script = page::file(OFFLINE).context("the program holds no service worker")?;
    let script = std::str::from_utf8(script)?;
    // With its own script: another one keeps its files in another cache.
    let version = &hash(&serde_json::to_vec(&(script, &files))?)[..16];
    let site = serde_json::to_string_pretty(&json!({ "version": version, "files": files }))?;
    let (before, after) = script.split_once(NO_SITE).context("offline.js has no place for the list of files")?;
    Ok(format!("{before}const SITE = {site};{after}"))
}

/// Copies one of a module's two halves, WebAssembly packed: its path on the site and its size.
fn add_half(folder: &Path, modules: &Modules, name: &str) -> Result<(String, u64)> {
    let bytes = modules.read(name)?;
    let (path, bytes) = match name.ends_with(".wasm") {
        true => (format!("wasm/{name}{PACKED}"), pack(&bytes)?),
        false => (format!("wasm/{name}"), bytes),
    };
    atomic::write_new(folder, &path, &bytes)?;
    Ok((format!("{path}?{}", &hash(&bytes)[..16]), bytes.len() as u64))
}

/// Copies those of a model's files that are wanted to where their content belongs.
fn add_model(folder: &Path, model: &Path, wanted: impl Fn(&FileEntry) -> bool) -> Result<IndexedModel> {
    let Manifest { name, classes, files: listed, .. } = model_dir::read_manifest(model)?;
    let (mut files, mut bytes) = (BTreeMap::new(), 0);
    for file in listed.into_iter().filter(wanted) {
        let (path, _) = add_file(folder, model, &file.name)?;
        files.insert(file.name, path);
        bytes += file.bytes;
    }
    let (path, id) = add_file(folder, model, MANIFEST)?;
    Ok(IndexedModel { id, name, classes, bytes, manifest: path, files })
}

/// Copies one file, unless another model brought it already: its path on the site, and the beginning of its hash.
fn add_file(folder: &Path, model: &Path, name: &str) -> Result<(String, String)> {
    let bytes = fs::read(model.join(name)).with_context(|| format!("{} cannot be read", model.join(name).display()))?;
    let hash = hash(&bytes);
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or("bin");
    let path = format!("files/{hash}.{extension}");
    if !folder.join(&path).exists() {
        atomic::write_new(folder, &path, &bytes)?;
    }
    Ok((path, hash[..16].to_owned()))
}

fn measure(folder: &Path) -> Result<Written> {
    let mut written = Written { files: 0, bytes: 0 };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let below = measure(&entry.path())?;
            written.files += below.files;
            written.bytes += below.bytes;
        } else {
            written.files += 1;
            written.bytes += entry.metadata()?.len();
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_worker_changes_with_each_small_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("wasm")).unwrap();
        fs::write(folder.path().join("index.html"), "a").unwrap();
        fs::write(folder.path().join("wasm/gpu.js"), "b").unwrap();
        let small = ["index.html", "wasm/gpu.js?0123"].map(String::from);
        let written = || service_worker(folder.path(), &small).unwrap();
        let first = written();
        let listed = "\"wasm/gpu.js?0123\": \"sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0=\"";
        assert!(first.contains(listed) && !first.contains(NO_SITE), "{first}");
        assert_eq!(written(), first);
        for name in ["index.html", "wasm/gpu.js"] {
            let before = written();
            fs::write(folder.path().join(name), "c").unwrap();
            assert_ne!(written(), before, "{name}");
        }
        fs::remove_file(folder.path().join("index.html")).unwrap();
        let error = format!("{:#}", service_worker(folder.path(), &small).unwrap_err());
        assert!(error.contains("index.html cannot be read"), "{error}");
    }

    #[test]
    fn a_missing_model_or_module_is_named_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("site");
        let missing = folder.path().join("no-model");
        let modules = Modules::Folder(folder.path().to_owned());
        let error = format!("{:#}", write(&out, &[], &[], &[], &modules).unwrap_err());
        assert!(error.contains("at least one model or encoder"), "{error}");
        let error = format!("{:#}", write(&out, &[missing], &[], &[], &modules).unwrap_err());
        assert!(error.contains("no-model cannot be used"), "before the modules are asked for: {error}");
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let error = format!("{:#}", write(&out, &[demo], &[], &[], &modules).unwrap_err());
        assert!(error.contains("cpu.js") && error.contains("--wasm"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
