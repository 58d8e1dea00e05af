//! The `dinomaly` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(dinomaly::cli::run_program(std::env::args_os()))
}
