//! `print!`, `println!` and `eprintln!` of this crate. Unlike std's they do not panic when the output is closed or full.
//!
//! A training must not fail because the reader of its output has gone. [`check`] reports lost output: the program calls it at its
//! end, and commands that only print call it between photos. Names in the output are shown harmless.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use super::listener::{Listener, Said};
use super::shown::{shortened, shown};

/// The first error of standard output; nothing is written after it.
static END: OnceLock<io::Error> = OnceLock::new();

/// Standard output was lost.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
pub struct Lost(&'static io::Error);

impl Lost {
    /// Whether the reader closed it, as `head` does.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes to standard output, until its first error, or to who listens on this thread.
pub fn print(text: Arguments<'_>) {
    if let Some(listener) = Listener::present() {
        return listener.tell(Said::Line(line(text)));
    }
    note(|output| output.write_all(shown(&text.to_string()).as_bytes()));
}

/// Writes CSV, JSON or a script to standard output, until its first error: to other programs as it is.
#[cfg(feature = "trainer")]
pub fn print_data(text: &str) {
    if io::IsTerminal::is_terminal(&io::stdout()) {
        print(format_args!("{text}"));
    } else {
        note(|output| output.write_all(text.as_bytes()));
    }
}

/// Writes to standard error, without the middle of very long names, or to who listens on this thread; errors are ignored.
pub fn print_error(text: Arguments<'_>) {
    if let Some(listener) = Listener::present() {
        return listener.tell(Said::Warning(line(text)));
    }
    let _ = io::stderr().write_all(shown(&shortened(&text.to_string())).as_bytes());
}

fn line(text: Arguments<'_>) -> String {
    text.to_string().trim_end_matches('\n').to_owned()
}

/// Checks that all output was written.
///
/// # Errors
/// [`Lost`] if it was not.
pub fn check() -> Result<(), Lost> {
    note(Write::flush);
    END.get().map_or(Ok(()), |error| Err(Lost(error)))
}

fn note(write: impl FnOnce(&mut io::Stdout) -> io::Result<()>) {
    if END.get().is_none()
        && let Err(error) = write(&mut io::stdout())
    {
        let _ = END.set(error);
    }
}

#[cfg(feature = "trainer")]
/// std's, but see [`crate::system::output`].
macro_rules! print {
    ($($text:tt)*) => { $crate::system::output::print(format_args!($($text)*)) };
}

/// std's, but see [`crate::system::output`].
macro_rules! println {
    ($($text:tt)*) => { $crate::system::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// std's, but see [`crate::system::output`].
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::system::output::print_error(format_args!("{}\n", format_args!($($text)*))) };
}
