//! Standard output that is closed or full, and names that it shows.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::workshop::{Workshop, names};

/// The first line of what a command prints, which is then closed; and what it did.
fn first_line(mut command: Command) -> (String, Child) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (line, child)
}

#[test]
fn a_reader_that_has_read_enough_ends_a_command_quietly() {
    let shop = Workshop::new();
    let (line, train) = first_line(shop.train("model", "--iterations 20"));
    assert!(line.contains("2 classes"), "{line}");
    let output = train.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(141), "{text}");
    assert!(!text.contains("dinomaly: ") && !text.contains("panicked"), "{text}");
    // What was to be done is done.
    let class = names(&shop.path("data"))[0].clone();
    let photos = format!("@data/{class}/train/good ").repeat(4);
    let (line, detect) = first_line(shop.command(&format!("detect @model {photos} --class {class}")));
    assert!(line.starts_with("photo,score"), "{line}");
    let output = detect.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_output_is_said_and_loses_nothing() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 2"));
    for (command, made) in [("inspect @model", "model"), ("quantize @model --out @int8", "int8")] {
        let mut command = shop.command(command);
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("dinomaly: standard output cannot be written: ") && !text.contains("panicked"), "{text}");
        shop.succeed(shop.command(&format!("inspect @{made}")));
    }
}

#[cfg(unix)]
#[test]
fn names_of_photos_do_not_write_to_the_terminal() {
    let shop = Workshop::new();
    let (data, class) = (shop.path("data"), &names(&shop.path("data"))[0]);
    let good = data.join(class).join("train/good/000.png");
    fs::create_dir(shop.path("new")).unwrap();
    fs::copy(good, shop.path("new/gnp\u{202e}.png")).unwrap();
    fs::write(shop.path("new/red\u{1b}[31m.png"), "no photo").unwrap();
    let mut detect = shop.command("detect");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/released/format-1/model");
    let output = detect.arg(model).arg(shop.path("new")).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(stderr.contains("red\\u001b[31m.png") && !stderr.contains('\u{1b}'), "{stderr}");
    // Another program gets the name of the file.
    assert!(stdout.contains("gnp\u{202e}.png,"), "{stdout} {stderr}");
}
