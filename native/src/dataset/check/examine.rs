//! The check of one file: whether it can be read, and its content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use dinomaly_core::photo::decode::{Photo, header};
use sha2::{Digest, Sha256};

use super::Colours;
use crate::dataset::ground_truth::{defect_share, is_lossy};

/// Bytes that hold the header of nearly every picture.
const HEAD: u64 = 1 << 18;

/// A photo or mask.
pub struct Examined {
    /// SHA-256 of its bytes, to find duplicates; `None` if they were not read to the end.
    pub hash: Option<[u8; 32]>,
    /// The content, or why it cannot be decoded.
    pub picture: Result<Picture, String>,
}

/// Content of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Width and height, after rotation.
    pub size: [u32; 2],
    /// Whether its EXIF orientation exchanges width and height.
    pub turned: bool,
    /// `PNG`, `JPEG`, ….
    pub format: String,
    /// Colour format.
    pub colours: Colours,
    /// What it says as a mask; `None` if only the header was read.
    pub mask: Option<Mask>,
}

/// A picture as a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    /// Share of the pixels that are a defect.
    pub defect: f64,
    /// Whether values between black and white come from a lossy format or from smoothing.
    pub lossy: bool,
}

impl Examined {
    /// Reads and decodes a file to its end, so that a truncated photo is found before training.
    pub fn whole(path: &Path) -> Self {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Self { hash: None, picture: Err(unreadable(path, &error)) },
        };
        let name = path.display().to_string();
        let decoded = Photo::decode(&name, &bytes).map_err(|error| error.to_string());
        let picture = decoded.and_then(|photo| {
            let mask = Some(Mask { defect: defect_share(&bytes, &photo.rgb), lossy: is_lossy(&bytes, &photo.rgb) });
            Ok(Picture { mask, ..Picture::of_header(path, &bytes)? })
        });
        Self { hash: Some(Sha256::digest(&bytes).into()), picture }
    }

    /// Reads the header of a file: format, size and colours.
    pub fn header(path: &Path) -> Self {
        let read = |most: u64| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(path)?.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let picture = read(HEAD).map_err(|error| unreadable(path, &error)).and_then(|bytes| {
            // A TIFF may have its header at the end.
            Picture::of_header(path, &bytes).or_else(|error| match bytes.len() as u64 == HEAD {
                true => Picture::of_header(path, &read(u64::MAX).map_err(|error| unreadable(path, &error))?),
                false => Err(error),
            })
        });
        Self { hash: None, picture }
    }
}

impl Picture {
    fn of_header(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        let name = path.display().to_string();
        let header = header(&name, bytes).map_err(|error| error.to_string())?;
        let (format, colours) = Colours::of(bytes).ok_or_else(|| format!("{name} has no colours"))?;
        let format = format!("{format:?}").to_uppercase();
        Ok(Self { size: header.size, turned: header.turned, format, colours, mask: None })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
