//! One target for each reader of `tests/src/mutation`. The fuzzer's bytes decide what is changed in a valid file; those that reach new code
//! are kept and changed further.

// Of the test crate only this: with the rest came a browser's driver.
#[path = "../../src/mutation/mod.rs"]
pub mod mutation;

use std::path::{Path, PathBuf};

use mutation::{Choices, READERS};

/// A file or folder of `tests/fixtures`.
fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// Changes a file as the bytes say, and reads it.
///
/// # Panics
/// If there is no such reader, or it did not end with a sentence.
pub fn run(reader: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let reader = READERS.into_iter().find(|one| one.name == reader).expect("targets are named after readers");
    (reader.attempt)(&mut Choices::of_bytes(bytes), folder.path());
}
