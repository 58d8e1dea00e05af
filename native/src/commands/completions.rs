//! `dinomaly completions`: what a shell completes after Tab.

use anyhow::Result;
use clap_complete::Shell;

use crate::system::output;

/// Arguments of `dinomaly completions`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Shell that reads the completions
    shell: Shell,
}

/// Prints the completions of all commands and options.
///
/// # Errors
/// If they are not UTF-8, which they are.
pub fn run(args: &Args, mut program: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "dinomaly", &mut script);
    output::print_data(&String::from_utf8(script)?);
    Ok(())
}
