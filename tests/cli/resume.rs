//! Crashes and interrupts lose nothing, and change nothing.

use crate::broken_off::{end_and_go_on, interrupt, kill, start, weights};
use crate::workshop::{Workshop, names};

#[test]
fn a_killed_run_goes_on_and_ends_in_the_same_bits() {
    let shop = Workshop::new();
    end_and_go_on(&shop, "--iterations 60", kill);
    shop.succeed(shop.train("other", "--iterations 60 --seed 2"));
    assert_ne!(weights(&shop.path("unbroken")), weights(&shop.path("other")), "the seed makes a difference");
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_and_the_one_before_stays() {
    let shop = Workshop::new();
    let (work, aside) = (shop.path("broken.training"), shop.path("aside"));
    end_and_go_on(&shop, "--iterations 60", |child| {
        std::fs::rename(&work, &aside).unwrap();
        std::fs::write(&work, "no folder").unwrap();
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        let expected = "broken.training/checkpoint.safetensors was not written, nothing is left of it";
        assert!(error.contains(expected), "{error}");
        std::fs::remove_file(&work).unwrap();
        std::fs::rename(&aside, &work).unwrap();
    });
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
    let child = start(long(), &shop.path("model.training/checkpoint.safetensors"));
    let error = shop.refuse(shop.train("model", "--iterations 3 --restart"));
    assert!(error.contains("another run is training into model: wait for it"), "{error}");
    interrupt(child);
    assert_eq!(names(&shop.path("model.training")), ["checkpoint.safetensors"]);

    let error = shop.refuse(shop.train("model", "--iterations 100000 --checkpoint-every 3 --holdout 0.4 --seed 9"));
    assert!(error.contains("the checkpoint of an unfinished run with other settings"), "{error}");
    assert!(error.contains("(--seed 1, now 9; --holdout 0.2, now 0.4)"), "{error}");
    shop.succeed(shop.train("model", "--iterations 3 --restart"));
}

/// `nohup` has a program ignore that its terminal is gone.
#[cfg(unix)]
#[test]
fn a_run_under_nohup_goes_on_without_its_terminal() {
    let shop = Workshop::new();
    let train = shop.train("model", "--iterations 60 --checkpoint-every 7");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(train.get_program()).args(train.get_args());
    let child = start(shell, &shop.path("model.training/checkpoint.safetensors"));
    let hangup = std::process::Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
    assert!(hangup.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
