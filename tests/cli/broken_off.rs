//! Runs that end before their time, and go on.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::workshop::{Workshop, names};

/// Starts a command and waits until it has written a checkpoint.
pub fn start(mut command: Command, checkpoint: &Path) -> Child {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Ends a run as a crash does.
pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Ends a run as Ctrl-C does.
pub fn interrupt(child: Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "Ctrl-C is no success: {error}");
}

/// Trains once unbroken, and once with an `end` between two parts of the run, and compares.
pub fn end_and_go_on(shop: &Workshop, options: &str, end: impl FnOnce(Child)) {
    shop.succeed(shop.train("unbroken", options));
    let broken = || shop.train("broken", &format!("{options} --checkpoint-every 7"));
    end(start(broken(), &shop.path("broken.training/checkpoint.safetensors")));
    assert!(!shop.path("broken").exists());
    let text = shop.succeed(broken());
    assert_eq!(text.matches("resuming after iteration").count(), 1, "{text}");
    assert_eq!(weights(&shop.path("unbroken")), weights(&shop.path("broken")));
}

/// Every file of a model but its card and manifest, which hold its name.
pub fn weights(model: &Path) -> Vec<(String, Vec<u8>)> {
    let shards = names(model).into_iter().filter(|name| name.ends_with(".safetensors"));
    shards.map(|name| (name.clone(), std::fs::read(model.join(&name)).unwrap())).collect()
}
