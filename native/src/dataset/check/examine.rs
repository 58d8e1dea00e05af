//! One file: can it be read, what is in it, is it the same as another.

use std::fs;
use std::path::Path;

use dinomaly_core::photo::decode::Photo;
use sha2::{Digest, Sha256};

use super::Colours;

/// A photo or mask.
pub struct Examined {
    /// SHA-256 of its bytes; `None` if they cannot be read.
    pub hash: Option<[u8; 32]>,
    /// What was decoded, or why it could not be.
    pub picture: Result<Picture, String>,
}

/// What a file shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Width and height, as it stands upright.
    pub size: [u32; 2],
    /// `PNG`, `JPEG`, ….
    pub format: String,
    /// How colours are stored.
    pub colours: Colours,
    /// Whether there is nothing but black.
    pub black: bool,
}

impl Examined {
    /// Reads and decodes a file to its end: a photo that is cut off is found here and not while training.
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
