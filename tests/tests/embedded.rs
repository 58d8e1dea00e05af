//! The demo model that the repository carries, on the generated test photos that its card names.

use std::path::Path;

use candle_core::Device;
use dinomaly::dataset::Dataset;
use dinomaly::detect::PhotoDetector;
use dinomaly::evaluate::evaluate;
use dinomaly::model_dir;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::Plan;

/// As `dinomaly generate DATA --good 40 --defective 10` draws them; a photo does not depend on how many are drawn.
#[test]
fn the_embedded_model_finds_the_defects_of_its_test_photos() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let plan = Plan { classes: Class::ALL.to_vec(), size: 256, seed: 1, train: 1, good: 40, defective: 10 };
    plan.write(&data, || Ok(())).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../native/assets/demo-model");
    let model = model_dir::read(&model).unwrap();
    let detector = PhotoDetector::new(&model).unwrap();
    let dataset = Dataset::open(&data, &[]).unwrap();
    let found = evaluate(&detector, model.preprocessor.geometry, &dataset).unwrap();
    println!("{}", found.table());
    for (name, value) in [("I-AUROC", found.mean.i_auroc), ("P-AUROC", found.mean.p_auroc)] {
        let value = value.unwrap();
        assert!(value >= 0.95, "{name} is {:.2}, the promise is 95", 100.0 * value);
    }

    // Good photos above the threshold, and defective ones.
    let (mut good, mut alarms, mut defective, mut caught) = (0, 0, 0, 0);
    for class in &dataset.classes {
        let paths: Vec<_> = class.test.iter().map(|photo| photo.path.clone()).collect();
        let threshold = model.calibration.of_class(Some(&class.name)).threshold;
        for (photo, score) in class.test.iter().zip(detector.scores(&paths).unwrap()) {
            let (photos, above) =
                if photo.defect.is_some() { (&mut defective, &mut caught) } else { (&mut good, &mut alarms) };
            *photos += 1;
            *above += u32::from(score > threshold);
        }
    }
    println!("{alarms} of {good} good photos and {caught} of {defective} defective ones are above their thresholds");
    // One in a hundred is meant: more than six of 160 would be by chance one time in two hundred.
    assert!(alarms <= 6 && 100 * caught >= 80 * defective);
}
