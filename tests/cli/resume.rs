//! Crashes and interrupts lose nothing, and change nothing.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workshop::{Workshop, names};

/// Waits until a run has written a checkpoint.
pub fn wait_for_checkpoint(child: &mut Child, checkpoint: &Path) {
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a command that says nothing.
pub fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every file of a model but its card and manifest, which hold its name.
pub fn weights(model: &Path) -> Vec<(String, Vec<u8>)> {
    let shards = names(model).into_iter().filter(|name| name.ends_with(".safetensors"));
    shards.map(|name| (name.clone(), std::fs::read(model.join(&name)).unwrap())).collect()
}

/// Trains once unbroken and once with a kill in between, and compares.
pub fn kill_and_go_on(shop: &Workshop, options: &str) {
    shop.succeed(shop.train("unbroken", options));
    let broken = || shop.train("broken", &format!("{options} --checkpoint-every 7"));
    let mut child = start(broken());
    wait_for_checkpoint(&mut child, &shop.path("broken.training/checkpoint.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!shop.path("broken").exists());
    let text = shop.succeed(broken());
    assert_eq!(text.matches("resuming after iteration").count(), 1, "{text}");
    assert_eq!(weights(&shop.path("unbroken")), weights(&shop.path("broken")));
}

#[test]
fn a_killed_run_goes_on_and_ends_in_the_same_bits() {
    let shop = Workshop::new();
    kill_and_go_on(&shop, "--iterations 60");
    shop.succeed(shop.train("other", "--iterations 60 --seed 2"));
    assert_ne!(weights(&shop.path("unbroken")), weights(&shop.path("other")), "the seed makes a difference");
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_and_the_one_before_stays() {
    let shop = Workshop::new();
    shop.succeed(shop.train("unbroken", "--iterations 60"));
    let broken = || shop.train("broken", "--iterations 60 --checkpoint-every 7");
    let (work, aside) = (shop.path("broken.training"), shop.path("aside"));
    let mut command = broken();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_checkpoint(&mut child, &work.join("checkpoint.safetensors"));
    std::fs::rename(&work, &aside).unwrap();
    std::fs::write(&work, "no folder").unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("broken.training/checkpoint.safetensors was not written, nothing is left of it"), "{error}");
    assert!(!shop.path("broken").exists());
    std::fs::remove_file(&work).unwrap();
    std::fs::rename(&aside, &work).unwrap();
    let text = shop.succeed(broken());
    assert_eq!(text.matches("resuming after iteration").count(), 1, "{text}");
    assert_eq!(weights(&shop.path("unbroken")), weights(&shop.path("broken")));
}

#[test]
fn features_on_disk_give_the_same_bits_as_in_memory() {
    let shop = Workshop::new();
    shop.succeed(shop.train("memory", "--iterations 5"));
    shop.succeed(shop.train("disk", "--iterations 5 --cache-memory 0"));
    assert_eq!(weights(&shop.path("memory")), weights(&shop.path("disk")));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_stops_cleanly_and_other_settings_do_not_go_on_with_it() {
    let shop = Workshop::new();
    let long = || shop.train("model", "--iterations 100000 --checkpoint-every 3");
    let mut child = start(long());
    wait_for_checkpoint(&mut child, &shop.path("model.training/checkpoint.safetensors"));
    let error = shop.refuse(shop.train("model", "--iterations 3 --restart"));
    assert!(error.contains("another run is training into model: wait for it"), "{error}");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130), "Ctrl-C is no success");
    assert_eq!(names(&shop.path("model.training")), ["checkpoint.safetensors"]);

    let error = shop.refuse(shop.train("model", "--iterations 100000 --checkpoint-every 3 --holdout 0.4 --seed 9"));
    assert!(error.contains("the checkpoint of an unfinished run with other settings"), "{error}");
    assert!(error.contains("(--seed 1, now 9; --holdout 0.2, now 0.4)"), "{error}");
    shop.succeed(shop.train("model", "--iterations 3 --restart"));
}

#[test]
fn a_finished_model_is_not_replaced_unasked() {
    let shop = Workshop::new();
    shop.succeed(shop.train("model", "--iterations 3"));
    let first = std::fs::read(shop.path("model/manifest.json")).unwrap();
    let text = shop.succeed(shop.train("model", "--iterations 3"));
    assert!(text.contains("model is trained already") && text.contains("--restart"), "{text}");
    for (options, expected) in [
        ("--iterations 3 --dropout 0", "other settings (--dropout 0.2, now 0.0)"),
        ("--iterations 3 --false-alarm-rate 0.1", "use `dinomaly calibrate`"),
    ] {
        let error = shop.refuse(shop.train("model", options));
        assert!(error.contains(expected) && error.contains("replace it with --restart"), "{error}");
    }
    shop.succeed(shop.command("quantize @model --out @int8"));
    let error = shop.refuse(shop.train("int8", "--iterations 3"));
    assert!(error.contains("int8 is a model that was not trained there"), "{error}");
    assert_eq!(std::fs::read(shop.path("model/manifest.json")).unwrap(), first);
    assert!(!shop.path("model.training").exists());
    shop.succeed(shop.train("model", "--iterations 3 --dropout 0 --restart"));
    assert_ne!(std::fs::read(shop.path("model/manifest.json")).unwrap(), first);
}
