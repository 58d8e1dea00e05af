//! `dinomaly site`: models → a folder of static files.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::site::wasm_build;
use crate::site::{self, Sample};

/// Arguments of `dinomaly site`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folders, in the order in which the page offers them
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Folder to write the site to; an earlier site there is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Photos to try, offered on the page; those in a folder of it are of the class that the folder is named after
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// Use these page modules instead of building them: the folder wasm of another site
    #[arg(long, value_name = "DIR")]
    wasm: Option<PathBuf>,
}

/// Writes the site.
///
/// # Errors
/// One sentence naming what is wrong; an earlier site is unchanged then.
pub fn run(args: &Args) -> Result<()> {
    site::check(&args.out, &args.models)?;
    let samples = args.samples.as_deref().map(site::read_samples).transpose()?.unwrap_or_default();
    let wasm = args.wasm.clone().map_or_else(wasm_build::build, Ok)?;
    write(&args.out, &args.models, &samples, &wasm)?;
    println!("look at it with: dinomaly serve {}", args.out.display());
    Ok(())
}

/// Writes a site and says how large it and the page's modules are.
pub(super) fn write(out: &Path, models: &[PathBuf], samples: &[Sample], wasm: &Path) -> Result<()> {
    let written = site::write(out, models, samples, wasm)?;
    println!("site {}: {} files, {:.1} MB", out.display(), written.files, written.bytes as f64 / 1e6);
    for module in wasm_build::MODULES {
        let (raw, compressed) = wasm_build::sizes(&out.join("wasm").join(module.wasm))?;
        let (raw, compressed) = (raw as f64 / 1e6, compressed as f64 / 1e6);
        println!("the page's module {}: {raw:.2} MB, {compressed:.2} MB with gzip", module.name);
    }
    Ok(())
}
