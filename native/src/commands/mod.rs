//! The commands, one file each: arguments and flow; the work is done by the library's modules.

pub mod ablate;
pub mod attention;
pub mod backbone;
pub mod bench;
pub mod calibrate;
pub mod data;
pub mod demo;
pub mod detect;
pub mod distill;
pub mod evaluate;
pub mod generate;
pub mod import;
pub mod inspect;
pub mod options;
pub mod preset;
pub mod quantize;
pub mod serve;
pub mod site;
pub mod train;
pub mod variant;
