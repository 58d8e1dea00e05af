//! Train, evaluate, quantize and publish Dinomaly anomaly detectors.
//!
//! The commands of the `dinomaly` program are a thin layer over this library. The whole way, from photos of good parts to verdicts:
//!
//! ```no_run
//! use dinomaly::inference::{self, DetectionPlan, EvaluationPlan};
//! use dinomaly::publish::{self, CalibrationPlan, QuantizePlan};
//! use dinomaly::system::interrupt::Interrupt;
//! use dinomaly::training::{self, TrainingPlan};
//! use dinomaly_core::quant::Format;
//!
//! # fn main() -> anyhow::Result<()> {
//! let plan = TrainingPlan { iterations: 2000, ..TrainingPlan::new("screws", "model") };
//! if let Some(trained) = training::train(&plan, &Interrupt::default())? {
//!     publish::publish(trained)?; // writes the folder `model`
//! }
//! println!("{}", inference::evaluate(&EvaluationPlan::new("model", "screws"))?.evaluation.table());
//! publish::calibrate(&CalibrationPlan::new("model", "more-good-screws", "calibrated"))?;
//! publish::quantize(&QuantizePlan::new("calibrated", Format::Int8, "small"))?;
//! inference::detect(&DetectionPlan::new("small", vec!["new-photos".into()]), |verdict| {
//!     let verdict = verdict?; // or why this photo cannot be read
//!     println!("{}: {:.4}, defective: {}", verdict.path.display(), verdict.score(), verdict.is_defective());
//!     verdict.write_heatmap("heatmaps".as_ref(), 0.5)
//! })
//! # }
//! ```
//!
//! A plan is a plain struct: `new` gives the defaults, and its fields are the options of the command. Long work prints its
//! progress. In memory, with no folder, [`inference::PhotoDetector`] looks at photos with a [`Model`](dinomaly_core::bundle::Model).
//!
//! | module | |
//! |---|---|
//! | [`dataset`] | photos on disk, in the layouts of the public data sets; checks of them |
//! | [`encoders`] | pretrained encoders: files of other projects, the hub, the embedded one |
//! | [`training`] | photos and an encoder → a trained head: [`training::train()`] |
//! | [`publish`] | a trained or imported head → a model folder: [`publish::publish()`], [`publish::import()`], [`publish::calibrate()`], [`publish::quantize()`] |
//! | [`inference`] | a model and photos → verdicts, metrics, pictures: [`inference::detect()`], [`inference::evaluate()`], [`inference::draw_attention()`] |
//! | [`scoring`] | a model and a bucket of photos → tables of verdicts, shared by many machines: [`scoring::score()`] |
//! | [`ablation`] | variants of a training, side by side: [`ablation::Ablation`] |
//! | [`reproduction`] | the paper's tables: rows as cells of an ablation, published figures beside found ones |
//! | [`distillation`] | a large encoder → a small one: [`distillation::distill()`] |
//! | [`synth`] | generated products with defects and masks |
//! | [`site`] | models → a web page |
//! | [`hub`] | files of repositories on the Hugging Face Hub, fetched and published |
//! | [`model_dir`] | model folders, read and written |
//! | [`system`] | devices, interruption, whole files, output |

// First, because all others use its macros.
#[macro_use]
pub mod system;

#[cfg(feature = "trainer")]
pub mod ablation;
#[doc(hidden)]
pub mod cli;
mod commands;
#[cfg(feature = "trainer")]
#[doc(hidden)]
pub mod costs;
#[cfg(feature = "trainer")]
pub mod dataset;
#[cfg(feature = "trainer")]
pub mod distillation;
pub mod embedded;
#[cfg(feature = "trainer")]
pub mod encoders;
#[cfg(feature = "trainer")]
#[doc(hidden)]
pub mod features;
#[cfg(feature = "trainer")]
pub mod hub;
#[cfg(feature = "trainer")]
pub mod inference;
pub mod model_dir;
#[cfg(feature = "trainer")]
pub mod publish;
#[cfg(feature = "trainer")]
pub mod reproduction;
#[cfg(feature = "score")]
pub mod scoring;
pub mod site;
pub mod synth;
#[cfg(feature = "trainer")]
pub mod training;
