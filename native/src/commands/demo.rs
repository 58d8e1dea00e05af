//! `dinomaly demo`: the page with the embedded model and generated photos to try.

use std::io::Cursor;

use anyhow::{Context, Result, bail};
use image::{DynamicImage, ImageFormat, RgbImage};
use rayon::prelude::*;

use super::{serve, site};
use crate::site::Sample;
use crate::site::serve::Server;
use crate::site::wasm_build;
use crate::synth::Class;

/// Seed of the photos to try: not the one that the embedded model was trained with.
const SEED: u64 = 2025;
/// Their side, in pixels: that of the photos which the embedded model was trained on.
const SIDE: usize = 256;

/// Arguments of `dinomaly demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port on 127.0.0.1; without it 8080 or, if that is taken, any that is free
    #[arg(long)]
    port: Option<u16>,
}

/// Builds the page's module, writes a site and serves it until Ctrl-C.
///
/// # Errors
/// If the checkout that this program was built from is gone, the module cannot be built, or the port is taken.
pub fn run(args: &Args) -> Result<()> {
    let checkout = wasm_build::checkout()?;
    // In the repository and not in the program: what builds the page's module needs the checkout anyway.
    let model = checkout.join("native/assets/demo-model");
    if !model.is_dir() {
        bail!("the embedded model {} is missing: check the repository out again", model.display());
    }
    println!("building the page (some minutes the first time)");
    let wasm = wasm_build::build()?;
    let out = checkout.join("target/demo-site");
    site::write(&out, &[model], &samples()?, &wasm)?;
    serve::run_server(Server::bind_or_any(&out, args.port)?)
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
            Ok(Sample { name, class: Some(class.name().into()), bytes: png(photo)?, extension: "png".into() })
        })
        .collect()
}

fn png(photo: RgbImage) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(photo).write_to(&mut file, ImageFormat::Png).context("a sample cannot be encoded")?;
    Ok(file.into_inner())
}
