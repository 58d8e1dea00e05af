//! Photos and a model → scores, metrics and pictures.

mod any_detector;
pub(crate) mod attention;
mod attention_pictures;
#[doc(hidden)]
pub mod comparison;
mod detect;
mod drift;
mod evaluate;
#[doc(hidden)]
pub mod evaluation;
mod intervals;
mod judging;
mod loaded;
#[doc(hidden)]
pub mod photo_detector;
pub(crate) mod report;
mod row;
pub mod speed;
mod submission;
mod suspects;

pub use any_detector::{AnyDetector, DetectorDevice};
pub use attention::AttentionSpread;
pub use attention_pictures::{AttentionPlan, Spreads, draw_attention};
pub use comparison::BeforeAfter;
#[cfg(feature = "score")]
pub(crate) use detect::{CLIPPED, ODD, is_odd};
pub use detect::{DetectionPlan, Verdict, detect};
pub use drift::Drift;
pub use evaluate::{Evaluated, EvaluationPlan, evaluate};
pub use evaluation::{ClassMetrics, Evaluation, SampleMetrics};
pub use intervals::{Interval, IntervalPlan, Intervals, intervals};
pub use judging::{FoundRegions, Judgement, Judging, Product, RegionPlan};
pub use loaded::{Judged, LoadedModel};
pub use photo_detector::PhotoDetector;
pub use row::Row;
pub use submission::Submission;
pub use suspects::{ClassSuspects, Suspect, Suspects, SuspectsPlan, suspects};
