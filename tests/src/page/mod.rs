//! Sites with small models, and a browser that looks at them.

pub mod chrome;
pub mod engine;
pub mod firefox;
pub mod host;
pub mod site;
pub mod socket;
#[cfg(target_os = "linux")]
pub mod webkit;
