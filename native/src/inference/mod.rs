//! Photos and a model → scores, metrics and pictures.

pub mod attention;
pub mod comparison;
pub mod detect;
pub mod evaluate;
pub mod report;
