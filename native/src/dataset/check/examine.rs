//! The check of one file: whether it can be read, its content, and a hash to find duplicates.

use std::fs;
use std::path::Path;

use dinomaly_core::photo::decode::Photo;
use sha2::{Digest, Sha256};

use super::Colours;

/// A photo or mask.
pub struct Examined {
    /// SHA-256 of its bytes; `None` if they cannot be read.
    pub hash: Option<[u8; 32]>,
    /// The decoded content, or why it cannot be decoded.
    pub picture: Result<Picture, String>,
}

/// Content of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Width and height, after rotation.
    pub size: [u32; 2],
    /// `PNG`, `JPEG`, ….
    pub format: String,
    /// Colour format.
    pub colours: Colours,
    /// Whether all pixels are black.
    pub black: bool,
}

impl Examined {
    /// Reads and decodes a file to its end, so that a truncated photo is found before training.
    pub fn of(path: &Path) -> Self {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                return Self { hash: None, picture: Err(format!("{} cannot be read: {error}", path.display())) };
            }
        };
        let decoded = Photo::decode(&path.display().to_string(), &bytes).map_err(|error| error.to_string());
        let picture = decoded.and_then(|photo| {
            let (format, colours) = Colours::of(&bytes).ok_or_else(|| format!("{} has no colours", path.display()))?;
            let black = photo.rgb.iter().all(|&value| value == 0);
            let format = format!("{format:?}").to_uppercase();
            Ok(Picture { size: [photo.width, photo.height], format, colours, black })
        });
        Self { hash: Some(Sha256::digest(&bytes).into()), picture }
    }
}
