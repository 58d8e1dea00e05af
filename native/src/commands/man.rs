//! `dinomaly man`: manual pages of all commands.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::system::atomic::write_file;

/// Arguments of `dinomaly man`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder to write the pages to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes `dinomaly.1` and a page for each command, such as `dinomaly-train.1`.
///
/// # Errors
/// Naming the file that cannot be written.
pub fn run(args: &Args, mut program: clap::Command) -> Result<()> {
    program.build();
    let pages = write_pages(&program, &args.out)?;
    println!("{pages} pages in {}: man -l {}", args.out.display(), args.out.join("dinomaly.1").display());
    Ok(())
}

/// The page of a command, and those of the commands below it. Returns their number.
fn write_pages(command: &clap::Command, folder: &Path) -> Result<usize> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    let source = concat!("dinomaly ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command.clone()).title(&name).source(source).render(&mut page)?;
    write_file(&folder.join(format!("{name}.1")), &page)?;
    let mut pages = 1;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages += write_pages(below, folder)?;
    }
    Ok(pages)
}
