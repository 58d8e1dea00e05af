//! Looks at every photo of a folder: one line each, and a heatmap as PNG.
//!
//! `cargo run --release -p dinomaly-core --example detect_folder -- MODEL PHOTOS HEATMAPS`

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use dinomaly_core::{Detector, Model, Processor};

/// Opacity of the heatmap where something is unusual.
const OPACITY: f32 = 0.5;

/// Endings of the files that are looked at.
const ENDINGS: [&str; 9] = ["bmp", "jpeg", "jpg", "jpe", "jfif", "png", "tif", "tiff", "webp"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, photos, heatmaps] = &arguments[..] else {
        return Err("usage: detect_folder MODEL PHOTOS HEATMAPS (three folders)".into());
    };
    let model = Model::read(|name| fs::read(model.join(name)))?;
    let detector = Detector::new(Processor::default(), &model)?;
    fs::create_dir_all(heatmaps)?;

    for path in photos_in(photos)? {
        let name = path.file_name().unwrap_or_default();
        // A photo that cannot be read is named, and the others are looked at.
        let photo = match detector.decode(&name.to_string_lossy(), &fs::read(&path)?) {
            Ok(photo) => photo,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let detection = detector.detect_now(&photo)?;
        // The thresholds of the product that the photo shows; of an earlier version's model, those of all together.
        let product = model.calibration.recognise(&detection.descriptor)?;
        let threshold = model.calibration.of_class(product.map(|product| product.nearest)).threshold;
        let verdict = match product {
            Some(product) if product.unknown => "unknown",
            _ if detection.score > threshold => "defective",
            _ => "good",
        };
        println!("{}\t{:.4}\t{verdict}", name.display(), detection.score);

        // The photo's whole name stays: `a.jpg` and `a.png` may lie side by side.
        let file = heatmaps.join(name).with_added_extension("png");
        fs::write(file, detection.heatmap(&photo, threshold, OPACITY)?.to_png()?)?;
    }
    Ok(())
}

/// The photos directly inside a folder, by name.
fn photos_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_photo = |path: &PathBuf| {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
        ENDINGS.contains(&ending.as_str())
    };
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut photos: Vec<_> = paths.into_iter().filter(is_photo).collect();
    photos.sort();
    Ok(photos)
}
