//! Where unsafe code may be: at the doors to the driver, to shared memory and to C callers, and
//! nowhere else. Everything without it says so at its root.

use crate::repository::{files, packages};

/// Files and directories (with a final slash) that may hold unsafe code.
const MAY_BE_UNSAFE: &[&str] = &[
    "daemon/nvml/src/raw/",
    "cuda-shim/",
    "driver-sim/state/",
    "driver-sim/nvml/",
    "driver-sim/cuda/",
];

/// Whether a line of code, not of comment, opens something unsafe.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe trait",
        "unsafe extern",
        "#[unsafe(",
    ]
    .iter()
    .any(|opening| code.contains(opening))
}

#[test]
fn unsafe_code_is_only_where_it_may_be() {
    let allowed = |path: &str| {
        MAY_BE_UNSAFE
            .iter()
            .any(|place| match place.strip_suffix('/') {
                Some(_) => path.starts_with(place),
                None => path == *place,
            })
    };
    let mut wrong = Vec::new();
    let own = "tests/policy/unsafe_code.rs"; // names what it looks for
    for file in files(&["rs"]) {
        let place = file.text.lines().position(is_unsafe);
        if let Some(line) = place.filter(|_| !allowed(&file.path) && file.path != own) {
            wrong.push(format!("{}:{}", file.path, line + 1));
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe code outside its places: {wrong:#?}"
    );
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    let sources = files(&["rs"]);
    let mut checked = 0;
    for root in packages().iter().flat_map(|package| &package.roots) {
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        // Unsafe code may lie below the root, or all around it.
        let exempt = MAY_BE_UNSAFE
            .iter()
            .any(|place| place.starts_with(&format!("{folder}/")) || root.starts_with(place));
        if exempt {
            continue;
        }
        let file = sources.iter().find(|file| file.path == *root);
        let file = file.unwrap_or_else(|| panic!("{root} is a source file"));
        assert!(
            file.text.contains("#![forbid(unsafe_code)]"),
            "{root} does not forbid unsafe code"
        );
        checked += 1;
    }
    assert!(checked > 0, "the workspace has crates without unsafe code");
}
