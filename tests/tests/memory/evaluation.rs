//! What an evaluation holds in memory at once.

use std::process::Command;

use dinomaly::dataset::Dataset;
use dinomaly::inference::evaluation::evaluate_observed;
use dinomaly::inference::photo_detector::PhotoDetector;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;
use dinomaly_tests::demo_model;

use crate::peak;

/// Good photos of a class, and defective ones of each kind.
const PHOTOS: usize = 60;

#[test]
fn an_evaluation_holds_the_maps_of_one_class() {
    // With a threshold of its own, glibc's allocator keeps freed maps that lie between small blocks: 46 MB of 56, against 12.
    const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
    if std::env::var_os(THRESHOLD).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--nocapture", "an_evaluation_holds_the_maps_of_one_class"]).env(THRESHOLD, "131072");
        assert!(again.status().unwrap().success());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let classes = Class::ALL.to_vec();
    assert!(classes.len() >= 4);
    GenerationPlan { classes, size: 96, seed: 3, train: 0, good: PHOTOS, defective: 2 }
        .write(folder.path(), || Ok(()))
        .unwrap();
    let model = model_dir::read(&demo_model()).unwrap();
    let detector = PhotoDetector::new(&model).unwrap();
    let dataset = Dataset::open(folder.path(), &[]).unwrap();
    let mut peaks = Vec::new();
    let mut maps = Vec::new();
    evaluate_observed(&detector, &dataset, &mut |_, found| {
        peaks.push(peak().unwrap());
        maps.push(found.iter().map(|found| 4 * found.detection.map.values.len()).sum::<usize>());
        Ok(())
    })
    .unwrap();
    let (first, later) = (peaks[0], peaks[peaks.len() - 1] - peaks[0]);
    println!("{first} bytes after the first class, {later} more after {}; maps of each: {maps:?}", peaks.len());
    assert!(maps.iter().all(|&bytes| bytes > 4 << 20), "too little to be seen: {maps:?}");
    // All that could be kept of the others would be their maps. Some is what threads have for themselves: measured are 12 MB of 56.
    assert!(later < maps[1..].iter().sum::<usize>() / 2, "{later} more bytes after the first class");
}
