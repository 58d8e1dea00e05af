//! The demo model that the repository carries, on the generated test photos that its card names.

use std::path::{Path, PathBuf};

use dinomaly::dataset::Dataset;
use dinomaly::inference::comparison::BeforeAfter;
use dinomaly::inference::evaluation::evaluate;
use dinomaly::inference::photo_detector::PhotoDetector;
use dinomaly::model_dir;
use dinomaly::publish::moments;
use dinomaly::synth::Class;
use dinomaly::synth::dataset::GenerationPlan;
use dinomaly_core::bundle::Model;
use dinomaly_core::maps::metrics::Metrics;
use dinomaly_core::quant::{Format, dequantize, quantize_to};
use dinomaly_core::tensor::named::Weights;
use dinomaly_tests::demo_model;

/// As `dinomaly generate DATA --good 40 --defective 10` draws them; a photo does not depend on how many are drawn.
fn photos(folder: &Path, seed: u64, train: usize) -> Dataset {
    let data = folder.join(format!("data{seed}"));
    let plan = GenerationPlan { classes: Class::ALL.to_vec(), size: 256, seed, train, good: 40, defective: 10 };
    plan.write(&data, || Ok(())).unwrap();
    Dataset::open(&data, &[]).unwrap()
}

fn model() -> Model {
    model_dir::read(&demo_model()).unwrap()
}

#[test]
fn the_embedded_model_finds_the_defects_of_its_test_photos() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = photos(folder.path(), 1, 1);
    let model = model();
    let detector = PhotoDetector::new(&model).unwrap();
    let found = evaluate(&detector, &dataset).unwrap();
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

/// Shares of photos that are called unknown. Real photos are none of its products; drawn ones of a seed that it has not seen are.
#[test]
fn the_embedded_model_knows_its_products_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, model) = (photos(folder.path(), 77, 1), model());
    let detector = PhotoDetector::new(&model).unwrap();
    let products = |paths: &[PathBuf]| -> Vec<(String, bool)> {
        let of = |descriptor: &[f32]| model.calibration.recognise(descriptor).unwrap().unwrap();
        let measured = detector.measured(paths).unwrap();
        measured
            .iter()
            .map(|(_, descriptor)| of(descriptor))
            .map(|found| (found.nearest.to_owned(), found.unknown))
            .collect()
    };
    let share = |what: &str, found: &[(String, bool)]| {
        let unknown = found.iter().filter(|(_, unknown)| *unknown).count();
        println!("{what}: {unknown} of {} are unknown", found.len());
        100.0 * unknown as f64 / found.len() as f64
    };
    let mut of_kind = [Vec::new(), Vec::new()];
    for class in &dataset.classes {
        let paths: Vec<_> = class.test.iter().map(|photo| photo.path.clone()).collect();
        for (photo, found) in class.test.iter().zip(products(&paths)) {
            assert_eq!(found.0, class.name, "{}", photo.path.display());
            of_kind[usize::from(photo.defect.is_some())].push(found);
        }
    }
    for (what, found) in ["good", "defective"].iter().zip(&of_kind) {
        assert!(share(what, found) <= 2.0, "{what}");
    }
    let Some(data) = dinomaly_tests::data() else { return };
    for product in ["screw", "magnetic_tile", "pcb", "few/bottle", "few/capsule", "few/leather"] {
        let of = Dataset::open(&data.join(product), &[]).unwrap();
        let test = of.classes.iter().flat_map(|class| class.test.iter().map(|photo| photo.path.clone()));
        // A third of them says as much, in a third of the time.
        let paths: Vec<_> = test.step_by(if product.starts_with("few") { 1 } else { 3 }).collect();
        assert!(share(product, &products(&paths)) >= 90.0, "{product}");
    }
}

/// The repository carries its int8 weights: widened, they are what is rounded here. Points that each metric may change by.
#[test]
fn the_embedded_model_loses_little_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = photos(folder.path(), 1, 8);
    let mut original = model();
    original.weights = dequantize(&original.weights);
    original.self_test = None;
    let good: Vec<_> = dataset.classes.iter().flat_map(|class| class.train.clone()).collect();
    let moments = moments::of_photos(&original, &good).unwrap();
    let found = |weights: Weights| {
        let detector = PhotoDetector::new(&Model { weights, ..original.clone() }).unwrap();
        evaluate(&detector, &dataset).unwrap()
    };
    let before = found(original.weights.clone());
    for (name, format, most) in [("f16", Format::F16, 0.2), ("int8", Format::Int8, 0.2), ("int4", Format::Int4, 1.0)] {
        let after = found(quantize_to(&original.weights, format, &moments).unwrap().0);
        println!("{}", BeforeAfter { before: ("before", &before), after: (name, &after) }.markdown());
        for (metric, (b, a)) in Metrics::NAMES.iter().zip(before.mean.values().into_iter().zip(after.mean.values())) {
            let lost = 100.0 * (b.unwrap() - a.unwrap());
            assert!(lost <= most, "{name} costs {lost:.2} points of {metric}, at most {most} are allowed");
        }
    }
}
