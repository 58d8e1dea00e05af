//! `dinomaly score`: photos of a bucket or folder by several processes, some of which are killed, give one row a photo, with the values of
//! `detect`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use crate::s3::{self, OWNER, READER};
use crate::workshop::{Workshop, names};

const FEW: &str = "fewshot @data --backbone @encoder.safetensors --size 64";

/// Columns by name.
type Row = BTreeMap<String, Field>;

/// A model, a second one, and a bucket of its photos with a damaged one among them.
fn shop() -> Workshop {
    let shop = Workshop::new();
    shop.succeed(shop.command(&format!("{FEW} --out @model --layers 2,5,8")));
    shop.succeed(shop.command(&format!("{FEW} --out @other --layers 3,6")));
    fs::create_dir_all(shop.path("buckets/results")).unwrap();
    copy(&shop.path("data"), &shop.path("buckets/photos/july"));
    fs::write(shop.path("buckets/photos/july/damaged.png"), "no picture").unwrap();
    shop
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { copy(&from, &to) } else { fs::copy(from, to).map(drop).unwrap() }
    }
}

/// All rows of a folder's parts.
fn rows(folder: &Path) -> Vec<Row> {
    let parts = names(folder).into_iter().filter(|name| name.ends_with(".parquet"));
    let read = |name: String| {
        let file = SerializedFileReader::new(fs::File::open(folder.join(name)).unwrap()).unwrap();
        let rows: Vec<Row> =
            file.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns().into_iter().collect()).collect();
        rows
    };
    parts.flat_map(read).collect()
}

fn text(row: &Row, column: &str) -> String {
    match &row[column] {
        Field::Str(text) => text.clone(),
        Field::Null => String::new(),
        Field::Float(number) => serde_json::to_string(number).unwrap(),
        other => other.to_string(),
    }
}

/// What `detect` says of all photos below a folder that can be read: its CSV's columns by photo.
fn detected(shop: &Workshop, model: &str, folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut command = shop.command(&format!("detect @{model}"));
    let mut pending = vec![folder.to_owned()];
    while let Some(place) = pending.pop() {
        for path in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true if !path.ends_with("ground_truth") => pending.push(path),
                false if !path.ends_with("damaged.png") => drop(command.arg(path)),
                _ => {}
            }
        }
    }
    let csv = shop.succeed(command);
    let lines = csv::Reader::from_reader(csv.as_bytes()).into_records().map(|line| line.unwrap());
    let of = |line: csv::StringRecord| {
        let path = Path::new(&line[0]).strip_prefix(folder).unwrap().display().to_string();
        (path, line.iter().skip(1).map(str::to_owned).collect())
    };
    lines.map(of).collect()
}

/// Checks that there is one row for each photo, as `detect` has it, and one that says why the damaged photo has none.
fn check(rows: &[Row], expected: &BTreeMap<String, Vec<String>>) {
    let found: BTreeSet<String> = rows.iter().map(|row| text(row, "photo")).collect();
    assert_eq!((found.len(), rows.len()), (rows.len(), expected.len() + 1), "one row a photo");
    for row in rows {
        let photo = text(row, "photo");
        let columns =
            ["score", "threshold", "normalised", "defective", "verdict", "nearest"].map(|column| text(row, column));
        if photo == "damaged.png" {
            assert!(text(row, "error").starts_with("photo damaged.png: not a PNG, "), "{row:?}");
            assert_eq!(columns.concat(), "");
        } else {
            assert_eq!((text(row, "error").as_str(), columns.as_slice()), ("", expected[&photo].as_slice()), "{photo}");
        }
    }
}

fn with_keys(mut command: Command, server: &s3::Server, key: &str) -> Command {
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("AWS_")) {
        command.env_remove(variable);
    }
    command.envs([("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", key), ("AWS_REGION", "us-east-1")]);
    command.envs([("AWS_ENDPOINT", server.url.as_str()), ("AWS_ALLOW_HTTP", "true")]);
    command
}

fn parts(folder: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let list: Vec<PathBuf> =
        fs::read_dir(folder).map(|list| list.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    let mut parts: Vec<PathBuf> =
        list.into_iter().filter(|path| path.extension().is_some_and(|end| end == "parquet")).collect();
    parts.sort();
    parts.into_iter().map(|path| (path.clone(), path.metadata().unwrap())).collect()
}

#[test]
fn shards_of_a_bucket_are_killed_and_started_again() {
    let shop = shop();
    let server = s3::serve(&shop.path("buckets"), "127.0.0.1:0");
    let results = shop.path("buckets/results/july");
    let shard = |index: usize| {
        let command = "score @model --from s3://photos/july --to s3://results/july --part-size 2 --shard";
        with_keys(shop.command(&format!("{command} {index}/4")), &server, OWNER)
    };
    for index in [2, 3] {
        // Enough for the first part; for the next one the process waits for ever.
        server.let_read(3);
        let mut process = shard(index).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while parts(&results).len() < index - 1 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no part was written");
            std::thread::sleep(Duration::from_millis(10));
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let kept = parts(&results);
    assert_eq!(kept.len(), 2);
    server.let_read(10_000);
    let running: Vec<_> = (0..4).map(|index| shard(index).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let said = running.into_iter().map(|process| {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    });
    let said: Vec<String> = said.collect();
    for index in [2, 3] {
        assert!(said[index].contains("1 there already"), "{said:?}");
        let [scored, of] = [2, 5].map(|word| said[index].split(' ').nth(word).unwrap().parse::<usize>().unwrap());
        assert_eq!(scored, of - 2, "the part that was there is not computed again");
    }
    let all = parts(&results);
    for (path, before) in kept {
        let (_, after) = all.iter().find(|(name, _)| *name == path).expect("it stays");
        assert_eq!(before.modified().unwrap(), after.modified().unwrap(), "what is there is not written again");
    }
    assert_eq!(names(&results).len(), all.len(), "nothing but parts: {:?}", names(&results));
    check(&rows(&results), &detected(&shop, "model", &shop.path("buckets/photos/july")));

    let again = shop.succeed(shard(0));
    assert!(again.starts_with("shard 0/4: 0 photos of ") && again.contains(" 0 parts written"), "{again}");
    assert_eq!(parts(&results).len(), all.len());

    // What is refused.
    let refused = |arguments: &str, key: &str| shop.refuse(with_keys(shop.command(arguments), &server, key));
    let error = refused("score @model --from s3://missing/july --to s3://results", OWNER);
    assert!(error.starts_with("dinomaly: s3://missing/july cannot be listed: "), "{error}");
    let error = refused("score @model --from s3://photos/august --to s3://results", OWNER);
    assert!(error.contains("there are no photos at s3://photos/august (png, jpg,"), "{error}");
    let error = refused("score @model --from s3://photos/july --to s3://results/july", "stranger");
    assert!(error.contains("s3://photos/july cannot be listed: access is refused ("), "{error}");
    assert!(error.contains("check AWS_ACCESS_KEY_ID, "), "{error}");
    // Before a photo is read: nobody would let it through.
    let gated = s3::serve(&shop.path("buckets"), "127.0.0.1:0");
    let command = shop.command("score @model --from s3://photos/july --to s3://results/august");
    let error = shop.refuse(with_keys(command, &gated, READER));
    assert!(error.contains("s3://results/august cannot be written to: access is refused"), "{error}");
    let command = shop.command("score @model --from s3://photos/july --to s3://nowhere/august");
    let error = shop.refuse(with_keys(command, &gated, OWNER));
    assert!(error.contains("s3://nowhere/august cannot be "), "{error}");
}

#[test]
fn folders_and_lists_are_scored_and_other_work_has_other_parts() {
    let shop = shop();
    let photos = shop.path("buckets/photos/july");
    let expected = detected(&shop, "model", &photos);
    let score = |options: &str| shop.command(&format!("score {options} --part-size 10"));
    // Results below the photos are no photos.
    let inside = "--from @buckets/photos/july --to @buckets/photos/july/results";
    let told = shop.succeed(score(&format!("@model {inside}")));
    let results = photos.join("results");
    let first = parts(&results);
    let all = expected.len() + 1;
    assert_eq!(
        told,
        format!(
            "shard 0/1: {all} photos of {all} scored, 1 of them unreadable; {} parts written, 0 there already\n",
            first.len()
        )
    );
    check(&rows(&results), &expected);
    let told = shop.succeed(score(&format!("@model {inside}")));
    assert!(told.ends_with(&format!("0 parts written, {} there already\n", first.len())), "{told}");

    let other = score(&format!("@other {inside}")).output().unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(said.contains(&format!("{} parts are in ", first.len())) && said.contains("another model"), "{said}");
    assert_eq!(parts(&results).len(), 2 * first.len());
    assert!(first.iter().all(|(path, _)| path.exists()));

    // A list, and photos that it names in vain; from a server that cannot be listed.
    let some: Vec<&String> = expected.keys().take(3).collect();
    let list: String = some.iter().map(|path| format!("{path},1\n")).collect();
    fs::write(shop.path("list.csv"), format!("path,line\n{list}{},1\ngone.png,2\n", some[0])).unwrap();
    let url = files_server(&photos);
    shop.succeed(shop.command(&format!(
        "score @model --from {url}/ --to @listed --list @list.csv --regions --pixel-threshold 0.01"
    )));
    let listed = rows(&shop.path("listed"));
    assert_eq!(listed.len(), 4);
    let gone = listed.iter().find(|row| text(row, "photo") == "gone.png").unwrap();
    assert_eq!(text(gone, "error"), "photo gone.png does not exist");
    for path in some {
        let row = listed.iter().find(|row| text(row, "photo") == *path).unwrap();
        assert_eq!(text(row, "score"), expected[path][0]);
        let mut detect = shop.command("detect @model --json --regions --pixel-threshold 0.01");
        let said: serde_json::Value = serde_json::from_str(&shop.succeed({
            detect.arg(photos.join(path));
            detect
        }))
        .unwrap();
        let regions: serde_json::Value = serde_json::from_str(&text(row, "regions")).unwrap();
        assert!(!regions.as_array().unwrap().is_empty());
        assert_eq!((regions, text(row, "pixel_threshold").as_str()), (said[0]["regions"].clone(), "0.01"));
    }

    let refused = |arguments: &str| shop.refuse(shop.command(arguments));
    let error = refused("score @model --from ftp://host/photos --to @x");
    assert!(
        error.contains("--from ftp://host/photos: has an unknown scheme: expected s3, gs, az, http, https, file"),
        "{error}"
    );
    assert_eq!(refused("score @model --from @nowhere --to @x"), "dinomaly: folder nowhere does not exist");
    let error = refused("score @model --from @list.csv --to @x");
    assert_eq!(error, "dinomaly: folder list.csv is a file: name its folder");
    let error = refused("score @model --from @buckets/results --to @x");
    assert!(error.starts_with("dinomaly: there are no photos at buckets/results (png, "), "{error}");
    let error = refused("score @model --from @buckets/photos --to @list.csv/x");
    assert!(error.contains("list.csv/x") && error.contains("it is a file, not a folder"), "{error}");
    let error = refused("score @model --from @buckets/photos --to @x --class shoe");
    assert!(error.contains("has no class shoe"), "{error}");
    let error = refused("score @list.csv --from @buckets/photos --to @x");
    assert!(error.contains("model list.csv cannot be used"), "{error}");
    let error = refused(&format!("score @model --from {url}/ --to @x"));
    assert!(
        error.contains("cannot be listed: ") && error.contains("one without it reads photos that --list names"),
        "{error}"
    );
    assert!(!shop.path("x").exists());
    // A share that does not exist is an option that is not understood.
    let output = shop.command("score @model --from @buckets/photos --to @x --shard 4/4").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("shards are counted from 0: of 4 the last is 3/4"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_no_store_has_is_told() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let shop = shop();
    let photos = shop.path("buckets/photos/july");
    let expected = detected(&shop, "model", &photos);
    let good = photos.join(expected.keys().next().unwrap());
    let odd = [OsStr::from_bytes(b"line\n.png"), OsStr::from_bytes(b"latin\xfc.png")];
    for name in odd {
        fs::copy(&good, photos.join(name)).unwrap();
    }
    // No photo, and so nobody's business.
    fs::write(photos.join(OsStr::from_bytes(b"\xfc.txt")), "").unwrap();
    shop.succeed(shop.command("score @model --from @buckets/photos/july --to @results"));
    let (told, others): (Vec<Row>, Vec<Row>) =
        rows(&shop.path("results")).into_iter().partition(|row| text(row, "error").contains("its name "));
    check(&others, &expected);
    let mut told: Vec<[String; 2]> =
        told.iter().map(|row| ["photo", "error"].map(|column| text(row, column))).collect();
    told.sort();
    let reason = |name: &str, what: &str| format!("photo {name} cannot be read: its name {what}: rename it");
    let latin = ["latin\u{fffd}.png".to_owned(), reason(r#""latin\xFC.png""#, "is not Unicode")];
    let line = ["line\n.png".to_owned(), reason(r#""line\n.png""#, "has a control character")];
    assert_eq!(told, [latin, line]);

    let server = s3::serve(&shop.path("buckets"), "127.0.0.1:0");
    fs::remove_file(photos.join(odd[1])).unwrap();
    let command = shop.command("score @model --from s3://photos/july --to @x");
    let error = shop.refuse(with_keys(command, &server, OWNER));
    assert!(error.starts_with("dinomaly: s3://photos/july cannot be listed: the name "), "{error}");
    assert!(error.contains(r"line\n.png") && error.ends_with("name the other photos with --list"), "{error}");
}

/// A server of a folder's files, which are read one by one, until the process ends.
fn files_server(folder: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let files = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(folder));
    std::thread::spawn(move || runtime.block_on(async { axum::serve(listener, files).await }));
    url
}
