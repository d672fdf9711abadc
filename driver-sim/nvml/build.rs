//! Writes the stubs: one exported function for every public NVML name that no file in `src/` implements.
//!
//! Implemented names are found by reading the sources for `fn nvml…(`, so the list of
//! exports cannot drift from the code: what is implemented twice fails to link, what is missing becomes a
//! stub. Also gives the C library its soname and keeps it mapped (clients such as nvml-wrapper close it).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

const NAMES: &str = "data/nvml_name_origins.tsv";
/// The kinds of names that a driver exports; the others exist only inside Go bindings or a mock.
const EXPORTED: [&str; 3] = ["public", "public-newer", "private"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={NAMES}");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let names = fs::read_to_string(NAMES)?;
    let mut implemented = BTreeSet::new();
    implemented_names(Path::new("src"), &mut implemented)?;

    let mut stubs = String::from("stubs! {\n");
    for line in names.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let (Some(name), Some(kind)) = (columns.next(), columns.nth(3)) else {
            return Err(io::Error::other(format!("{NAMES}: bad line {line:?}")));
        };
        if EXPORTED.contains(&kind) && !implemented.contains(name) {
            writeln!(stubs, "    {name}").map_err(io::Error::other)?;
        }
    }
    stubs.push_str("}\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(PathBuf::from(out).join("stubs.rs"), stubs)
}

/// Collects the names after `fn `.
fn implemented_names(dir: &Path, names: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            implemented_names(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in fs::read_to_string(&path)?.lines() {
                let Some((_, rest)) = line.split_once("fn nvml") else {
                    continue;
                };
                let end = rest.find('(').unwrap_or(rest.len());
                names.insert(format!("nvml{}", &rest[..end]));
            }
        }
    }
    Ok(())
}
