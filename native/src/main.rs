//! The `dinomaly` program.

use std::process::ExitCode;

use clap::Parser;
use dinomaly::cli::Cli;

fn main() -> ExitCode {
    dinomaly::allocator::keep_freed_memory();
    dinomaly::workers::keep_candle_from_spinning();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes in one line, outermost first: "photo a.png cannot be read: No such file".
            eprintln!("dinomaly: {error:#}");
            ExitCode::FAILURE
        }
    }
}
