//! Completions and manual pages: what is installed beside the program.

use std::fs;
use std::process::Command;

use crate::workshop::Workshop;

#[test]
fn bash_completes_commands_and_options() {
    let shop = Workshop::new();
    let script = shop.path("dinomaly.bash");
    fs::write(&script, shop.succeed(shop.command("completions bash"))).unwrap();
    let completed = |words: &[&str]| {
        let last = words.len() - 1;
        let line = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={last}; _dinomaly dinomaly '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.join(" "),
            words[last],
            words[last - 1],
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &line]);
        shop.succeed(bash).trim().to_owned()
    };
    assert_eq!(completed(&["dinomaly", "trai"]), "train");
    assert_eq!(completed(&["dinomaly", "backbone", "f"]), "fetch");
    assert_eq!(completed(&["dinomaly", "detect", "--heat"]), "--heatmaps");
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        let script = shop.succeed(shop.command(&format!("completions {shell}")));
        assert!(script.contains("heatmaps"), "{shell}: {script}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let shop = Workshop::new();
    let said = shop.succeed(shop.command("man --out @man"));
    let mut pages: Vec<String> = fs::read_dir(shop.path("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort_unstable();
    assert!(said.starts_with(&format!("{} pages in ", pages.len())), "{said}");
    for page in ["dinomaly.1", "dinomaly-train.1", "dinomaly-backbone-fetch.1", "dinomaly-man.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} of {pages:?}");
    }
    let train = fs::read_to_string(shop.path("man/dinomaly-train.1")).unwrap();
    assert!(train.contains(".TH dinomaly-train 1") && train.contains("\\-\\-backbone"), "{train}");
    fs::write(shop.path("file"), "").unwrap();
    let refused = shop.refuse(shop.command("man --out @file/man"));
    assert!(refused.starts_with("dinomaly: file/man"), "{refused}");
}
