//! What a good photo is to a memory: the features of its patches, as the encoder gives them.

use sha2::{Digest, Sha256};

use crate::photo::decode::Photo;
use crate::photo::preprocess::Preprocessor;
use crate::photo::tiles::TilePlan;

/// Features of a good photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Of each group of layers the patches' features `[copies · patches, width]`, row by row of the grid: first the photo's own, then
    /// those of its turned copies.
    pub groups: Vec<Vec<f32>>,
    /// Number of copies of the photo, itself included.
    pub copies: usize,
    /// Unit vector of the class token in the last layer; of tiles, that of their mean.
    pub class_token: Vec<f32>,
    /// What the photo looks like as a whole, and then each of its turned copies: the mean of its patches, of tiles that of
    /// theirs.
    pub descriptors: Vec<Vec<f32>>,
    /// Tiles that the photo's own patches were stitched of, if it was looked at in tiles.
    pub plan: Option<TilePlan>,
    /// The photo.
    pub photo: PreparedPhoto,
}

impl Features {
    /// The photo's own patches `[patches, width]` in a group of layers.
    pub(super) fn own(&self, group: usize) -> &[f32] {
        &self.groups[group][..self.groups[group].len() / self.copies]
    }

    /// Drops the pixels, which are needed only if there is no other photo of the class.
    pub fn drop_picture(&mut self) {
        self.photo.picture.rgb = Vec::new();
    }
}

/// A good photo as the encoder takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedPhoto {
    /// The square that the encoder sees, or all of a photo that is looked at in tiles.
    pub(super) picture: Photo,
    /// SHA-256 of its file, by which photos are ordered: the same photos give the same memory, in any order, under any names.
    pub sha256: [u8; 32],
}

impl PreparedPhoto {
    /// A photo that was decoded from a file of this content.
    pub fn new(preprocessor: &Preprocessor, photo: Photo, file: &[u8]) -> Self {
        let picture = if preprocessor.tiles.is_some() { photo } else { square(preprocessor, &photo) };
        Self { picture, sha256: Sha256::digest(file).into() }
    }
}

/// The square that the encoder sees of a photo without tiles.
fn square(preprocessor: &Preprocessor, photo: &Photo) -> Photo {
    let side = preprocessor.geometry.crop as u32;
    Photo { width: side, height: side, rgb: preprocessor.geometry.cut(photo) }
}

/// A photo, turned by a quarter.
pub(super) fn quarter_turn(photo: &Photo) -> Photo {
    let (width, height) = (photo.width as usize, photo.height as usize);
    let source = |i: usize| 3 * ((i % height) * width + width - 1 - i / height);
    let rgb = (0..width * height).flat_map(|i| photo.rgb[source(i)..][..3].iter().copied()).collect();
    Photo { width: photo.height, height: photo.width, rgb }
}
