//! Photos and a model → scores, metrics and pictures.

pub mod attention;
mod attention_pictures;
pub mod comparison;
pub mod detect;
pub mod evaluate;
mod measure;
mod place;
pub mod report;
pub mod speed;
mod verdicts;

pub use attention_pictures::{AttentionPlan, Spreads, draw_attention};
pub use detect::PhotoDetector;
pub use measure::{Evaluated, EvaluationPlan, evaluate};
pub use place::{Looking, Place};
pub use verdicts::{DetectionPlan, Verdict, detect};
