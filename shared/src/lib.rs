//! Dinomaly finds defects on photos: this crate is its model, its numerics and the format in which models are published.
//!
//! Load a published model, look at a photo, draw the heatmap:
//!
//! ```
//! use std::path::Path;
//!
//! # #[cfg(feature = "processor")]
//! use dinomaly_core::{Detector, Model, Processor};
//!
//! /// Says whether the part on a photo is defective, and writes its heatmap as PNG.
//! # #[cfg(feature = "processor")]
//! fn inspect(folder: &Path, photo: &Path, heatmap: &Path) -> Result<bool, Box<dyn std::error::Error>> {
//!     let model = Model::read(|name| std::fs::read(folder.join(name)))?;
//!     let detector = Detector::new(Processor::default(), &model)?;
//!
//!     let photo = detector.decode(&photo.to_string_lossy(), &std::fs::read(photo)?)?;
//!     let detection = detector.detect_now(&photo)?;
//!     let threshold = model.calibration.of_class(None).threshold; // `Some("screw")`: that of a class
//!     println!("score {}, threshold {threshold}", detection.score);
//!
//!     std::fs::write(heatmap, detection.heatmap(&photo, threshold, 0.5)?.to_png()?)?;
//!     Ok(detection.score > threshold)
//! }
//! #
//! # // The demo model lies in the repository, not in this package.
//! # #[cfg(feature = "processor")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     let native = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../native"));
//! #     if native.exists() {
//! #         let file = |name| std::env::temp_dir().join(format!("dinomaly-core-{}-{name}", std::process::id()));
//! #         let (photo, heatmap) = (file("photo.png"), file("heatmap.png"));
//! #         std::fs::write(&photo, dinomaly_core::bundle::SelfTest::picture_of(1).to_png()?)?;
//! #         assert!(inspect(&native.join("assets/demo-model"), &photo, &heatmap)?, "it is none of the model's products");
//! #         let drawn = dinomaly_core::Photo::decode("heatmap.png", &std::fs::read(&heatmap)?)?;
//! #         assert_ne!(drawn.to_png()?, std::fs::read(&photo)?);
//! #         std::fs::remove_file(photo)?;
//! #         std::fs::remove_file(heatmap)?;
//! #     }
//! #     Ok(())
//! # }
//! # #[cfg(not(feature = "processor"))]
//! # fn main() {}
//! ```
//!
//! Models come from the program `dinomaly` (`dinomaly train`). A detector is made once and looks at any number of photos;
//! [`Detector::detect`] takes them in batches. `examples/detect_folder.rs` looks at a folder.
//!
//! # Photo → heatmap
//!
//! In the order of the files: [`photo::decode`] decodes, [`photo::preprocess`] makes patches, [`model::vit`] and
//! [`model::dinomaly`] turn them into distance maps through an executor of [`ops`], [`maps::score`] makes the anomaly map
//! and the score, [`maps::heatmap`] draws it on the photo. Nothing here touches files or the network: the caller
//! passes the bytes of files.
//!
//! # Features
//!
//! Each turns on an executor, what a [`Detector`] runs on. `executors::reference`, plain loops for tests, is always there.
//!
//! | feature | executor | for |
//! |---|---|---|
//! | `processor` (default) | `executors::processor` | SIMD on all cores, in f32 or int8; wasm32, too |
//! | `webgpu` | `executors::webgpu` | GPUs: natively through Vulkan, Metal or DirectX 12, in a browser through WebGPU |
//! | `candle` | `executors::candle` | training |
//! | `cuda` | `executors::candle` | training and detection on NVIDIA GPUs; needs NVIDIA's compiler |
//!
//! `fewshot` turns on the making of detectors from good photos without training, on any executor.

pub mod bundle;
pub mod detector;
pub mod error;
pub mod executors;
#[cfg(feature = "fewshot")]
pub mod fewshot;
pub mod maps;
pub mod model;
pub mod ops;
pub mod photo;
pub mod quant;
pub mod tensor;

pub use bundle::Model;
pub use detector::{Detection, Detector};
pub use error::{Error, Result};
#[cfg(feature = "processor")]
pub use executors::processor::{Processor, ProcessorPrecision};
pub use maps::heatmap;
pub use maps::score::AnomalyMap;
pub use photo::decode::Photo;
pub use photo::preprocess::Region;
