//! Photos of every kind with some of their bytes changed: mostly in the first ones, where sizes, types and offsets stand.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dinomaly_core::photo::decode::Photo;
use image::ImageReader;

use super::{Choices, Outcome, outcome};
use crate::fixtures;

/// First bytes of a PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

pub fn attempt(choices: &mut Choices, _: &Path) -> Outcome {
    static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let entries = fs::read_dir(fixtures("photos")).expect("fixtures are there").flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| {
            ["jpg", "png", "tif", "bmp", "webp"].iter().any(|e| path.extension().is_some_and(|x| x == *e))
        });
        files.sort();
        files.iter().map(|path| fs::read(path).expect("fixtures can be read")).collect()
    });
    let mut bytes = choices.pick(&SEEDS).clone();
    for _ in 0..choices.changes() {
        // TIFF's directory may lie at the end.
        let near = if choices.one_in(3) { bytes.len() } else { bytes.len().min(256) };
        let at = choices.below(near);
        let value = *choices.pick(&[0u32, 1, 2, 3, 127, 128, 255, 256, 65_535, 65_536, 0x7fff_ffff, 0xffff_ffff]);
        let width = (*choices.pick(&[1, 2, 4])).min(bytes.len() - at);
        let number = if choices.one_in(2) { value.to_le_bytes() } else { value.to_be_bytes() };
        let number = if number[0] == 0 { &number[4 - width..] } else { &number[..width] };
        bytes[at..at + width].copy_from_slice(number);
    }
    if choices.one_in(10) {
        bytes.truncate(choices.below(bytes.len()));
    }
    if bytes.starts_with(PNG) {
        set_checksums(&mut bytes);
    }
    let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().expect("memory");
    let parsed = reader.into_dimensions().is_ok();
    outcome(parsed, Photo::decode("photo", &bytes).map(drop).map_err(|error| error.to_string()))
}

/// Makes the checksums of a PNG's chunks right again.
fn set_checksums(bytes: &mut [u8]) {
    let mut at = PNG.len();
    while let Some(length) =
        bytes.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().expect("four bytes")) as usize)
    {
        let Some(end) = at.checked_add(8 + length).filter(|end| end + 4 <= bytes.len()) else { return };
        let mut checksum = flate2::Crc::new();
        checksum.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&checksum.sum().to_be_bytes());
        at = end + 4;
    }
}
