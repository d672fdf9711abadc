//! Where unsafe code may be: at the doors to the driver, to shared memory and to C callers, and
//! nowhere else. Everything without it says so at its root.

use crate::repository::{files, root};

/// Files and directories (with a final slash) that may hold unsafe code.
const MAY_BE_UNSAFE: &[&str] = &[
    "daemon/nvml/src/raw/",
    "daemon/nvml/src/raw.rs",
    "daemon/host/src/region_file.rs",
    "cuda-shim/",
    "driver-sim/state/",
    "driver-sim/nvml/",
    "driver-sim/cuda/",
];

/// Crate roots that forbid it.
const FORBID: &[&str] = &[
    "daemon/domain/src/lib.rs",
    "proto/src/lib.rs",
    "driver-sim/model/src/lib.rs",
    "device-plugin/src/lib.rs",
    "ctl/src/main.rs",
    "daemon/src/lib.rs",
    "daemon/src/main.rs",
    "tests/src/lib.rs",
    "tests/component/main.rs",
    "tests/policy/main.rs",
];

/// Whether a line of code, not of comment, opens something unsafe.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
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
    for path in FORBID {
        let file = sources.iter().find(|file| file.path == *path);
        let file = file.unwrap_or_else(|| panic!("{} exists", root().join(path).display()));
        assert!(
            file.text.contains("#![forbid(unsafe_code)]"),
            "{path} does not forbid unsafe code"
        );
    }
}
