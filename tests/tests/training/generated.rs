//! The generated data set: equal everywhere, masks that tell the truth, not solvable pixel by pixel.

use dinomaly::synth::baseline::measure;
use dinomaly::synth::{Class, mask, scrap};
use image::RgbImage;

/// FNV-1a of a picture's bytes.
fn fingerprint(picture: &RgbImage) -> u64 {
    picture.as_raw().iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn pictures_are_the_same_on_every_machine() {
    let mut found: Vec<(String, u64)> = Class::ALL
        .into_iter()
        .flat_map(|class| {
            let made = class.defective(7, class.defects()[0], 3, 64);
            let good = (format!("{} good", class.name()), fingerprint(&class.good(7, "train", 3, 64)));
            [good, (format!("{} {}", class.name(), class.defects()[0]), fingerprint(&made.photo))]
        })
        .collect();
    let scraps = (0..60).fold(0_u64, |sum, i| sum.wrapping_add(fingerprint(&scrap(7, i, 48))));
    found.push(("60 scraps".into(), scraps));
    let expected: Vec<(String, u64)> =
        EXPECTED.iter().map(|&(name, fingerprint)| (name.to_string(), fingerprint)).collect();
    assert_eq!(found, expected, "a change of the generator makes the published demo model's data another");
}

/// FNV-1a of the pictures' bytes.
const EXPECTED: [(&str, u64); 9] = [
    ("blister good", 0xbd0c00e5fbe649b7),
    ("blister broken_capsule", 0x8e0a9c53ded1528d),
    ("board good", 0xfd93761a410576a3),
    ("board contamination", 0x152007f8bcbcf024),
    ("fabric good", 0xbaefe019c5a56b7a),
    ("fabric broken_thread", 0xfc50a17e36609591),
    ("gear good", 0x41e44512b2ca27b7),
    ("gear broken_tooth", 0x03c30a38aaf1969e),
    ("60 scraps", 0x1b76c0a018efc30f),
];

#[test]
fn masks_hold_all_of_the_change_and_the_change_is_visible() {
    for class in Class::ALL {
        for &kind in class.defects() {
            for index in 0..4 {
                let what = format!("{} {kind} {index}", class.name());
                let made = class.defective(11, kind, index, 224);
                for ((bad, good), mask) in made.photo.pixels().zip(made.good.pixels()).zip(made.mask.pixels()) {
                    assert!(mask[0] == 255 || (mask[0] == 0 && bad == good), "{what}: a change outside the mask");
                }
                let marked = || made.mask.enumerate_pixels().filter(|(.., p)| p[0] > 0);
                for places in [marked().map(|(x, ..)| x).collect::<Vec<_>>(), marked().map(|(_, y, _)| y).collect()] {
                    let extent = places.iter().max().unwrap() - places.iter().min().unwrap();
                    assert!(extent < 155, "{what}: the change is scattered over {extent} of 224 pixels");
                }
                let (area, change) = mask::visibility(&made.good, &made.photo, &made.mask);
                assert!((0.004..0.15).contains(&area), "{what}: the mask covers {area} of the photo");
                assert!(change > 18.0, "{what}: a mean change of {change} levels");
            }
        }
    }
}

#[test]
fn pixels_alone_do_not_find_the_defects() {
    let size = 128;
    for class in Class::ALL {
        let train: Vec<RgbImage> = (0..60).map(|i| class.good(1, "train", i, size)).collect();
        let mut test: Vec<_> = (0..40).map(|i| (class.good(1, "test", i, size), None)).collect();
        for &kind in class.defects() {
            test.extend((0..8).map(|i| class.defective(1, kind, i, size)).map(|made| (made.photo, Some(made.mask))));
        }
        println!("{:42} I-AUROC  P-AUROC", class.name());
        for found in measure(&train, &test).unwrap() {
            println!("{:42} {:7.1}  {:7.1}", found.detector.name(), 100.0 * found.image, 100.0 * found.pixel);
            assert!(found.image < 0.70, "{}: {found:?}", class.name());
        }
    }
}
