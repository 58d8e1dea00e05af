//! Photos of every kind against Pillow: `fixtures/photos/make.py` wrote them and what Pillow makes of them.

use std::path::PathBuf;

use dinomaly_core::photo::decode::Photo;
use dinomaly_tests::fixtures;

/// How far a decoder may be from Pillow's, in levels: largest difference and mean.
///
/// All formats are exact but JPEG, which leaves rounding and the smoothing of reduced colour to the decoder. These
/// photos, tiny and steep in colour, show the worst of it.
fn tolerance(name: &str) -> (u8, f64) {
    match name {
        _ if name.ends_with(".jpg") => (4, 0.5),
        // The decoder rounds CMYK down, Pillow to the nearest.
        "cmyk.tif" => (1, 0.5),
        _ => (0, 0.0),
    }
}

#[test]
fn every_kind_decodes_as_pillow_does() {
    let mut names: Vec<String> =
        std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut compared = 0;
    for expected in names.iter().filter(|name| name.ends_with(".rgb.png")) {
        let name = expected.trim_end_matches(".rgb.png");
        let [found, expected] = [name, expected].map(read);
        assert_eq!((found.width, found.height), (expected.width, expected.height), "{name}");
        let differences: Vec<u8> = found.rgb.iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b)).collect();
        let largest = *differences.iter().max().unwrap();
        let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
        println!("{name}: largest difference {largest}, mean {mean:.3}");
        let (most, most_mean) = tolerance(name);
        assert!(largest <= most && mean <= most_mean, "{name}: largest difference {largest}, mean {mean}");
        compared += 1;
    }
    assert!(compared > 30, "only {compared} photos in {}", folder().display());
    println!("compared {compared} photos");
}

/// Cut anywhere, a file is refused or, where nothing of the picture is missing, read in full: never half a picture.
#[test]
fn no_kind_is_read_by_half() {
    let mut cuts = 0;
    for file in std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap();
        let Ok(whole) = Photo::decode("whole", &bytes) else { continue };
        for length in 0..bytes.len() {
            if let Ok(cut) = Photo::decode("cut", &bytes[..length]) {
                assert_eq!(cut, whole, "{} cut to {length} of {} bytes", file.display(), bytes.len());
            }
            cuts += 1;
        }
    }
    assert!(cuts > 10_000, "only {cuts} cuts");
}

fn folder() -> PathBuf {
    fixtures("photos")
}

fn read(name: &str) -> Photo {
    Photo::decode(name, &std::fs::read(folder().join(name)).unwrap()).unwrap()
}
