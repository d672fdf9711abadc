//! The programs and libraries under test, built once by cargo in the profile of the test itself.
//!
//! Cargo does not build a package's binary for another package's tests, and the simulated driver
//! libraries may not be linked; so the harness asks cargo for them. When all is built already that
//! costs a fraction of a second.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The daemon, the simulator's command line, and the driver libraries that it installs.
const PACKAGES: [&str; 4] = [
    "gpushared",
    "gpushared-gpusim",
    "gpushared-driver-sim-nvml",
    "gpushared-driver-sim-cuda",
];

/// The directory with the built programs; builds them at the first call.
///
/// # Panics
/// With cargo's messages, when they cannot be built.
#[must_use]
pub fn artifacts() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// A built program.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    artifacts().join(name)
}

fn build() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let deps = own.parent().expect("a program lies in a directory");
    let profile_dir = if deps.ends_with("deps") {
        deps.parent().unwrap_or(deps)
    } else {
        deps
    };
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(
            profile_dir
                .parent()
                .expect("a profile's directory lies in the target directory"),
        );
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    let built = cargo.output().expect("cargo can be run");
    let text = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "building {PACKAGES:?}: {text}");
    profile_dir.to_owned()
}
