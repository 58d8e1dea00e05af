//! The seven metrics and the per-region-overlap curve, against every case that the golden folder holds.

use std::collections::BTreeMap;
use std::path::Path;

use dinomaly_core::maps::metrics::{Metrics, ProCurve, Ranking, Sample, thresholds};
use dinomaly_tests::{golden, read_golden, read_json};
use safetensors::SafeTensors;
use serde_json::Value;

/// All is computed in f64 from the same f32 numbers; only the order of sums differs.
const TOLERANCE: f64 = 1e-12;

/// The f64 tensors of a file, unrounded.
fn read_f64(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let doubles = file.tensors().into_iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F64);
    let values = |data: &[u8]| data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    doubles.map(|(name, view)| (name, values(view.data()))).collect()
}

/// Counts what was compared, and fails on the first difference.
struct Comparison {
    case: String,
    compared: usize,
}

impl Comparison {
    /// A number, or `{"undefined": reason}` where the official code has none. A key that the folder lacks is not compared.
    fn number(&mut self, name: &str, found: Result<f64, String>, expected: &Value) {
        if expected.is_null() {
            return;
        }
        let case = &self.case;
        match (found, expected.as_f64()) {
            (Ok(found), Some(expected)) => {
                let difference = (found - expected).abs();
                assert!(
                    difference <= TOLERANCE * expected.abs().max(1.0),
                    "{case} {name}: {found}, expected {expected}"
                );
            }
            (Err(reason), None) if expected.get("undefined").is_some() => {
                println!("{case} {name}: undefined in both ({reason}; officially {})", expected["undefined"]);
            }
            (found, _) => panic!("{case} {name}: {found:?}, expected {expected}"),
        }
        self.compared += 1;
    }

    fn tensor(&mut self, name: &str, found: &[f64], expected: Option<&Vec<f64>>) {
        let Some(expected) = expected else { return };
        assert_eq!(found.len(), expected.len(), "{} {name}: number of values", self.case);
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!(
                (f - e).abs() <= TOLERANCE || f.is_nan() && e.is_nan(),
                "{} {name} {i}: {f}, expected {e}",
                self.case
            );
        }
        self.compared += 1;
    }
}

/// One case: all numbers in `expected.json` and all curves beside the maps.
fn compare(folder: &Path, case: &str, entry: &Value) -> usize {
    let path = folder.join(format!("{case}.safetensors"));
    if !path.is_file() {
        println!("not compared: {case} ({} is not there)", path.display());
        return 0;
    }
    let tensors = read_golden(&path);
    let (maps, width) = (&tensors["maps"].values, tensors["maps"].shape[2]);
    let pixels = width * tensors["maps"].shape[1];
    let mask: Vec<bool> = tensors["masks"].values.iter().map(|&m| m != 0.0).collect();
    let labels: Vec<bool> = tensors["image_labels"].values.iter().map(|&l| l != 0.0).collect();
    let scores = &tensors["image_scores"].values;
    let mut check = Comparison { case: case.into(), compared: 0 };

    let images = Ranking::new("image scores", &[(scores, Some(&labels))]).unwrap();
    let parts: Vec<(&[f32], Option<&[bool]>)> =
        maps.chunks_exact(pixels).zip(mask.chunks_exact(pixels)).map(|(map, mask)| (map, Some(mask))).collect();
    let ranked = Ranking::new("anomaly maps", &parts).unwrap();
    let curve = ProCurve::new(&ranked, &parts, &vec![width; parts.len()]).map_err(|e| e.to_string());
    let area = curve.clone().and_then(|curve| curve.area().map_err(|e| e.to_string()));
    let auroc = |ranking: &Ranking| ranking.auroc().map_err(|e| e.to_string());
    let values = [
        ("auroc_sp", auroc(&images)),
        ("ap_sp", Ok(images.average_precision())),
        ("f1max_sp", Ok(images.f1_max().value)),
        ("auroc_px", auroc(&ranked)),
        ("ap_px", Ok(ranked.average_precision())),
        ("f1max_px", Ok(ranked.f1_max().value)),
        ("aupro_official", area.clone()),
    ];
    let expected = &entry["expected"];
    for (name, value) in &values {
        check.number(name, value.clone(), &expected[name]);
    }
    let best = f64::from(ranked.f1_max().threshold);
    check.number("best_f1_threshold_px", Ok(best), &expected["best_f1_threshold_px"]);

    let stored = read_f64(&path);
    let (low, high) = ranked.range();
    if let Some(expected) = stored.get("pro_thresholds") {
        assert_eq!(&thresholds(low, high).unwrap(), expected, "{case}: thresholds, to the last bit");
    }
    let diagnostics = &entry["diagnostics"];
    match curve {
        Ok(curve) => {
            check.tensor("pro_thresholds", &curve.thresholds, stored.get("pro_thresholds"));
            check.tensor("pro_fprs", &curve.fprs, stored.get("pro_fprs"));
            check.tensor("pro_values", &curve.pros, stored.get("pro_values"));
            let below: Vec<f64> = curve.points().map(|(fpr, _)| fpr).collect();
            check.number("n_regions", Ok(curve.regions as f64), &diagnostics["n_regions"]);
            check.number("n_thresholds", Ok(curve.thresholds.len() as f64), &diagnostics["n_thresholds"]);
            check.number("n_points_below_0_3", Ok(below.len() as f64), &diagnostics["n_points_below_0_3"]);
            check.number(
                "max_fpr",
                Ok(below.iter().copied().fold(f64::MIN, f64::max)),
                &diagnostics["max_fpr_below_0_3"],
            );
            check.number("min_fpr", Ok(curve.fprs.iter().copied().fold(f64::MAX, f64::min)), &diagnostics["min_fpr"]);
            check.number("recomputed_from_curve", area, &diagnostics["recomputed_from_curve"]);
        }
        Err(reason) => assert!(!stored.contains_key("pro_values"), "{case}: no curve ({reason}), expected one"),
    }
    compare_table(case, &parts, &labels, scores, width, &values);
    check.compared
}

/// The table that an evaluation prints holds the same numbers, save those that mean nothing without anomalies.
fn compare_table(
    case: &str,
    parts: &[(&[f32], Option<&[bool]>)],
    labels: &[bool],
    scores: &[f32],
    width: usize,
    values: &[(&str, Result<f64, String>); 7],
) {
    let samples: Vec<Sample<'_>> = parts
        .iter()
        .zip(labels.iter().zip(scores))
        .map(|(&(map, mask), (&anomalous, &score))| Sample { map, width, mask, anomalous, score })
        .collect();
    let table = Metrics::of(&samples).unwrap();
    let defined = table.values().iter().flatten().count();
    assert_eq!(defined + table.undefined.len(), 7, "{case}: {:?}", table.undefined);
    let photos = labels.contains(&true);
    let pixels = parts.iter().any(|(_, mask)| mask.is_some_and(|mask| mask.contains(&true)));
    for (i, (found, (name, value))) in table.values().iter().zip(values).enumerate() {
        let meaningful = if i < 3 { photos } else { pixels };
        let expected = value.as_ref().ok().filter(|_| meaningful);
        assert_eq!(found.as_ref(), expected, "{case} {name}");
    }
}

#[test]
fn metrics_are_the_official_ones() {
    let folder = golden().join("metrics");
    if !folder.is_dir() {
        println!("not run: {} is not there", folder.display());
        return;
    }
    let expected = read_json(&folder.join("expected.json"));
    let cases = expected["cases"].as_object().expect("expected.json holds the cases");
    let mut compared = 0;
    for (case, entry) in cases {
        compared += compare(&folder, case, entry);
    }
    println!("compared {compared} numbers and curves of {} cases", cases.len());
    assert!(compared > 0, "{} holds no metric", folder.display());
}
