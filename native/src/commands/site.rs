//! `dinomaly site`: models → a folder of static files.

#[cfg(feature = "trainer")]
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::model_dir;
use crate::site::page::halves;
use crate::site::{self, Modules, PACKED, Sample};

/// Arguments of `dinomaly site`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folders, or hf:OWNER/NAME on the hub, in the order in which the page offers them
    #[cfg_attr(feature = "trainer", arg(required_unless_present = "encoder", value_name = "MODEL"))]
    #[cfg_attr(not(feature = "trainer"), arg(required = true, value_name = "MODEL"))]
    models: Vec<PathBuf>,
    /// Encoder for detectors that visitors make of their own good photos: a file, a name from `dinomaly backbone list`, or
    /// `embedded`; may be given several times
    #[cfg(feature = "trainer")]
    #[arg(long, value_name = "FILE|NAME")]
    encoder: Vec<PathBuf>,
    /// Folder to write the site to; an earlier site there is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Photos to try, offered on the page; subfolders name their class
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// Page modules that were built before: the folder wasm of another site [default: those of this program, or built now]
    #[arg(long, value_name = "DIR")]
    wasm: Option<PathBuf>,
}

/// Writes the site.
///
/// # Errors
/// One sentence naming what is wrong; an earlier site is unchanged then.
pub fn run(args: &Args) -> Result<()> {
    let models = args.models.iter().map(|model| model_dir::locate(model)).collect::<Result<Vec<_>>>()?;
    let temporary = tempfile::Builder::new().prefix("dinomaly-encoders-").tempdir()?;
    let encoders = encoders(args, temporary.path())?;
    // Before the modules are built for minutes.
    site::check(&args.out, &models, &encoders)?;
    let samples = args.samples.as_deref().map(site::read_samples).transpose()?.unwrap_or_default();
    let modules = Modules::find(args.wasm.as_deref())?;
    write(&args.out, &models, &encoders, &samples, &modules)?;
    println!("look at it with: dinomaly serve {}", args.out.display());
    Ok(())
}

/// Writes a site and prints its size and that of the page's modules.
pub(super) fn write(
    out: &Path,
    models: &[PathBuf],
    encoders: &[PathBuf],
    samples: &[Sample],
    modules: &Modules,
) -> Result<()> {
    let written = site::write(out, models, encoders, samples, modules)?;
    println!("site {}: {} files, {:.1} MB", out.display(), written.files, written.bytes as f64 / 1e6);
    for name in modules.names() {
        let [_, wasm] = halves(name);
        let packed = out.join("wasm").join(format!("{wasm}{PACKED}"));
        let packed = fs::metadata(&packed).with_context(|| format!("{} cannot be read", packed.display()))?.len();
        let raw = modules.read(&wasm)?.len();
        println!("module {name}: {:.2} MB, {:.2} MB packed", raw as f64 / 1e6, packed as f64 / 1e6);
    }
    Ok(())
}

/// Folders with the encoders to offer.
#[cfg(feature = "trainer")]
fn encoders(args: &Args, place: &Path) -> Result<Vec<PathBuf>> {
    let mut encoders = Vec::new();
    for (i, encoder) in args.encoder.iter().enumerate() {
        let folder = place.join(i.to_string()).join(encoder_name(encoder));
        crate::publish::encoder(encoder, &folder)?;
        encoders.push(folder);
    }
    Ok(encoders)
}

/// The program without the trainer has none to offer.
#[cfg(not(feature = "trainer"))]
fn encoders(_args: &Args, _place: &Path) -> Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

/// What visitors read of an encoder: its name, or that of its file.
#[cfg(feature = "trainer")]
fn encoder_name(encoder: &Path) -> &OsStr {
    encoder.file_stem().filter(|_| encoder.exists()).unwrap_or(encoder.as_os_str())
}
