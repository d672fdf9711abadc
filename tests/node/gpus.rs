//! The simulated GPUs of a node, and the operator who cuts them up and breaks them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::case::Setting;

/// The MIG profile of the cases, and its resource.
pub(crate) const PROFILE: &str = "1g.10gb";
/// The resource of the MIG devices.
pub(crate) const MIG: &str = "nvidia.com/mig-1g.10gb";
/// The resource of the whole GPUs.
pub(crate) const GPU: &str = "nvidia.com/gpu";
/// How many MIG devices [`Gpus::usual`] makes: all that an H100 has room for.
pub(crate) const MIG_COUNT: u64 = 7;
/// How many whole GPUs it leaves.
pub(crate) const GPU_COUNT: u64 = 2;

/// The folder that stands for the driver of a node.
#[derive(Debug, Clone)]
pub(crate) struct Gpus {
    gpusim: PathBuf,
    dir: PathBuf,
}

impl Gpus {
    /// Three H100: the first one is cut into seven MIG devices, the others are whole.
    pub(crate) fn usual(setting: &Setting, node: &Path) -> Self {
        let gpus = Self {
            gpusim: setting.gpusim.clone(),
            dir: node.join("driver"),
        };
        gpus.sim(&["init"], &["--gpu", "h100-80gb:3"]);
        gpus.cut();
        gpus
    }

    /// The operator's layout; MIG devices do not outlive a reboot, so it is done again after one.
    pub(crate) fn cut(&self) {
        self.sim(&["mig", "enable"], &["--gpu", "0"]);
        let count = MIG_COUNT.to_string();
        self.sim(
            &["mig", "create"],
            &["--gpu", "0", "--profile", PROFILE, "--count", &count],
        );
    }

    /// Breaks the MIG device with this ID.
    pub(crate) fn fault(&self, id: &str) {
        std::fs::write(self.dir.join("unhealthy"), id).expect("stand-in");
    }

    /// Repairs it.
    pub(crate) fn heal(&self, _id: &str) {
        self.sim(&["heal"], &[]);
    }

    /// The operator destroys the MIG devices.
    pub(crate) fn uncut(&self) {
        self.sim(&["mig", "destroy"], &["--gpu", "0", "--all"]);
    }

    /// What a power cut leaves of the GPUs: no MIG devices.
    pub(crate) fn power_cycle(&self) {
        self.uncut();
    }

    /// Where the driver's files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `gpusim <verb> <dir> <args>`.
    #[track_caller]
    pub(crate) fn sim(&self, verb: &[&str], args: &[&str]) -> String {
        let output = Command::new(&self.gpusim)
            .args(verb)
            .arg(&self.dir)
            .args(args)
            .output()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.gpusim.display()));
        assert!(
            output.status.success(),
            "gpusim {verb:?} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
