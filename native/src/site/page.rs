//! What is in the program: the page, so that both are always of one version, and in an installed program its modules.

// `PAGE`, `MODULES` and `DEMO_MODEL`, written by build.rs.
include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// Name of the list of models, modules and samples. It tells a site from other folders.
pub const INDEX: &str = "models.json";

/// Name of the service worker's file. It keeps the page for visits without a request.
pub const OFFLINE: &str = "offline.js";

/// Names of the page's modules, the one that runs in every browser first: for the processor, for the processor with relaxed
/// SIMD, and for the GPU. Their files are `NAME.js` and `NAME_bg.wasm`.
pub const MODULE_NAMES: [&str; 3] = ["cpu", "relaxed", "gpu"];

/// Content of one of the page's files.
pub fn file(name: &str) -> Option<&'static [u8]> {
    PAGE.iter().find(|(other, _)| *other == name).map(|(_, content)| *content)
}

/// Names of a module's two files: JavaScript's half, and WebAssembly.
pub fn halves(module: &str) -> [String; 2] {
    [format!("{module}.js"), format!("{module}_bg.wasm")]
}

/// A path without what follows a question mark, which only tells browsers that the content changed.
pub fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}
