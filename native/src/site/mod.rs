//! Models → a folder of static files that any web server can offer, under any path.
//!
//! ```text
//! index.html style.css *.js      the page
//! offline.js                     the service worker, with the hashes of all small files
//! wasm/                          the detector
//! models.json                    what there is to choose from
//! files/<sha256>.<extension>     the models' files, each once however many models share it; cached for ever
//! samples/                       photos to try, and one picture of all of them, small
//! ```
//!
//! [`write`](write()) makes the folder of the [`page`], its [`modules`], models and [`samples`]; [`serve`] offers it on this machine;
//! [`own`] tells such a folder from any other; [`demo`] is the model that the program carries.

pub mod demo;
mod hash;
pub mod modules;
pub mod own;
mod packed;
pub mod page;
mod requests;
pub mod samples;
pub mod serve;
pub mod sharing;
#[cfg(feature = "trainer")]
pub mod space;
mod thumbnails;
mod write;

pub use modules::Modules;
pub use packed::PACKED;
pub use samples::{Sample, Truth, read_samples};
pub use write::{Written, check, write};
