//! Small models, published, assembled to a site, served by the program's own server.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};

use candle_core::Device;
use dinomaly::model_dir;
use dinomaly::publish;
use dinomaly::site;
use dinomaly::site::Modules;
use dinomaly::site::serve::Server;
use dinomaly_core::bundle::Model;
use dinomaly_core::detector::{Detection, Detector};
use dinomaly_core::executors::candle::Candle;
use dinomaly_core::model::config::{EncoderConfig, ModelConfig};
use dinomaly_core::ops::Read;
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor};
use dinomaly_core::quant::quantize;

use futures_channel::oneshot;
use pollster::block_on;
use tempfile::TempDir;

use crate::random;

/// Models of this folder name, in the order in which the page offers them: two that share their encoder, and the first
/// one's weights in int8.
pub const MODELS: [&str; 3] = ["screws", "nuts", "screws in int8"];

/// A site in a folder of its own, below a path with a blank, on a server of its own.
pub struct Site {
    /// The server's root.
    root: TempDir,
    /// Address of the page.
    pub url: String,
    /// Stops the server, which is gone with the site, too.
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Site {
    /// The site of [`MODELS`].
    pub fn unaltered() -> Self {
        Self::altered(|_| ())
    }

    /// The same after something was done to its folder.
    pub fn altered(alter: impl FnOnce(&Path)) -> Self {
        Self::filled(|folder| {
            copy(pristine(), folder);
            alter(folder);
        })
    }

    /// The site of model folders, with samples of a folder.
    pub fn of(models: &[PathBuf], samples: Option<&Path>) -> Self {
        Self::filled(|folder| {
            let samples = samples.map(|folder| site::read_samples(folder).unwrap()).unwrap_or_default();
            site::write(folder, models, &[], &samples, modules()).unwrap();
        })
    }

    /// The site of an encoder alone, by file or as `dinomaly site --encoder` names it.
    pub fn of_encoder(encoder: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let published = folder.path().join("encoder");
        publish::encoder(encoder, &published).unwrap();
        Self::filled(|folder| {
            site::write(folder, &[], &[published], &[], modules()).unwrap();
        })
    }

    /// The site of one of [`MODELS`].
    pub fn with(name: &str) -> Self {
        Self::filled(|folder| write(folder, name))
    }

    fn filled(fill: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("index.html"), "not the page").unwrap();
        let folder = root.path().join("some/sub path");
        fill(&folder);
        let mut site = Self { root, url: String::new(), serving: None };
        site.serve(0);
        site
    }

    fn serve(&mut self, port: u16) {
        let server = Server::bind(self.root.path(), None, port).unwrap();
        self.url = format!("{}some/sub%20path/", server.url());
        let (stop, stopped) = oneshot::channel();
        let serving = thread::spawn(move || server.run_until(async { stopped.await.unwrap_or_default() }));
        self.serving = Some((stop, serving));
    }

    /// Stops the server.
    pub fn stop(&mut self) {
        let (stop, serving) = self.serving.take().unwrap();
        stop.send(()).unwrap();
        serving.join().unwrap();
    }

    /// Serves the site of another one of [`MODELS`] under the same address.
    pub fn change(&mut self, name: &str) {
        self.stop();
        write(&self.folder(), name);
        let port = self.url.split([':', '/']).find_map(|part| part.parse().ok()).unwrap();
        self.serve(port);
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.root.path().join("some/sub path")
    }
}

/// Writes the site of one of [`MODELS`].
pub fn write(folder: &Path, name: &str) {
    let model = pristine().with_file_name(name);
    site::write(folder, &[model], &[], &[], modules()).unwrap();
}

/// Lines put before the worker's own: how a test gets at what only the worker sees.
pub fn before_worker(folder: &Path, lines: &str) {
    // Imports are carried out first whatever the order, but nothing of the worker runs before its first message.
    before(&folder.join("worker.js"), lines);
}

/// Lines put before those of a module of the page.
pub fn before(path: &Path, lines: &str) {
    let own = fs::read_to_string(path).unwrap();
    fs::write(path, format!("{lines}\n{own}")).unwrap();
}

/// Files of the site's models that hold tensors, in the order of their names.
pub fn shards(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("files")).unwrap().map(|entry| entry.unwrap().path());
    let mut shards: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    shards.sort();
    shards
}

/// One of [`MODELS`] on candle, as natively.
pub fn detector(name: &str) -> Detector<Candle<'static>> {
    Detector::new(Candle::infer(Device::Cpu), &model(name)).unwrap()
}

/// What the native detector says about a photo.
pub fn detect<O: Read>(detector: &Detector<O>, photo: &Photo) -> Detection {
    block_on(detector.detect(std::slice::from_ref(photo))).unwrap().remove(0)
}

/// A model with arbitrary weights, of a geometry that leaves a border uncovered. Encoders of all models are alike, heads
/// differ but for the int8 copy.
pub fn model(name: &str) -> Model {
    let encoder = EncoderConfig { num_register_tokens: 2, ..EncoderConfig::vit(48, 3, 14, 5) };
    let config = ModelConfig::published(encoder).unwrap();
    let mut weights = random::weights(&config, 7, if name.starts_with("screws") { 7 } else { 8 }).unwrap();
    if name.ends_with("int8") {
        weights = quantize(&weights).unwrap().0;
    }
    let preprocessor = Preprocessor::imagenet(Geometry { resize: 112, crop: 98 });
    random::model(name, config, preprocessor, weights).unwrap()
}

/// The site of [`MODELS`], assembled once.
fn pristine() -> &'static Path {
    static SITE: OnceLock<TempDir> = OnceLock::new();
    let folder = SITE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let models = MODELS.map(|name| {
            let path = folder.path().join(name);
            model_dir::write(&path, &model(name)).unwrap();
            path
        });
        site::write(&folder.path().join("site"), &models, &[], &[], modules()).unwrap();
        folder
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder.path().join("site"))
}

/// The page's modules, built once.
pub fn modules() -> &'static Modules {
    static MODULES: OnceLock<Modules> = OnceLock::new();
    MODULES.get_or_init(|| Modules::find(None).unwrap())
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
