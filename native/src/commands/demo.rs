//! `dinomaly demo`: the page with the embedded model and generated photos to try.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use image::{DynamicImage, ImageFormat, RgbImage};
use rayon::prelude::*;

use super::{serve, site};
use crate::site::demo::demo_model;
use crate::site::modules::checkout;
use crate::site::page::{MODULE_NAMES, MODULES};
use crate::site::serve::Server;
use crate::site::{Modules, Sample, Truth};
use crate::synth::Class;

/// Seed of the photos to try. The embedded model was trained with another one.
const SEED: u64 = 2025;
/// Side of the photos to try in pixels, as of the photos that the embedded model was trained on.
const SIDE: usize = 256;

/// Arguments of `dinomaly demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port on 127.0.0.1 [default: 8080, or any free port if that is taken]
    #[arg(long)]
    port: Option<u16>,
}

/// Writes a site of the embedded model and serves it until Ctrl-C.
///
/// In a checkout the page's modules are built: the one that runs in every browser first, the others once the page is up.
///
/// # Errors
/// If a module cannot be built, the site cannot be written, or the port is taken.
pub fn run(args: &Args) -> Result<()> {
    // Removed when the program ends.
    let temporary = tempfile::Builder::new().prefix("dinomaly-demo-").tempdir()?;
    let model = temporary.path().join("demo-model");
    write_model(&model)?;
    let out = checkout().map_or_else(|| temporary.path().join("site"), |root| root.join("target/demo-site"));
    let samples = samples()?;
    let (first, others) = MODULE_NAMES.split_at(1);
    let is_embedded = !MODULES.is_empty();
    let modules = if is_embedded {
        Modules::Embedded
    } else {
        println!("building the page (a few minutes the first time)");
        Modules::build(first)?
    };
    site::write(&out, std::slice::from_ref(&model), &[], &samples, &modules)?;
    let server = Server::bind_or_any(&out, args.port)?;
    if !is_embedded {
        println!("building the modules for the graphics processor and for relaxed SIMD meanwhile");
        thread::spawn(move || match add_modules(others, &out, model, &samples) {
            Ok(()) => println!("the page now uses the graphics processor where there is one: load it again"),
            Err(error) => eprintln!("dinomaly: the page stays as it is: {error:#}"),
        });
    }
    serve::run_server(server)
}

/// Builds further modules and writes the site again.
fn add_modules(names: &[&str], out: &Path, model: PathBuf, samples: &[Sample]) -> Result<()> {
    let modules = Modules::build(names)?;
    site::write(out, &[model], &[], samples, &modules)
}

/// Writes the embedded model's folder.
fn write_model(folder: &Path) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    demo_model()?.into_iter().try_for_each(|(name, bytes)| {
        fs::write(folder.join(&name), bytes).with_context(|| format!("{name} of the embedded model cannot be written"))
    })
}

/// A good photo of each product and one with each of its defects, generated now.
fn samples() -> Result<Vec<Sample>> {
    let kinds = |class: Class| std::iter::once(None).chain(class.defects().iter().copied().map(Some));
    let wanted: Vec<_> = Class::ALL.into_iter().flat_map(|class| kinds(class).map(move |kind| (class, kind))).collect();
    wanted
        .into_par_iter()
        .map(|(class, kind)| {
            let photo = match kind {
                Some(kind) => class.defective(SEED, kind, 0, SIDE).photo,
                None => class.good(SEED, "demo", 0, SIDE),
            };
            let name = format!("{}, {}", class.name(), kind.unwrap_or("good")).replace('_', " ");
            let truth = Some(if kind.is_some() { Truth::Defective } else { Truth::Good });
            let class = Some(class.name().into());
            Ok(Sample { name, class, truth, bytes: png(photo)?, extension: "png".into() })
        })
        .collect()
}

fn png(photo: RgbImage) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(photo).write_to(&mut file, ImageFormat::Png).context("a sample cannot be encoded")?;
    Ok(file.into_inner())
}
