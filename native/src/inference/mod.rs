//! Photos and a model → scores, metrics and pictures.

pub(crate) mod attention;
mod attention_pictures;
#[doc(hidden)]
pub mod comparison;
#[doc(hidden)]
pub mod detect;
#[doc(hidden)]
pub mod evaluate;
mod measure;
mod place;
pub(crate) mod report;
pub mod speed;
mod verdicts;

pub use attention::Spread;
pub use attention_pictures::{AttentionPlan, Spreads, draw_attention};
pub use comparison::Comparison;
pub use detect::PhotoDetector;
pub use evaluate::{ClassMetrics, Evaluation, SampleMetrics};
pub use measure::{Evaluated, EvaluationPlan, evaluate};
pub use place::{Looking, Place};
pub use verdicts::{DetectionPlan, Verdict, detect};
