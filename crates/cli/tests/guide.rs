//! The examples of docs/guide/cli.md and docs/guide/state.md are run as they stand there.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod support;

use std::path::Path;

use support::*;

const GUIDE: &str = include_str!("../../../docs/guide/cli.md");
const STATE: &str = include_str!("../../../docs/guide/state.md");

/// An example: its commands, and the exit code of the last.
#[derive(Debug, PartialEq)]
struct Example {
    commands: Vec<String>,
    code: i32,
}

/// The `text` blocks that begin with a command.
fn examples(page: &str) -> Vec<Example> {
    let blocks = page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let example = |block: &str| Example {
        commands: block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect(),
        code: block
            .lines()
            .find_map(|line| line.strip_prefix("# exit code "))
            .map_or(0, |code| code.parse().unwrap()),
    };
    blocks.filter(|block| block.starts_with("$ ")).map(example).collect()
}

#[test]
fn every_example_of_the_guide_ends_as_it_says() {
    for page in [GUIDE, STATE] {
        run_examples(page);
    }
}

fn run_examples(page: &str) {
    let place = Place::file();
    let tool = Path::new(env!("CARGO_BIN_EXE_icecore")).parent().unwrap();
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
    let run = |command: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", command]).env("PATH", &path).env_remove("ICECORE_STORE");
        Ran::of(shell.current_dir(place.path(".")).output().unwrap())
    };

    for Example { commands, code } in examples(page) {
        let (last, before) = commands.split_last().unwrap();
        for command in before {
            run(command).done();
        }
        let ran = run(last);
        assert_eq!(ran.code, code, "{last}: {ran:?}");
    }
}

#[test]
fn the_guide_has_an_example_of_every_command() {
    let commands: Vec<String> = examples(GUIDE).into_iter().flat_map(|example| example.commands).collect();
    let help = Place::file().run(&["help"]).done().stdout;
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let names = listed.lines().take_while(|line| !line.is_empty());
    let names = names.filter(|line| line.starts_with("  ") && !line.starts_with("   "));

    for name in names.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help") {
        let is_shown = commands.iter().any(|line| line.split_whitespace().any(|word| word == name));
        assert!(is_shown, "no example of {name}");
    }
}
