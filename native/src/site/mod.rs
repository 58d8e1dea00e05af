//! Models → a folder of static files that any web server can offer, under any path.
//!
//! ```text
//! index.html style.css *.js      the page
//! offline.js                     the service worker, with the hashes of all small files
//! wasm/                          the detector
//! models.json                    what there is to choose from
//! files/<sha256>.<extension>     the models' files, each once however many models share it; cached for ever
//! samples/                       photos to try
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dinomaly_core::bundle::{MANIFEST, Manifest};
use dinomaly_core::photo::decode::Photo;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::model_dir;
use crate::site::wasm_build::MODULES;
use crate::system::atomic;

mod own;
pub mod serve;
pub mod wasm_build;

pub use own::OWNER;

/// What tells a site from other folders.
const INDEX: &str = "models.json";

/// Version of `models.json` as the page of this version reads it.
const INDEX_VERSION: u32 = 2;

/// The page. Compiled in, so that a program and its page are always of one version.
const PAGE: &[(&str, &[u8])] = &[
    ("app.js", include_bytes!("../../../web/app.js")),
    ("card.js", include_bytes!("../../../web/card.js")),
    ("detector.js", include_bytes!("../../../web/detector.js")),
    ("dom.js", include_bytes!("../../../web/dom.js")),
    ("download.js", include_bytes!("../../../web/download.js")),
    ("favicon.svg", include_bytes!("../../../web/favicon.svg")),
    ("gallery.js", include_bytes!("../../../web/gallery.js")),
    ("index.html", include_bytes!("../../../web/index.html")),
    ("intake.js", include_bytes!("../../../web/intake.js")),
    ("modules.js", include_bytes!("../../../web/modules.js")),
    ("picture.js", include_bytes!("../../../web/picture.js")),
    ("pool.js", include_bytes!("../../../web/pool.js")),
    ("profile.js", include_bytes!("../../../web/profile.js")),
    ("style.css", include_bytes!("../../../web/style.css")),
    ("types.js", include_bytes!("../../../web/types.js")),
    ("visits.js", include_bytes!("../../../web/visits.js")),
    ("worker.js", include_bytes!("../../../web/worker.js")),
];

/// The service worker, which keeps the page for visits without a request.
const OFFLINE: (&str, &str) = ("offline.js", include_str!("../../../web/offline.js"));

/// The line of it in whose place the site's own list comes.
const NO_SITE: &str = "const SITE = { version: '', files: {} };";

/// A photo to try.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is written below it.
    pub name: String,
    /// The product on it, where that is known.
    pub class: Option<String>,
    /// Content of its file.
    pub bytes: Vec<u8>,
    /// Of its file, without the dot.
    pub extension: String,
}

/// `models.json`.
#[derive(Serialize)]
struct Index<'a> {
    version: u32,
    /// What computes, by device: `gpu` and `cpu`.
    modules: BTreeMap<&'static str, IndexedModule>,
    models: Vec<IndexedModel>,
    samples: Vec<IndexedSample<'a>>,
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
    path: String,
}

/// How large a site is.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Files of all kinds.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

/// Writes a site of these model folders, in the order in which they are offered, with the page's modules from `wasm`. An
/// earlier site in the same place is replaced in one step.
///
/// # Errors
/// Naming the model or file that cannot be used; if something else than a site stands at `out`, or it cannot be written.
/// What was there is unchanged then.
pub fn write(out: &Path, models: &[PathBuf], samples: &[Sample], wasm: &Path) -> Result<Written> {
    check(out, models)?;
    atomic::replace_folder(out, &OWNER, |folder| fill(folder, models, samples, wasm))
        .with_context(|| format!("the site {} was not written", out.display()))?;
    measure(out)
}

/// Checks that a site of these models can be written, before the page's modules are built for minutes.
///
/// # Errors
/// As [`write()`].
pub fn check(out: &Path, models: &[PathBuf]) -> Result<()> {
    if models.is_empty() {
        bail!("a site needs at least one model");
    }
    models.iter().try_for_each(|model| model_dir::read(model).map(drop))?;
    OWNER.check(out)?;
    atomic::check_folder(out)
}

fn fill(folder: &Path, models: &[PathBuf], samples: &[Sample], wasm: &Path) -> Result<()> {
    for name in ["wasm", "files", "samples"] {
        fs::create_dir(folder.join(name)).with_context(|| format!("folder {name} cannot be made"))?;
    }
    for (name, bytes) in PAGE {
        atomic::write_new(folder, name, bytes)?;
    }
    let mut small: Vec<String> = PAGE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let modules = MODULES.map(|module| {
        let (glue, _) = add_half(folder, wasm, module.glue)?;
        let (wasm, bytes) = add_half(folder, wasm, module.wasm)?;
        Ok((module.name, IndexedModule { glue, wasm, bytes }))
    });
    let modules = modules.into_iter().collect::<Result<BTreeMap<_, _>>>()?;
    small.extend(modules.values().map(|module| module.glue.clone()));
    let models = models.iter().map(|model| add_model(folder, model)).collect::<Result<Vec<_>>>()?;
    let mut indexed = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let path = format!("samples/{:03}.{}", i + 1, sample.extension);
        atomic::write_new(folder, &path, &sample.bytes)?;
        small.push(path.clone());
        indexed.push(IndexedSample { name: &sample.name, class: sample.class.as_deref(), path });
    }
    let index = Index { version: INDEX_VERSION, modules, models, samples: indexed };
    atomic::write_new(folder, INDEX, &serde_json::to_vec_pretty(&index)?)?;
    small.push(INDEX.to_owned());
    atomic::write_new(folder, OFFLINE.0, service_worker(folder, &small)?.as_bytes())
}

/// The service worker of a site that is written already but for it: lists these files, as the page asks for them, with the
/// hashes of their content as browsers check it. So it changes with any of them, which is how browsers notice a newer site.
fn service_worker(folder: &Path, small: &[String]) -> Result<String> {
    let mut files = BTreeMap::new();
    for path in small {
        let file = folder.join(own::without_query(path));
        let bytes = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        files.insert(path, format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(&bytes))));
    }
    // With its own script: another one keeps its files in another cache.
    let version = &hash(&serde_json::to_vec(&(OFFLINE.1, &files))?)[..16];
    let site = serde_json::to_string_pretty(&json!({ "version": version, "files": files }))?;
    let (before, after) = OFFLINE.1.split_once(NO_SITE).context("offline.js has no place for the list of files")?;
    Ok(format!("{before}const SITE = {site};{after}"))
}

/// Copies one of a module's two halves: its path on the site and its size.
fn add_half(folder: &Path, wasm: &Path, name: &str) -> Result<(String, u64)> {
    let path = wasm.join(name);
    let bytes = fs::read(&path)
        .with_context(|| format!("{} cannot be read: --wasm needs a folder of the page's modules", path.display()))?;
    atomic::write_new(folder, &format!("wasm/{name}"), &bytes)?;
    Ok((format!("wasm/{name}?{}", &hash(&bytes)[..16]), bytes.len() as u64))
}

/// Copies a model's files to where their content belongs.
fn add_model(folder: &Path, model: &Path) -> Result<IndexedModel> {
    let manifest = model_dir::read_manifest(model)?;
    let mut files = BTreeMap::new();
    for name in manifest.files.iter().map(|file| file.name.as_str()) {
        files.insert(name.to_owned(), add_file(folder, model, name)?.0);
    }
    let (path, id) = add_file(folder, model, MANIFEST)?;
    let bytes = manifest.total_bytes();
    let Manifest { name, classes, .. } = manifest;
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

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Photos of a folder, in the order of their names; those in its folders are of the class that the folder is named after.
///
/// # Errors
/// If it cannot be read, or a file in it is no photo.
pub fn read_samples(folder: &Path) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for entry in sorted(folder)? {
        if entry.is_dir() {
            let class = file_name(&entry);
            for path in sorted(&entry)?.into_iter().filter(|path| path.is_file()) {
                samples.push(read_sample(&path, Some(class.clone()))?);
            }
        } else {
            samples.push(read_sample(&entry, None)?);
        }
    }
    Ok(samples)
}

fn read_sample(path: &Path, class: Option<String>) -> Result<Sample> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Photo::decode(&path.display().to_string(), &bytes)?;
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    Ok(Sample { name: part(path.file_stem()), class, bytes, extension: part(path.extension()).to_lowercase() })
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("the samples' folder {} cannot be read", folder.display());
    let entries = fs::read_dir(folder).with_context(cannot)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(cannot)?;
    paths.retain(|path| !file_name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
    fn the_page_is_compiled_in_as_a_whole() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
        let on_disk: Vec<String> = sorted(&web)
            .unwrap()
            .iter()
            .map(|path| file_name(path))
            .filter(|name| !["README.md", "screenshot.png"].contains(&name.as_str()))
            .collect();
        let mut compiled_in: Vec<&str> = PAGE.iter().map(|(name, _)| *name).chain([OFFLINE.0]).collect();
        compiled_in.sort_unstable();
        assert_eq!(compiled_in, on_disk);
    }

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
        let error = format!("{:#}", write(&out, &[], &[], folder.path()).unwrap_err());
        assert!(error.contains("at least one model"), "{error}");
        let error = format!("{:#}", write(&out, &[missing], &[], folder.path()).unwrap_err());
        assert!(error.contains("no-model cannot be used"), "before the modules are asked for: {error}");
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let error = format!("{:#}", write(&out, &[demo], &[], folder.path()).unwrap_err());
        assert!(error.contains("gpu.js") && error.contains("--wasm"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn samples_are_found_with_their_class() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("gear")).unwrap();
        for name in ["b.PNG", "gear/broken tooth.png"] {
            image::RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join(".hidden"), "").unwrap();
        let samples = read_samples(folder.path()).unwrap();
        let found: Vec<_> =
            samples.iter().map(|s| (s.name.as_str(), s.class.as_deref(), s.extension.as_str())).collect();
        assert_eq!(found, [("b", None, "png"), ("broken tooth", Some("gear"), "png")]);
        fs::write(folder.path().join("gear/empty.jpg"), "").unwrap();
        let error = read_samples(folder.path()).unwrap_err().to_string();
        assert!(error.contains("gear/empty.jpg"), "{error}");
    }
}
