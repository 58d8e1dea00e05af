//! `publish`, and models on the hub in every command that takes models, against a hub that keeps what it gets.

use std::fs;
use std::path::Path;
use std::process::Command;

use dinomaly_core::bundle::Manifest;
use serde_json::{Value, json};

use crate::hub_server::{Fault, HubServer, READS, WRITES};
use crate::workshop::{Workshop, names};

const REPO: &str = "models/acme/parts";
const SMALL: &str = "--backbone @encoder.safetensors --size 64 --layers 2,5,8";

/// A workshop with a model of two classes, without training, and an empty hub.
fn begun() -> (Workshop, HubServer) {
    let shop = Workshop::new();
    shop.succeed(shop.command(&format!("fewshot @data --out @model --memory bank {SMALL}")));
    (shop, HubServer::new())
}

/// A photo of the workshop's data.
fn photo(shop: &Workshop) -> String {
    format!("@data/{}/test/good/000.png", names(&shop.path("data"))[0])
}

fn offline(mut command: Command) -> Command {
    command.env("HF_HUB_OFFLINE", "1");
    command
}

#[test]
fn what_was_published_is_read_back_by_every_command() {
    let (shop, hub) = begun();
    let photo = photo(&shop);
    let anybody = |arguments: &str| hub.command(&shop, arguments, None);
    let said = shop.succeed(hub.command(&shop, "publish @model hf:acme/parts", Some(WRITES)));
    assert!(said.contains("hf:acme/parts: ") && said.contains("/acme/parts\n"), "{said}");
    let manifest = Manifest::parse(&hub.read(REPO, "main", "manifest.json")).unwrap();
    let files = hub.files(REPO, "main");
    for file in &manifest.files {
        assert_eq!(files[&file.name], file.kind.is_shard(), "{}: large or not", file.name);
    }
    assert_eq!(files.len(), manifest.files.len() + 2, "and .gitattributes, and no training record: {files:?}");

    let local = shop.succeed(shop.command(&format!("detect @model {photo}")));
    hub.log();
    assert_eq!(shop.succeed(anybody(&format!("detect hf:acme/parts {photo}"))), local);
    let log = hub.log();
    assert!(log.iter().all(|line| !line.contains(".gitattributes")), "{log:?}");
    // One question whether there is a newer one.
    assert_eq!(shop.succeed(anybody(&format!("detect hf:acme/parts {photo}"))), local);
    assert_eq!(hub.log().len(), 1);
    assert_eq!(shop.succeed(offline(anybody(&format!("detect hf:acme/parts {photo}")))), local);
    let commit = hub.commit(REPO, "main");
    assert_eq!(shop.succeed(anybody(&format!("detect hf:acme/parts@{commit} {photo}"))), local);
    assert!(hub.log().is_empty(), "a commit never changes");

    let modules = shop.path("modules");
    fs::create_dir(&modules).unwrap();
    for half in dinomaly::site::page::halves("cpu") {
        fs::write(modules.join(half), "half").unwrap();
    }
    let class = names(&shop.path("data")).remove(0);
    for (words, made) in [
        ("inspect hf:acme/parts".to_owned(), ""),
        ("bench hf:acme/parts".to_owned(), ""),
        (format!("evaluate hf:acme/parts @data --classes {class} --json @metrics.json"), "metrics.json"),
        ("calibrate hf:acme/parts @data --out @calibrated".to_owned(), "calibrated/manifest.json"),
        ("quantize hf:acme/parts --to f16 --out @half".to_owned(), "half/manifest.json"),
        ("export hf:acme/parts --out @model.onnx".to_owned(), "model.onnx"),
        ("site hf:acme/parts @model --wasm @modules --out @site".to_owned(), "site/models.json"),
    ] {
        let said = shop.succeed(anybody(&words));
        assert!(if made.is_empty() { !said.is_empty() } else { shop.path(made).is_file() }, "{words}: {said}");
    }
}

#[test]
fn an_earlier_model_gives_way_and_what_others_wrote_stays() {
    let (shop, hub) = begun();
    shop.succeed(shop.command("quantize @model --to int8 --out @int8"));
    let publish = |arguments: &str| hub.command(&shop, &format!("publish {arguments}"), Some(WRITES));
    shop.succeed(publish("@model hf:acme/parts --message First"));
    let old = hub.files(REPO, "main");
    let first = hub.commit(REPO, "main");
    hub.edit(REPO, "main", "notes.txt", b"by hand");
    hub.edit(REPO, "main", "training.json", b"of others");
    hub.edit(REPO, "main", "README.md", b"---\nlicense: mit\n---\n# Edited on the hub\n");

    // Edited cards are read, and the model stays what it is.
    let detect = |place: &str| shop.succeed(hub.command(&shop, &format!("detect {place} {}", photo(&shop)), None));
    let before = detect("@model");
    assert_eq!(detect("hf:acme/parts"), before);
    shop.succeed(hub.command(&shop, "calibrate hf:acme/parts @data --out @again", None));
    assert!(fs::read_to_string(shop.path("again/README.md")).unwrap().contains("# Edited on the hub"));

    let said = shop.succeed(publish("@int8 hf:acme/parts"));
    assert!(said.contains("removed of an earlier one: encoder-"), "{said}");
    let new = hub.files(REPO, "main");
    assert!(["notes.txt", "training.json", ".gitattributes"].iter().all(|name| new.contains_key(*name)), "{new:?}");
    let shards = |files: &std::collections::BTreeMap<String, bool>| -> Vec<String> {
        files.keys().filter(|name| name.ends_with(".safetensors")).cloned().collect()
    };
    assert!(shards(&new).iter().all(|name| !shards(&old).contains(name)), "{new:?}");
    let by_hand = "Edited by hand";
    assert_eq!(hub.facts(REPO).2, ["initial commit", "First", by_hand, by_hand, by_hand, "Publish int8"]);
    assert_eq!(detect("hf:acme/parts"), detect("@int8"));
    assert_eq!(detect(&format!("hf:acme/parts@{first}")), before);

    // The same again changes nothing, and sends nothing.
    hub.log();
    let said = shop.succeed(publish("@int8 hf:acme/parts"));
    assert!(said.contains("has these files already"), "{said}");
    assert!(hub.log().iter().all(|line| line.starts_with("GET ")));
    // A published model that is published again has one card, not two.
    shop.succeed(publish("hf:acme/parts hf:acme/copy"));
    let card = String::from_utf8(hub.read("models/acme/copy", "main", "README.md")).unwrap();
    assert_eq!([card.matches("## Use").count(), card.matches("hf:acme/parts").count()], [1, 0], "{card}");

    // A branch of its own.
    shop.succeed(publish("@model hf:acme/parts --revision float"));
    assert_eq!([detect("hf:acme/parts@float"), detect("hf:acme/parts")], [before, detect("@int8")]);
}

#[test]
fn a_card_says_what_the_hub_searches_for() {
    let (shop, hub) = begun();
    shop.succeed(shop.command("evaluate @model @data --json @metrics.json"));
    let words = "publish @model hf:acme/parts --metrics @metrics.json --dataset drawn --license mit --dry-run";
    let card = shop.succeed(hub.command(&shop, words, None));
    assert!(hub.log().is_empty(), "a dry run needs neither token nor network");
    let line = card.lines().find_map(|line| line.strip_prefix("model-index: ")).unwrap();
    let index: Value = serde_json::from_str(line).unwrap();
    let results = index[0]["results"].as_array().unwrap();
    let metrics: Value = serde_json::from_slice(&fs::read(shop.path("metrics.json")).unwrap()).unwrap();
    assert_eq!(results.len(), 1 + metrics["classes"].as_array().unwrap().len());
    assert_eq!(results[0]["metrics"].as_array().unwrap().len(), 7);
    assert_eq!(results[0]["metrics"][6], json!({"name": "AUPRO", "type": "aupro", "value": metrics["mean"]["aupro"]}));
    for part in [
        "---\nlibrary_name: dinomaly\n",
        "\nlicense: \"mit\"\n",
        "\n## Thresholds\n",
        "manifest.json",
        "nothing was sent",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }

    let error = shop.refuse(hub.command(&shop, &words.replace("metrics.json", "encoder.safetensors"), None));
    assert!(error.contains("holds no metrics"), "{error}");
    fs::write(shop.path("none.json"), "{}").unwrap();
    let error = shop.refuse(hub.command(&shop, &words.replace("metrics.json", "none.json"), None));
    assert!(error.contains("no metric that is defined"), "{error}");
    fs::write(shop.path("one.json"), r#"{"i_auroc": 0.5}"#).unwrap();
    let card = shop.succeed(hub.command(&shop, &words.replace("metrics.json", "one.json"), None));
    assert!(card.contains(r#""value":0.5"#) && card.contains("| mean | 50.0 |"), "{card}");
}

#[test]
fn a_publication_that_broke_goes_on_where_it_broke() {
    let (shop, hub) = begun();
    let publish = || hub.command(&shop, "publish @model hf:acme/parts --private", Some(WRITES));
    // Busy at each step, it succeeds all the same.
    for step in ["GET /api/models", "/repos/create", "/preupload/", "/objects/batch", "PUT ", "/verify", "/commit/"] {
        hub.next(step, Fault::Status(503));
    }
    // The second content is refused for good.
    hub.next("PUT ", Fault::Status(503));
    hub.next("PUT ", Fault::Status(403));
    let error = shop.refuse(publish());
    assert!(
        error.contains("the store of large files answers 403") && error.contains("run the command again"),
        "{error}"
    );
    assert_eq!(hub.files(REPO, "main").len(), 1, "nothing is half there");
    let sent = |log: &[String]| log.iter().filter(|line| line.starts_with("PUT ")).count();
    let all = hub.log();
    assert!(sent(&all) > 0, "{all:?}");
    shop.succeed(publish());
    let shards = hub.files(REPO, "main").values().filter(|is_large| **is_large).count();
    assert_eq!(shards, 2);
    // One was refused, the other one arrived or did not, as they come.
    assert!(sent(&hub.log()) <= shards);
    assert!(hub.facts(REPO).0, "private");

    fs::remove_dir_all(shop.path("home")).ok();
    let detect = format!("detect hf:acme/parts {}", photo(&shop));
    let error = shop.refuse(hub.command(&shop, &detect, None));
    assert!(error.contains("has no model repository acme/parts that everybody may read"), "{error}");
    shop.succeed(hub.command(&shop, &detect, Some(READS)));

    // A commit whose answer is lost is ours all the same.
    hub.next("/commit/", Fault::Lost);
    let said = shop.succeed(hub.command(&shop, "publish @model hf:acme/lost", Some(WRITES)));
    assert!(said.contains("/acme/lost\n"), "{said}");
    assert_eq!(hub.facts("models/acme/lost").2, ["initial commit", "Publish model"]);
}

#[test]
fn what_cannot_be_published_is_refused_in_a_sentence() {
    let (shop, hub) = begun();
    let refuse = |words: &str, token: Option<&str>| shop.refuse(hub.command(&shop, words, token));
    let error = refuse("publish @model hf:acme/parts", None);
    assert!(error.contains("publishing needs a token") && error.contains("set HF_TOKEN"), "{error}");
    let error = refuse("publish @model hf:acme/parts", Some(READS));
    assert!(error.contains("this token may not write to model repository acme/parts"), "{error}");
    let error = refuse("publish @model hf:others/parts", Some(WRITES));
    assert!(error.contains("may not write to model repository others/parts"), "{error}");
    let error = refuse("publish @model hf:acme/parts", Some("hf_wrong_secret"));
    assert!(error.contains("does not know this token (Invalid credentials (token))"), "{error}");
    let mut unread = hub.command(&shop, "publish @model hf:acme/parts", Some(WRITES));
    unread.env("HF_HUB_OFFLINE", "1");
    assert!(shop.refuse(unread).contains("HF_HUB_OFFLINE forbids"));
    hub.log();
    let error = refuse("publish @data hf:acme/parts", Some(WRITES));
    assert!(error.contains("data cannot be used") && error.contains("not a model folder"), "{error}");
    let error = refuse("publish @model hf:acme/parts/nut", Some(WRITES));
    assert!(error.contains("is a folder of a repository"), "{error}");
    let error = refuse("publish @model hf:acme/parts --space", Some(WRITES));
    assert!(error.contains("is no folder that `dinomaly site` wrote"), "{error}");
    let error = refuse("publish @model hf:acme/parts@a --revision b", Some(WRITES));
    assert!(error.contains("names a branch already"), "{error}");
    let unowned = hub.command(&shop, "publish @model hf:parts", Some(WRITES)).output().unwrap();
    assert!(String::from_utf8_lossy(&unowned.stderr).contains("names no owner"), "{unowned:?}");
    assert!(hub.log().is_empty(), "none of these asked the hub");

    // A model of others is no place for ours.
    hub.make("models/acme/other");
    hub.edit("models/acme/other", "main", "config.json", b"{}");
    let error = refuse("publish @model hf:acme/other", Some(WRITES));
    assert!(error.contains("has files of others where new ones would be (config.json)"), "{error}");
    assert_eq!(hub.read("models/acme/other", "main", "config.json"), b"{}");
    // Nor is it when its history was made one commit.
    hub.squash("models/acme/other");
    let error = refuse("publish @model hf:acme/other", Some(WRITES));
    assert!(error.contains("has files of others where new ones would be (config.json)"), "{error}");
    shop.succeed(hub.command(&shop, "publish @model hf:acme/other --replace", Some(WRITES)));
    // A README that people wrote stays, one that the hub made does not.
    hub.make("models/acme/begun");
    hub.edit("models/acme/begun", "main", "README.md", b"---\nlicense: mit\n---\n# Ours\n");
    hub.squash("models/acme/begun");
    let error = refuse("publish @model hf:acme/begun", Some(WRITES));
    assert!(error.contains("has files of others where new ones would be (README.md)"), "{error}");
    hub.edit("models/acme/begun", "main", "README.md", b"---\nlicense: mit\n---\n");
    hub.squash("models/acme/begun");
    shop.succeed(hub.command(&shop, "publish @model hf:acme/begun", Some(WRITES)));

    hub.next("/commit/", Fault::Overtaken);
    let error = refuse("publish @model hf:acme/parts", Some(WRITES));
    assert!(error.contains("was changed by others meanwhile"), "{error}");
    // No sentence tells the endpoint's password.
    for (token, place) in [(None, "acme/parts"), (Some(READS), "acme/parts"), (Some(WRITES), "acme/guarded")] {
        for endpoint in [hub.guarded(), "http://ann:s3cret@no host".into()] {
            let mut command = hub.command(&shop, &format!("publish @model hf:{place}"), token);
            let output = command.env("HF_ENDPOINT", endpoint).output().unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("http://") && !said.contains("s3cret"), "{said}");
        }
    }
    // The token's file, too.
    fs::create_dir_all(shop.path("home")).unwrap();
    fs::write(shop.path("home/token"), format!("{WRITES}\n")).unwrap();
    shop.succeed(hub.command(&shop, "publish @model hf:acme/parts", None));
}

#[test]
fn a_model_that_cannot_be_fetched_is_refused_in_a_sentence() {
    let (shop, hub) = begun();
    shop.succeed(hub.command(&shop, "publish @model hf:acme/parts", Some(WRITES)));
    hub.make("models/acme/empty");
    let photo = photo(&shop);
    let detect = |place: &str| hub.command(&shop, &format!("detect {place} {photo}"), None);
    for (place, reason) in [
        ("hf:acme/nothing", "has no model repository acme/nothing"),
        ("hf:acme/empty", "hf:acme/empty cannot be used as a model: "),
        ("hf:acme/empty", "has no file manifest.json in acme/empty"),
        ("hf:acme/parts@v9", "has no revision v9 of acme/parts"),
        ("hf:parts", "names no owner"),
    ] {
        let error = shop.refuse(detect(place));
        assert!(error.contains(reason), "{place}: {error}");
    }
    hub.edit("models/acme/empty", "main", "manifest.json", b"{\"name\": \"an app\"}");
    let error = shop.refuse(detect("hf:acme/empty"));
    assert!(error.contains("hf:acme/empty holds no model that can be used"), "{error}");
    let error = shop.refuse(offline(detect("hf:acme/parts")));
    assert!(error.contains("hf:acme/parts is not in the cache"), "{error}");

    // A shard with another checksum is not kept; one that breaks off goes on.
    hub.next("GET /cdn/", Fault::Damages);
    let error = shop.refuse(detect("hf:acme/parts"));
    assert!(
        error.contains("hf:acme/parts was not fetched: encoder-") && error.contains("the download is damaged"),
        "{error}"
    );
    hub.next("GET /cdn/", Fault::Breaks);
    hub.next("GET /cdn/", Fault::Status(500));
    shop.succeed(detect("hf:acme/parts"));

    // A damaged cache says so once, and heals, whichever command reads it.
    let snapshots = shop.path("home/hub/models--acme--parts/snapshots");
    let folder = snapshots.join(&names(&snapshots)[0]);
    let shard = names(&folder).into_iter().find(|name| name.starts_with("head-")).unwrap();
    for words in [
        format!("detect hf:acme/parts {photo}"),
        "inspect hf:acme/parts".into(),
        "publish hf:acme/parts hf:acme/copy --dry-run".into(),
        "site hf:acme/parts --out @site".into(),
    ] {
        shop.succeed(detect("hf:acme/parts"));
        let mut bytes = fs::read(folder.join(&shard)).unwrap();
        bytes[9] ^= 1;
        fs::write(fs::canonicalize(folder.join(&shard)).unwrap(), bytes).unwrap();
        let error = shop.refuse(hub.command(&shop, &words, None));
        assert!(error.contains(&format!("{shard} was damaged and is removed")), "{words}: {error}");
    }
    let local = shop.succeed(detect("@model"));
    assert_eq!(shop.succeed(detect("hf:acme/parts")), local);

    // A manifest, too, which no other file vouches for.
    let manifest = folder.join("manifest.json");
    fs::write(fs::canonicalize(&manifest).unwrap(), b"{\"name\": ").unwrap();
    let error = shop.refuse(offline(detect("hf:acme/parts")));
    assert!(error.contains("hf:acme/parts is not in the cache"), "{error}");
    assert_eq!(shop.succeed(detect("hf:acme/parts")), local);

    // Where there are no links, the file is a copy of its blob: both are fetched again.
    let (copy, blob) = (folder.join(&shard), fs::canonicalize(folder.join(&shard)).unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[9] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, bytes).unwrap();
    let error = shop.refuse(detect("hf:acme/parts"));
    assert!(error.contains(&format!("{shard} was damaged and is removed")), "{error}");
    assert_eq!(shop.succeed(detect("hf:acme/parts")), local);

    // A hub that does not answer is no reason to stop, if the model is there.
    hub.next("HEAD /acme/parts", Fault::Status(502));
    let output = detect("hf:acme/parts").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), local);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is taken from the cache, as it was in commit"));

    // Several models in a repository, and two programs at a time.
    for name in names(&shop.path("model")) {
        hub.edit(
            "models/acme/empty",
            "main",
            &format!("all/nut/{name}"),
            &fs::read(shop.path("model").join(name)).unwrap(),
        );
    }
    let place = "hf:acme/empty/all/nut";
    let mut running: Vec<_> =
        (0..2).map(|_| detect(place).stdout(std::process::Stdio::piped()).spawn().unwrap()).collect();
    for program in running.drain(..) {
        let output = program.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), local);
    }
}

#[test]
fn a_page_becomes_a_space_and_a_newer_one_replaces_it() {
    let (shop, hub) = begun();
    let modules = shop.path("modules");
    fs::create_dir(&modules).unwrap();
    for half in dinomaly::site::page::halves("cpu") {
        fs::write(modules.join(half), "half").unwrap();
    }
    shop.succeed(shop.command("site @model --wasm @modules --out @site"));
    let publish = || hub.command(&shop, "publish @site hf:acme/page --space", Some(WRITES));
    shop.succeed(publish());
    let repo = "spaces/acme/page";
    assert_eq!(hub.facts(repo).1, "static");
    let card = String::from_utf8(hub.read(repo, "main", "README.md")).unwrap();
    assert!(card.starts_with("---\ntitle: \"page\"\n") && card.contains("\nsdk: static\n"), "{card}");
    let site = |folder: &Path| {
        let mut all = vec![folder.to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = all.pop() {
            for name in names(&folder) {
                let path = folder.join(name);
                if path.is_dir() { all.push(path) } else { files.push(path) }
            }
        }
        files
    };
    for file in site(&shop.path("site")) {
        let path = file.strip_prefix(shop.path("site")).unwrap().to_str().unwrap().to_owned();
        assert_eq!(hub.read(repo, "main", &path), fs::read(&file).unwrap(), "{path}");
    }

    // Of a site that is not whole, nothing is sent.
    let whole = shop.path("site/files");
    let gone = names(&whole).remove(0);
    fs::rename(whole.join(&gone), shop.path("gone")).unwrap();
    hub.log();
    let error = shop.refuse(publish());
    assert!(error.contains(&gone) && error.contains("is missing") && hub.log().is_empty(), "{error}");
    fs::rename(shop.path("gone"), whole.join(&gone)).unwrap();

    hub.edit(repo, "main", "README.md", b"---\nsdk: static\ntitle: Ours\n---\n");
    shop.succeed(shop.command("quantize @model --to f16 --out @half"));
    shop.succeed(shop.command("site @half --wasm @modules --out @site"));
    let said = shop.succeed(publish());
    assert!(said.contains("removed of an earlier one: files/"), "{said}");
    let files = hub.files(repo, "main");
    assert_eq!(files.len(), site(&shop.path("site")).len() + 2, "{files:?}");
    assert!(String::from_utf8(hub.read(repo, "main", "README.md")).unwrap().contains("title: Ours"));
    assert!(shop.succeed(publish()).contains("has these files already"));
}
