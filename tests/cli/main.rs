//! The command line as a user meets it: the whole path on small generated photos, crashes, interrupts, and bad input.

mod bad_input;
mod hub;
mod path;
mod resume;
mod workshop;
