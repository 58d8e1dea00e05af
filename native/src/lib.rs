//! Train, evaluate, quantize and publish Dinomaly anomaly detectors.
//!
//! Good photos → model, in the order of the files: [`dataset`] lists photos and [`dataset::check`] looks at them, [`encoders::backbone`] reads a
//! pretrained encoder, [`features::photo_encoder`] runs it once a photo, in [`system::batch_size`]es that are made [`system::prefetch`], into [`features`], [`training::head`] is
//! what is trained, [`training::run`] steps [`training::train`] with [`training::loss`] ([`training::mining`]), [`training::noise`], [`training::schedule`] and [`training::optimizer`], [`training::replicas`]
//! share its batches, [`training::checkpoint`] in [`training::work_folder`], written in the [`system::background_job`], survives crashes and knows its [`training::recipe`],
//! [`training::tensorboard`] shows how it goes, [`publish::calibrate`] sets thresholds, [`publish`] writes the model through [`model_dir`]. Photos
//! → results: [`inference::detect`], [`inference::evaluate`] and its [`inference::report`], [`inference::attention`]; variants → tables: [`ablation`]. Large encoder → small
//! one: [`distillation::distill`] in a [`distillation::subspace`] with [`distillation::muon`] on pictures of [`synth`]; checkpoint of another project → model: [`encoders::import`].
//! The commands are in [`commands`], what they compute on in [`system::device`]; they print through [`system::output`].

// First, because all others use its macros.
#[macro_use]
pub mod system;

#[cfg(feature = "trainer")]
pub mod ablation;
pub mod cli;
pub mod commands;
#[cfg(feature = "trainer")]
pub mod costs;
#[cfg(feature = "trainer")]
pub mod dataset;
#[cfg(feature = "trainer")]
pub mod distillation;
pub mod embedded;
#[cfg(feature = "trainer")]
pub mod encoders;
#[cfg(feature = "trainer")]
pub mod features;
#[cfg(feature = "trainer")]
pub mod inference;
pub mod model_dir;
#[cfg(feature = "trainer")]
pub mod publish;
pub mod site;
pub mod synth;
#[cfg(feature = "trainer")]
pub mod training;
