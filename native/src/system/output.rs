//! Standard output and error that may be closed or full: `print!`, `println!` and `eprintln!` of this crate, in place of std's,
//! which panic then.
//!
//! A model is not lost because whoever reads what is printed beside it has read enough: printing never fails the work. What could
//! not be printed is known to [`check`], which the program asks at its end, and commands that only print between photos.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// Why standard output ended; nothing more is written to it.
static END: OnceLock<io::Error> = OnceLock::new();

/// What was printed did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
pub struct Lost(&'static io::Error);

impl Lost {
    /// Whether the reader closed it, as `head` does when it has read enough.
    pub fn is_closed(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes to standard output, as long as that is there.
pub fn print(text: Arguments<'_>) {
    note(|output| output.write_fmt(text));
}

/// Writes to standard error. Where that is closed there is nobody to tell.
pub fn print_error(text: Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Whether all that was printed has arrived.
///
/// # Errors
/// [`Lost`] if it has not.
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
