//! Callers that pass nonsense get an error code and not a crash.

use std::collections::BTreeSet;

use crate::harness::*;

/// Functions whose arguments or answers are of another kind, or that end the library.
const OTHERS: [&str; 5] = [
    "nvmlErrorString",
    "nvmlShutdown",
    "nvmlInit",
    "nvmlInit_v2",
    "nvmlInitWithFlags",
];

type Words = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> u32;

fn names() -> impl Iterator<Item = &'static str> {
    include_str!("../../data/nvml_name_origins.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let name = columns.next()?;
            matches!(columns.nth(3)?, "public" | "public-newer" | "private").then_some(name)
        })
}

#[test]
fn no_function_follows_a_null_pointer() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0).addr();
    // SAFETY: the library has no initialisers with preconditions.
    let library = unsafe { libloading::Library::new(sim.library_path()) }.unwrap();
    let mut succeeded = BTreeSet::new();
    for name in names().filter(|name| !OTHERS.contains(name)) {
        // SAFETY: every function takes at most six words; words that it does not take are ignored.
        let function: libloading::Symbol<'_, Words> =
            unsafe { library.get(name.as_bytes()) }.unwrap();
        // The first word is a device where the name says so, and may be a pointer elsewhere.
        let takes_device = name.starts_with("nvmlDevice")
            && !name.starts_with("nvmlDeviceGetHandleBy")
            && !name.starts_with("nvmlDeviceGetCount");
        for first in [0, if takes_device { device } else { 0 }] {
            // SAFETY: null is the one pointer that every function must expect.
            let answer = unsafe { function(first, 0, 0, 0, 0, 0) };
            assert_ne!(answer, 999, "{name}");
            if answer == SUCCESS {
                succeeded.insert(name);
            }
        }
    }
    // Only functions that take numbers alone may succeed.
    let setters = [
        "nvmlDeviceClearEccErrorCounts",
        "nvmlDeviceSetComputeMode",
        "nvmlDeviceSetEccMode",
        "nvmlDeviceSetPersistenceMode",
    ];
    assert_eq!(
        succeeded.difference(&setters.into()).collect::<Vec<_>>(),
        [&""; 0]
    );
}
