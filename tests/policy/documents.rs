//! What documents and sources may not contain, and that the commands they name exist.

use std::collections::BTreeSet;
use std::fs;

use crate::repository::{files, packages, root};

/// Beginnings of paths that exist on one developer's machine only.
const MACHINE_PATHS: &[&str] = &["/home/", "/Users/", "/root/", "/work/", "/tmp/target"];

/// Programs that a reader can be expected to have.
const COMMON: &[&str] = &[
    "cargo",
    "sh",
    "bash",
    "kubectl",
    "helm",
    "curl",
    "jq",
    "docker",
    "systemctl",
    "python3",
];

#[test]
fn no_file_contains_paths_of_somebodys_machine() {
    let mut wrong = Vec::new();
    let own = "tests/policy/documents.rs"; // names what it looks for
    let all = files(&[
        "md", "toml", "yaml", "yml", "service", "conf", "json", "rs", "py", "go",
    ]);
    for file in all.into_iter().filter(|file| file.path != own) {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(path) = MACHINE_PATHS.iter().find(|path| names(line, path)) {
                wrong.push(format!("{}:{}: {path}…", file.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether `path` begins a path in `line`, not the middle of a longer one.
fn names(line: &str, path: &str) -> bool {
    let before = |at: usize| line[..at].chars().last();
    line.match_indices(path).any(|(at, _)| {
        before(at).is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | '~'))
    })
}

/// The first code span of each table row of `docs/evidence.md` is a command. Its program is a common
/// one, a file of the repository, or a binary of the workspace; what cargo is asked to test exists.
#[test]
fn evidence_names_commands_that_exist() {
    let Ok(text) = fs::read_to_string(root().join("docs/evidence.md")) else {
        return; // nothing is claimed yet
    };
    let members: BTreeSet<String> = packages().into_iter().map(|member| member.name).collect();
    let mut wrong = Vec::new();
    for row in text.lines().filter(|line| line.starts_with('|')) {
        for span in row.split('`').skip(1).step_by(2) {
            if let Some(reason) = missing(span, &members) {
                wrong.push(format!("{span:?}: {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a command names that is not there; `None` for what is no command, too.
fn missing(span: &str, members: &BTreeSet<String>) -> Option<String> {
    let words: Vec<&str> = span
        .split_whitespace()
        .filter(|word| !word.contains('='))
        .collect();
    let program = *words.first()?;
    let is_path = program.contains('/') && !program.starts_with('/') && !program.contains("::");
    if is_path && !program.contains(['<', '*', ':', '{']) {
        let exists = root().join(program).exists();
        return (!exists).then(|| "no such file".to_owned());
    }
    if !COMMON.contains(&program) {
        return None;
    }
    let package = words
        .windows(2)
        .find(|pair| matches!(pair[0], "-p" | "--package"));
    let unknown = package.filter(|pair| program == "cargo" && !members.contains(pair[1]));
    if let Some(pair) = unknown {
        return Some(format!("no package {}", pair[1]));
    }
    let tier = words.windows(2).find(|pair| pair[0] == "--test");
    let absent = tier.filter(|pair| !root().join("tests").join(pair[1]).join("main.rs").exists());
    let elsewhere = package.is_some_and(|pair| pair[1] != "gpushared-tests");
    absent
        .filter(|_| !elsewhere)
        .map(|pair| format!("no test tier {}", pair[1]))
}
