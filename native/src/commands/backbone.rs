//! `dinomaly backbone`: list and download the encoders that are known by name.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;

use crate::encoders::catalogue;
use crate::system::table::align;

/// Arguments of `dinomaly backbone`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the encoders that are known by name
    ///
    /// Example: dinomaly backbone list
    List,
    /// Download an encoder for `train --backbone NAME`
    ///
    /// Example: dinomaly backbone fetch dinov2-reg-base
    ///
    /// The file is verified and kept in the hub's cache.
    Fetch {
        /// Name from `dinomaly backbone list`
        name: String,
        /// File to write a copy to
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Lists encoders or fetches one.
///
/// # Errors
/// If the name is unknown, the hub refuses, or the file cannot be written.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::List => list(),
        Command::Fetch { name, out } => return fetch(name, out.as_deref()),
    }
    Ok(())
}

fn list() {
    let mut rows = vec![["name", "paper", "licence", "parameters", "patch"].map(str::to_owned).to_vec()];
    let mut places = vec!["description, source".to_owned()];
    for f in catalogue::all() {
        let from = match (f.repo.is_empty(), f.gated) {
            (true, _) => format!("{} ({})", f.page, f.file),
            (false, true) => format!("{} (accept its licence there first)", f.repo),
            (false, false) => f.repo.clone(),
        };
        let size = format!("{}M", f.millions);
        rows.push(vec![f.name.clone(), f.paper.clone(), f.licence.clone(), size, f.patch.to_string()]);
        places.push(format!("{}, {from}", f.what));
    }
    // The long columns go to a second line, so that the table fits a terminal.
    for (row, place) in align(&rows).lines().zip(places) {
        println!("{row}\n    {place}");
    }
}

fn fetch(name: &str, out: Option<&Path>) -> Result<()> {
    let (backbone, place) = catalogue::fetch(name, out)?;
    println!("{name} ({}, {}): {}", backbone.what, backbone.licence, place.display());
    Ok(())
}
