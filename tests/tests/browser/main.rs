//! The page and reports in a real Chromium. The page runs on its software WebGPU and on the processor, against the native
//! detector.
//!
//! `CHROME` names another browser. Faults that a page cannot be asked for (a GPU that computes wrongly or gets lost) are
//! brought about by lines put before the worker's own, in a copy of the site.

mod dead_ends; // nothing waits without an end: servers, policies and devices that do not answer
mod engines; // the same page in Firefox and WebKitGTK
mod faults; // bad photos, altered models, GPUs that are missing, emulated, wrong or lost
mod few_shot; // a detector made of good photos in the page
mod first_bytes; // samples as thumbnails, wrong verdicts on them, the faster device
mod in_out; // folders, archives and models in; tables, pictures and reports out; results over a reload
mod npm; // the npm package: its examples in plain pages, Vite and Node, its types, its errors
mod offline; // visits after the first: without a request, without a server, never with an outdated page
mod photos; // dropped photos of every kind: maps, scores and verdicts
mod pool; // several photos at a time
mod report; // an evaluation's report: its numbers against the JSON's, no request, no complaint
mod unknown; // the product that a photo shows, or none of them
mod viewer; // cards, large view, threshold, labels
mod visit; // what a visitor does with the page, and what it asks the network for

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dinomaly_core::photo::decode::Photo;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use dinomaly_tests::fixtures;
use dinomaly_tests::page::chrome::{Found, Page};

/// Largest difference of a map's value between the page and the native detector. Cosine distances of these models are
/// about 1.
const TOLERANCE: f32 = 2e-5;

/// The same where the page's processor multiplies int8 weights with activations of thirteen bits, which the native detector does not
/// round: as much as self-tests allow. With a trained DeiT-Ti, whose map int8 weights themselves move by 1.1e-2, half of it was seen.
const ROUNDED: f32 = 1e-3;

/// One browser at a time: each emulates a GPU on all cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing in the console, no exception, nothing that the policy had to forbid.
fn assert_silent(page: &Page) {
    assert_eq!(page.complaints(), Vec::<String>::new());
}

/// Photos of every kind that is read, most of them tiny, and a large one.
fn photos() -> Vec<PathBuf> {
    static LARGE: OnceLock<TempDir> = OnceLock::new();
    let large = LARGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let photo = RgbImage::from_fn(3000, 2000, |x, y| Rgb([(x / 12) as u8, (y / 8) as u8, (x * y % 251) as u8]));
        photo.save(folder.path().join("large.jpg")).unwrap();
        folder
    });
    let folders = [fixtures("photos").as_path(), large.path()].map(|folder| fs::read_dir(folder).unwrap());
    let mut photos: Vec<PathBuf> = folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    photos.retain(|path| [".rgb.png", ".py", ".md"].iter().all(|end| !path.to_str().unwrap().ends_with(end)));
    photos.sort();
    photos
}

fn read(path: &Path) -> Photo {
    Photo::decode("photo", &fs::read(path).unwrap()).unwrap()
}

fn path_of<'a>(photos: &'a [PathBuf], found: &Found) -> &'a Path {
    photos.iter().find(|path| path.ends_with(&found.file)).unwrap()
}
