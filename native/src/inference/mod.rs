//! Photos and a model → scores, metrics and pictures.

pub mod attention;
pub mod comparison;
pub mod detect;
pub mod evaluate;
mod measure;
mod place;
pub mod report;
mod verdicts;

pub use detect::PhotoDetector;
pub use measure::{Evaluated, EvaluationPlan, evaluate};
pub use place::{Looking, Place};
pub use verdicts::{DetectionPlan, Verdict, detect};
