//! The simulated GPU node that a bench runs on.
//!
//! `benches/run` has given this process a mount namespace of its own; [`SimNode::mount`] puts the node's `/proc`,
//! `/dev`, `/sys` files and an empty `/var/lib/kubelet` in place there, for every program alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where the kubelet's device-plugins directory is once the node is mounted.
pub const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";

/// A node directory, removed with this value.
#[derive(Debug)]
pub struct SimNode {
    dir: tempfile::TempDir,
    gpusim: PathBuf,
    mounts: PathBuf,
}

impl SimNode {
    /// Makes a node with these GPUs, as `gpusim init --gpu` takes them. The simulator is named by `BENCH_GPUSIM`,
    /// the script that mounts by `BENCH_MOUNTS`.
    ///
    /// # Errors
    /// What `gpusim` says, or that it is not named.
    pub fn make(gpus: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("gpushared-bench.")
            .tempdir()?;
        let node = Self {
            dir,
            gpusim: program("BENCH_GPUSIM").context("BENCH_GPUSIM names no program")?,
            mounts: program("BENCH_MOUNTS").context("BENCH_MOUNTS names no program")?,
        };
        node.sim(&["init"], &["--gpu", gpus])?;
        Ok(node)
    }

    /// Runs `gpusim VERB DIR ARGUMENTS`.
    ///
    /// # Errors
    /// What it says when it fails.
    pub fn sim(&self, verb: &[&str], arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.gpusim);
        command.args(verb).arg(self.dir()).args(arguments);
        output(&mut command)
    }

    /// Puts the node in place in this process's mount namespace.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn mount(&self) -> Result<()> {
        output(Command::new(&self.mounts).arg(self.dir())).map(drop)
    }

    /// The node directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The simulated driver's libraries, for `LD_LIBRARY_PATH`.
    pub fn libraries(&self) -> PathBuf {
        self.dir().join("lib")
    }
}

/// The program that this environment variable names, if it names one.
pub fn program(variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(PathBuf::from(named))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
