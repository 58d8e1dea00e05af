//! Commands in the guides: what a reader would copy is understood, and every command and option that a text names exists.

use std::path::Path;

use clap::{Command, CommandFactory, Parser};
use dinomaly::cli::Cli;

/// Folders of texts for people.
const FOLDERS: [&str; 7] = ["", "docs", "native", "native/assets", "python", "tests", "web"];

/// The folder of texts in which options that stand alone are the program's, but for cargo's `--test`.
const OF_PROGRAM: &str = "/docs/";

/// Name and text of each guide.
fn guides() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = FOLDERS.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    let guides = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    guides.map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Commands of a guide's code blocks, each in a line of its own or between `&&`, without the file that the shell writes.
fn copied(text: &str) -> Vec<String> {
    let lines = text.split("```").skip(1).step_by(2).flat_map(str::lines);
    let commands = lines.flat_map(|line| line.split(" #").next().unwrap().split("&&"));
    let commands = commands.map(|command| command.split(" > ").next().unwrap());
    commands.map(|command| command.trim().to_owned()).filter(|command| command.starts_with("dinomaly ")).collect()
}

/// Code inside of a guide's sentences and tables.
fn named(text: &str) -> Vec<String> {
    let sentences: String = text.split("```").step_by(2).collect();
    let spans = sentences.split('`').skip(1).step_by(2);
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The first word of a command line that names no command or option of the program. Words in capitals stand for others.
fn unknown<'a>(program: &Command, line: &'a str) -> Option<&'a str> {
    let mut command = program;
    for word in line.split_whitespace() {
        let is_known = match word.trim_matches(['[', ']']).strip_prefix("--") {
            Some(option) => command.get_arguments().any(|argument| argument.get_long() == Some(option)),
            None if !command.has_subcommands() || word.chars().all(char::is_uppercase) => true,
            None => match command.find_subcommand(word) {
                Some(found) => {
                    command = found;
                    true
                }
                None => false,
            },
        };
        if !is_known {
            return Some(word);
        }
    }
    None
}

/// The program's commands, with their `--help` and `--version`.
fn program() -> Command {
    let mut program = Cli::command();
    program.build();
    program
}

#[test]
fn every_command_of_a_code_block_is_understood() {
    let mut understood = 0;
    for (guide, text) in guides() {
        for command in copied(&text) {
            if let Err(error) = Cli::try_parse_from(command.split_whitespace()) {
                panic!("{guide}: {command}: {error}");
            }
            understood += 1;
        }
    }
    assert!(understood > 20, "only {understood} commands");
}

#[test]
fn every_command_and_option_that_a_text_names_exists() {
    let program = program();
    let with_all = program.get_subcommands().flat_map(|command| [command].into_iter().chain(command.get_subcommands()));
    let options: Vec<&str> =
        with_all.flat_map(Command::get_arguments).filter_map(|argument| argument.get_long()).collect();
    let (mut known, mut missing) = (0, Vec::new());
    for (guide, text) in guides() {
        for span in named(&text) {
            let first = span.split(' ').next().unwrap_or_default();
            let unknown = if let Some(line) = span.strip_prefix("dinomaly ") {
                unknown(&program, line)
            } else if program.find_subcommand(first).is_some() {
                unknown(&program, &span)
            } else if let Some(option) =
                first.strip_prefix("--").filter(|&option| guide.contains(OF_PROGRAM) && option != "test")
            {
                (!options.contains(&option)).then_some(first)
            } else {
                continue;
            };
            match unknown {
                Some(word) => missing.push(format!("{guide}: `{span}`: {word}")),
                None => known += 1,
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(known > 100, "only {known} commands and options");
}
