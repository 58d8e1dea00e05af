//! `detect --drift`: scores kept over runs, and a word when they have moved away.

use serde_json::Value;

use crate::workshop::{Workshop, names};

#[test]
fn scores_are_kept_over_runs_and_a_drift_is_said() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    shop.succeed(shop.command("fewshot @data --out @few --backbone @encoder.safetensors --size 64 --layers 2,5,8"));
    let photos = format!("@data/{class}/test/good ");
    let error = shop.refuse(shop.command(&format!("detect @few {photos} --class {class} --drift @line.json")));
    assert!(error.contains("calibrated with 10 good photos, which cannot tell drift"), "{error}");

    // Both classes together have 20.
    let run = |times: usize| {
        let output = shop.command(&format!("detect @few --drift @line.json --json {}", photos.repeat(times))).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        (rows, said)
    };
    let (rows, said) = run(13);
    assert_eq!((&rows[38]["drift"]["photos"], &rows[38]["drift"]["index"]), (&39.into(), &Value::Null));
    assert!(said.contains("drift: 39 photos so far, 100 say something"), "{said}");
    let (rows, said) = run(22);
    let last = &rows[65]["drift"];
    assert_eq!(
        (&last["photos"], &last["drifted"]),
        (&105.into(), &true.into()),
        "three photos, again and again: {last}"
    );
    assert!(last["index"].as_f64().unwrap() >= last["alarm"].as_f64().unwrap());
    assert!(said.contains("the line has moved away from its calibration"), "{said}");
    assert_eq!(names(&shop.path("")).iter().filter(|name| name.starts_with("line")).count(), 1);

    std::fs::write(shop.path("line.json"), "mine").unwrap();
    let error = shop.refuse(shop.command(&format!("detect @few {photos} --drift @line.json")));
    assert!(error.contains("line.json holds no scores that detect --drift wrote"), "{error}");
    assert_eq!(std::fs::read_to_string(shop.path("line.json")).unwrap(), "mine");
}
