//! Sites with small models, and a browser that looks at them.

pub mod chrome;
pub mod site;
