//! Models and sites that earlier versions wrote: `tests/fixtures/released`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::workshop::{Workshop, names};

/// Scores of one program on two machines differ by less: sums in f32 are taken in another order.
const NOISE: f64 = 1e-5;

fn released() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/released");
    let formats: Vec<PathBuf> =
        names(&folder).iter().map(|name| folder.join(name)).filter(|path| path.is_dir()).collect();
    assert!(!formats.is_empty());
    formats
}

#[test]
fn models_of_earlier_versions_give_the_same_scores() {
    let shop = Workshop::new();
    for folder in released() {
        let models: Vec<String> =
            names(&folder).into_iter().filter(|name| name.starts_with("model") && !name.contains('.')).collect();
        assert!(!models.is_empty());
        for model in models {
            let mut command = shop.command("detect --json");
            command.current_dir(&folder).args([&model, "photos"]);
            let found: Vec<Value> = serde_json::from_str(&shop.succeed(command)).unwrap();
            let expected = fs::read(folder.join(format!("{model}.scores.json"))).unwrap();
            let expected: Vec<Value> = serde_json::from_slice(&expected).unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found["photo"], expected["photo"]);
                let [found, expected] = [found, expected].map(|row| row["score"].as_f64().unwrap());
                assert!((found - expected).abs() <= NOISE * expected, "{model}: {found}, {expected} expected");
            }
        }
    }
}

#[test]
fn a_site_of_an_earlier_version_is_known_as_one_and_replaced() {
    let shop = Workshop::new();
    for folder in released() {
        let site = shop.path("site");
        crate::foreign_folders::copy(&folder.join("site"), &site);
        let modules = folder.join("site/wasm").display().to_string();
        let model = folder.join("model-f16").display().to_string();
        let again = format!("site {model} --wasm {modules} --out @site");
        fs::write(site.join("CNAME"), "example.org").unwrap();
        let error = shop.refuse(shop.command(&again));
        assert!(error.contains("(CNAME)"), "{error}");
        fs::remove_file(site.join("CNAME")).unwrap();
        shop.succeed(shop.command(&again));
        fs::remove_dir_all(&site).unwrap();
    }
}
