//! Decoding, resize, crop, normalisation and masks against Pillow and torchvision: bytes and floats must be equal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};
use dinomaly_core::photo::resize::resize;
use dinomaly_tests::{Golden, assert_close, golden, read_golden, read_json};
use serde_json::Value;

/// Both sides divide and subtract single-precision numbers in the same order: nothing differs.
const TOLERANCE: f32 = 0.0;

#[test]
fn photos() {
    let Some((folder, expected, tensors)) = open("expected_images.safetensors") else { return };
    for (name, golden) in &tensors {
        let (photo_name, what) = name.split_once('/').expect("photo/tensor");
        let photo = read_photo(&folder, &expected["images"][photo_name]["file"]);
        let mut parts = what.rsplit('_');
        if what == "rgb_u8_corner" {
            let corner: Vec<u8> =
                photo.rgb.chunks(3 * photo.width as usize).take(16).flat_map(|r| &r[..48]).copied().collect();
            assert_bytes(name, &corner, golden);
        } else if what.starts_with("resized_u8") {
            let side = number(parts.next());
            assert_bytes(name, &squash(&photo, side), golden);
        } else {
            let step = if what.ends_with("_every7th") { number(parts.next().map(|s| &s[5..6])) } else { 1 };
            let (crop, resize) = (number(parts.next()), number(parts.next()));
            let preprocessor = preprocessor(&expected, Geometry { resize, crop });
            let pixels = preprocessor.pixels(&photo);
            assert_close(name, &every(&pixels, crop, step), &golden.values, TOLERANCE);
            // The same numbers in the patch embedding's order.
            for patch in [1, 4, 7, 8, 14, 16].into_iter().filter(|patch| crop % patch == 0) {
                preprocessor.geometry.validate(patch).unwrap();
                let patches = preprocessor.patches(&photo, patch);
                assert_eq!(patches, into_patches(&pixels, crop, patch), "{name}: patches of {patch}");
            }
        }
    }
    println!("compared {} tensors of preprocess/expected_images", tensors.len());
}

#[test]
fn whole_photos_at_the_true_size() {
    let Some((folder, expected)) = open_figures() else { return };
    let images = expected["images"].as_object().expect("images");
    let mut compared = 0;
    for (name, about) in images {
        let photo = read_photo(&folder, &about["file"]);
        let size = [photo.width, photo.height].map(u64::from);
        assert_eq!(about["size_wh"], serde_json::json!(size), "{name}");
        compared += 1;
        if let Some(sums) = about["resized_448_u8_sum_per_channel"].as_array() {
            let bytes = squash(&photo, 448);
            let found: Vec<u64> =
                (0..3).map(|c| bytes.iter().skip(c).step_by(3).map(|&b| u64::from(b)).sum()).collect();
            assert_eq!(sums.iter().map(|s| s.as_u64().unwrap()).collect::<Vec<_>>(), found, "{name}");
            compared += 1;
        }
        if let Some(means) = about["tensor_448_392_mean_per_channel"].as_array() {
            let pixels = preprocessor(&expected, Geometry { resize: 448, crop: 392 }).pixels(&photo);
            for (channel, mean) in pixels.chunks_exact(392 * 392).zip(means) {
                let found = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / channel.len() as f64;
                assert!((found - mean.as_f64().unwrap()).abs() < 1e-6, "{name}: mean {found} instead of {mean}");
            }
            compared += 1;
        }
    }
    println!("compared {compared} figures of {} photos", images.len());
}

#[test]
fn masks() {
    let Some((folder, expected, tensors)) = open("expected_masks.safetensors") else { return };
    let mut compared = 0;
    for (name, golden) in &tensors {
        let (mask_name, what) = name.split_once('/').expect("mask/tensor");
        let mask = read_photo(&folder, &Value::String(format!("{mask_name}.png")));
        // tensor_<resize>_<crop>, nearest_<resize>_<crop>_to_<side>, bool_<resize>_<crop>_to_<side>
        let parts: Vec<&str> = what.split('_').collect();
        let geometry = Geometry { resize: number(parts.get(1).copied()), crop: number(parts.get(2).copied()) };
        let side = if parts.len() == 5 { number(parts.last().copied()) } else { geometry.crop };
        let found = geometry.mask(&mask, side);
        // Before the last step the official values are grey; what counts of them is where they are not 0.
        let anomalous: Vec<bool> = golden.values.iter().map(|&v| v != 0.0).collect();
        assert_eq!(golden.shape.iter().product::<usize>(), side * side, "{name}");
        assert_eq!(found, anomalous, "{name}");
        if let Some(count) = expected["masks"][format!("{mask_name}_{}_{}_{side}", geometry.resize, geometry.crop)]
            ["positive_if_nonzero"]
            .as_u64()
        {
            assert_eq!(found.iter().filter(|&&anomalous| anomalous).count() as u64, count, "{name}");
        }
        if what.starts_with("tensor") {
            assert_close(name, &grey_crop(&mask, geometry), &golden.values, 0.0);
        }
        compared += 1;
    }
    println!("compared {compared} tensors of preprocess/expected_masks");
}

#[test]
fn crop_offsets() {
    let Some((_, expected)) = open_figures() else { return };
    let offsets = expected["centre_crop_offset"].as_object().expect("centre_crop_offset");
    for (sides, offset) in offsets {
        let (resize, crop) = sides.split_once("->").expect("resize->crop");
        let geometry = Geometry { resize: number(Some(resize)), crop: number(Some(crop)) };
        // On a photo of the resized picture's size the region is the crop itself.
        let region = geometry.photo_region(geometry.resize as u32, geometry.resize as u32);
        assert_eq!(Some(region.x0), offset.as_f64(), "{sides}");
    }
    println!("compared {} crop offsets", offsets.len());
}

/// A mask's grey values in 0..=1 after resize and crop.
fn grey_crop(mask: &Photo, geometry: Geometry) -> Vec<f32> {
    let grey: Vec<u8> = mask.rgb.iter().step_by(3).copied().collect();
    let side = geometry.resize;
    let resized = resize::<1>(&grey, (mask.width as usize, mask.height as usize), (side, side));
    let offset = geometry.photo_region(side as u32, side as u32).x0 as usize;
    let rows = resized.chunks_exact(side).skip(offset).take(geometry.crop);
    rows.flat_map(|row| &row[offset..][..geometry.crop]).map(|&byte| f32::from(byte) / 255.0).collect()
}

/// The folder and its figures, or `None` after saying that the golden set has none of this.
fn open_figures() -> Option<(PathBuf, Value)> {
    assert!(golden().is_dir(), "{} is no folder of golden data", golden().display());
    let folder = golden().join("preprocess");
    let file = folder.join("expected.json");
    if !file.is_file() {
        println!("compared nothing: no {}", file.display());
        return None;
    }
    Some((folder, read_json(&file)))
}

/// [`open_figures`], with one of the folder's files of tensors.
fn open(tensors: &str) -> Option<(PathBuf, Value, BTreeMap<String, Golden>)> {
    let (folder, expected) = open_figures()?;
    let file = folder.join(tensors);
    if !file.is_file() {
        println!("compared nothing: no {}", file.display());
        return None;
    }
    Some((folder, expected, read_golden(&file)))
}

fn read_photo(folder: &Path, file: &Value) -> Photo {
    let name = file.as_str().expect("a file name");
    Photo::decode(name, &std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
}

fn preprocessor(expected: &Value, geometry: Geometry) -> Preprocessor {
    let channels = |name: &str| std::array::from_fn(|c| expected[name][c].as_f64().expect("a number") as f32);
    Preprocessor {
        geometry,
        tiles: None,
        mean: channels("mean"),
        std: channels("std"),
        window: None,
        resized: Resized::Bytes,
    }
}

fn squash(photo: &Photo, side: usize) -> Vec<u8> {
    resize::<3>(&photo.rgb, (photo.width as usize, photo.height as usize), (side, side))
}

fn number(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text:?} in a tensor's name is no number"))
}

/// Every `step`-th row and column of `[3, side, side]`.
fn every(pixels: &[f32], side: usize, step: usize) -> Vec<f32> {
    pixels
        .chunks_exact(side)
        .enumerate()
        .filter(|(y, _)| (y % side).is_multiple_of(step))
        .flat_map(|(_, row)| row.iter().step_by(step))
        .copied()
        .collect()
}

/// `[3, side, side]` → `[grid², 3·patch²]` by its definition.
fn into_patches(pixels: &[f32], side: usize, patch: usize) -> Vec<f32> {
    let grid = side / patch;
    (0..pixels.len())
        .map(|i| {
            let (row, inside) = (i / (3 * patch * patch), i % (3 * patch * patch));
            let (c, y, x) = (inside / (patch * patch), inside / patch % patch, inside % patch);
            pixels[(c * side + row / grid * patch + y) * side + row % grid * patch + x]
        })
        .collect()
}

fn assert_bytes(name: &str, found: &[u8], golden: &Golden) {
    let found: Vec<f32> = found.iter().map(|&byte| f32::from(byte)).collect();
    assert_close(name, &found, &golden.values, 0.0);
}
