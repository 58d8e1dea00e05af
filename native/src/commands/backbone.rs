//! `dinomaly backbone`: which encoders are known by name, and how one gets here.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;

use crate::encoders::catalogue;
use crate::inference::evaluate::align;

/// Arguments of `dinomaly backbone`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show the encoders that are known by name
    List,
    /// Download one from the hub, verify it, and keep it in the hub's cache: `train --backbone NAME` then finds it
    Fetch {
        /// A name from the list
        name: String,
        /// Write a copy to this file, too
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Lists or fetches.
///
/// # Errors
/// One sentence: an unknown name, what the hub refuses, or a file that cannot be written.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::List => list(),
        Command::Fetch { name, out } => return fetch(name, out.as_deref()),
    }
    Ok(())
}

fn list() {
    let mut rows = vec![["name", "paper", "licence", "parameters", "patch"].map(str::to_owned).to_vec()];
    let mut places = vec!["what it is, and where it is published".to_owned()];
    for f in catalogue::all() {
        let from = match (f.repo.is_empty(), f.gated) {
            (true, _) => format!("{} ({})", f.page, f.file),
            (false, true) => format!("{} (its licence must be accepted there)", f.repo),
            (false, false) => f.repo.clone(),
        };
        let size = format!("{}M", f.millions);
        rows.push(vec![f.name.clone(), f.paper.clone(), f.licence.clone(), size, f.patch.to_string()]);
        places.push(format!("{}, {from}", f.what));
    }
    // The long ones below what they belong to, so that a terminal shows all.
    for (row, place) in align(&rows).lines().zip(places) {
        println!("{row}\n    {place}");
    }
}

fn fetch(name: &str, out: Option<&Path>) -> Result<()> {
    let (backbone, place) = catalogue::fetch(name, out)?;
    println!("{name} ({}, {}): {}", backbone.what, backbone.licence, place.display());
    Ok(())
}
