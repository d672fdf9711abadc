//! A simulated GPU node: a directory that the simulated driver library reads, driven by `gpusim`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::artifacts::{artifacts, program};

/// GPUs that are not there.
#[derive(Debug)]
pub struct SimNode {
    dir: PathBuf,
}

impl SimNode {
    /// Makes a node with `gpus`, e.g. `a100-40gb:2`, in `dir`.
    ///
    /// # Panics
    /// With the simulator's words, when it cannot.
    #[must_use]
    pub fn new(dir: &Path, gpus: &str) -> Self {
        let node = Self {
            dir: dir.to_owned(),
        };
        let libraries = artifacts().display().to_string();
        node.gpusim(&["init"], &["--gpu", gpus, "--lib-dir", &libraries]);
        node
    }

    /// The node's directory: what `/` is to a real driver.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The driver's management library.
    #[must_use]
    pub fn library(&self) -> PathBuf {
        self.dir.join("lib/libnvidia-ml.so.1")
    }

    /// Switches MIG mode of a GPU on, with the reset that Ampere GPUs need for it; others would lose the mode by one.
    pub fn enable_mig(&self, gpu: u32) {
        let gpu = gpu.to_string();
        let said = self.gpusim(&["mig", "enable"], &["--gpu", &gpu]);
        if !said.contains("in effect") {
            self.gpusim(&["reset"], &["--gpu", &gpu]);
        }
    }

    /// Makes `count` MIG devices of `profile`, where the driver likes.
    pub fn create_mig(&self, gpu: u32, profile: &str, count: u32) {
        let (gpu, count) = (gpu.to_string(), count.to_string());
        let arguments = ["--gpu", &gpu, "--profile", profile, "--count", &count];
        self.gpusim(&["mig", "create"], &arguments);
    }

    /// The GPU falls off the bus.
    pub fn lose(&self, gpu: u32) {
        self.gpusim(&["lose"], &["--gpu", &gpu.to_string()]);
    }

    /// Undoes losses, faults, and what was done to the driver.
    pub fn heal(&self) {
        self.gpusim(&["heal"], &[]);
    }

    /// Raises an Xid.
    pub fn xid(&self, gpu: u32, xid: u64) {
        self.gpusim(
            &["xid"],
            &["--gpu", &gpu.to_string(), "--xid", &xid.to_string()],
        );
    }

    /// Delays every call of a driver function (`*` for all).
    pub fn delay(&self, function: &str, milliseconds: u32) {
        let delay = milliseconds.to_string();
        self.gpusim(&["fault"], &["--function", function, "--delay-ms", &delay]);
    }

    /// Reboots the node's GPUs: MIG instances are gone afterwards.
    pub fn reboot(&self) {
        self.gpusim(&["reboot"], &[]);
    }

    /// Runs `gpusim COMMAND DIR OPTIONS` and returns what it says.
    ///
    /// # Panics
    /// With the simulator's words, when it fails.
    pub fn gpusim(&self, command: &[&str], options: &[&str]) -> String {
        let mut gpusim = Command::new(program("gpusim"));
        gpusim.args(command).arg(&self.dir).args(options);
        let output = gpusim.output().expect("gpusim can be run");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        write!(said, "{error}").expect("a string takes text");
        assert!(
            output.status.success(),
            "gpusim {command:?} {options:?}: {said}"
        );
        said
    }
}
