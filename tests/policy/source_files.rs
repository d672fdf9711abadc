//! How source files begin, what they are called, how long they are, and what they may not contain.

use crate::repository::{TextFile, files};

/// Lines after which a file needs a reason, and after which there is none.
const LONG: usize = 500;
const TOO_LONG: usize = 700;

/// Files over [`LONG`] lines, each with its reason.
const LONG_FOR_A_REASON: &[(&str, &str)] = &[];

/// Names that say nothing about what a file or folder holds.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "common", "misc", "manager", "helpers", "mod",
];

/// Words of unfinished work. Written in two parts, so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unim", "plemented!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];

fn sources() -> impl Iterator<Item = TextFile> {
    files(&["rs"])
        .into_iter()
        .filter(|file| !file.path.contains("/src/gen/"))
}

fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".rs").unwrap_or(name)
}

#[test]
fn every_file_says_what_it_is_for() {
    // A `tests.rs` beside its module holds that module's tests: there is no more to say.
    let silent: Vec<_> = sources()
        .filter(|file| stem(&file.path) != "tests" && !file.text.starts_with("//!"))
        .map(|file| file.path)
        .collect();
    assert!(
        silent.is_empty(),
        "begin with //! and what the file is for: {silent:#?}"
    );
}

#[test]
fn files_are_short_or_have_a_reason() {
    let mut wrong = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        let reason = LONG_FOR_A_REASON.iter().any(|(path, _)| *path == file.path);
        if lines > TOO_LONG || (lines > LONG && !reason) {
            wrong.push(format!("{}: {lines} lines", file.path));
        }
    }
    assert!(
        wrong.is_empty(),
        "split these, or give a reason up to {TOO_LONG} lines: {wrong:#?}"
    );
}

#[test]
fn reasons_for_length_are_still_needed() {
    let sources: Vec<_> = sources().collect();
    for (path, _) in LONG_FOR_A_REASON {
        let file = sources.iter().find(|file| file.path == *path);
        let long = file.is_some_and(|file| file.text.lines().count() > LONG);
        assert!(
            long,
            "{path} is not over {LONG} lines any more: take it off the list"
        );
    }
}

#[test]
fn files_are_named_after_what_they_hold() {
    let says_nothing = |path: &str| {
        path.split('/')
            .any(|part| EMPTY_NAMES.contains(&stem(part)))
    };
    let empty: Vec<_> = sources()
        .filter(|file| says_nothing(&file.path))
        .map(|f| f.path)
        .collect();
    assert!(empty.is_empty(), "{empty:#?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (number, line) in file.text.lines().enumerate() {
            if UNFINISHED.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
