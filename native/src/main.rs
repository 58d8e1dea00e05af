//! The `dinomaly` program.

use std::process::ExitCode;

use clap::Parser;
use dinomaly::cli::Cli;
use dinomaly::system::interrupt::{self, Stopped};
use dinomaly::system::output::{self, Lost};

fn main() -> ExitCode {
    dinomaly::system::allocator::keep_freed_memory();
    dinomaly::system::environment::set_defaults();
    let begun = interrupt::clean_up_at_signals();
    match begun.and_then(|()| Cli::parse().run()).and_then(|()| Ok(output::check()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // No message, and the exit status of a program that SIGPIPE ended.
        Err(error) if error.downcast_ref().is_some_and(Lost::is_closed) => ExitCode::from(128 + 13),
        Err(error) => {
            // All causes in one line, outermost first: "photo a.png cannot be read: No such file".
            output::print_error(format_args!("dinomaly: {error:#}\n"));
            if error.is::<Stopped>() { ExitCode::from(interrupt::STATUS) } else { ExitCode::FAILURE }
        }
    }
}
