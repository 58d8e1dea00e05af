//! The command line as a user meets it: the whole path on small generated photos, crashes, interrupts, and bad input.

mod ablate;
mod attention;
mod bad_input;
mod cuda;
mod data;
mod embedded_encoder;
mod events;
mod foreign_folders;
mod gpu;
mod hub;
mod output;
mod path;
mod quantize;
mod replicas;
mod resume;
mod workshop;
