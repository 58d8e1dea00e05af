//! Encoders on a site, for detectors that visitors make.

use std::fs;

use dinomaly::model_dir;
use serde_json::Value;

use crate::foreign_folders::fake_modules;
use crate::workshop::Workshop;

#[test]
fn a_site_offers_encoders_without_their_heads_with_and_without_models() {
    let shop = Workshop::new();
    fake_modules(&shop.path("modules"));
    let site = "site --encoder @encoder.safetensors --wasm @modules --out @site";
    shop.succeed(shop.command(site));
    let read = || -> Value { serde_json::from_slice(&fs::read(shop.path("site/models.json")).unwrap()).unwrap() };
    let index = read();
    let [encoder] = &index["encoders"].as_array().unwrap()[..] else { panic!("{index}") };
    assert_eq!((&encoder["name"], &index["models"]), (&Value::from("encoder"), &serde_json::json!([])));
    assert_eq!(encoder["classes"], serde_json::json!([]));
    assert_eq!(index["program"], env!("CARGO_PKG_VERSION"));
    let files = encoder["files"].as_object().unwrap();
    assert!(files.keys().any(|name| name.starts_with("encoder-")), "{encoder}");
    assert!(!files.keys().any(|name| name.starts_with("head-")), "{encoder}");
    let sizes = files.values().map(|path| fs::metadata(shop.path("site").join(path.as_str().unwrap())).unwrap().len());
    assert_eq!(encoder["bytes"], sizes.sum::<u64>());

    // A site with encoders is known as one, and replaced. The embedded encoder goes by its name.
    shop.succeed(shop.command(&format!("{site} --encoder embedded")));
    let index = read();
    assert_eq!(index["encoders"][1]["name"], "embedded");
    shop.succeed(shop.train("model", "--iterations 2"));
    shop.succeed(shop.command(&site.replace("site --", "site @model --")));
    let index = read();
    let manifest = model_dir::read_manifest(&shop.path("model")).unwrap();
    assert_eq!(
        (&index["models"][0]["name"], index["encoders"].as_array().unwrap().len()),
        (&Value::from(manifest.name), 1)
    );

    shop.succeed(shop.command("site @model --wasm @modules --out @site"));
    let index = read();
    assert!(index.get("encoders").is_none(), "{index}");
}

#[test]
fn what_is_no_encoder_is_refused_by_name() {
    let shop = Workshop::new();
    fake_modules(&shop.path("modules"));
    let error = shop.refuse(shop.command("site --encoder nobody --wasm @modules --out @site"));
    assert!(error.contains("encoder nobody cannot be offered"), "{error}");
    let nothing = shop.command("site --wasm @modules --out @site").output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(!shop.path("site").exists());
}
