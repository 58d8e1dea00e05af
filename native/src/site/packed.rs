//! The modules' WebAssembly, packed: many hosts send it as it lies there, and packed it is a third.

use std::io::{Read, Write};

use anyhow::Result;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// End of a packed file's name.
pub const PACKED: &str = ".gz";

/// Packs a file, the same bytes each time.
///
/// # Errors
/// None: it is written to memory.
pub fn pack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Unpacks one.
///
/// # Errors
/// If it is damaged.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}
