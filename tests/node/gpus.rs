//! The simulated GPUs of a node, and the operator who cuts them up and breaks them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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

struct Place {
    slot: u64,
    minor: u64,
    /// GPU instance, compute instance, UUID.
    mig: Option<(u64, u64, String)>,
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

    /// The operator's layout. MIG devices do not outlive a reboot, so it is done again after one.
    pub(crate) fn cut(&self) {
        self.sim(&["mig", "enable"], &["--gpu", "0"]);
        let count = MIG_COUNT.to_string();
        self.sim(
            &["mig", "create"],
            &["--gpu", "0", "--profile", PROFILE, "--count", &count],
        );
    }

    /// The operator destroys the MIG devices.
    pub(crate) fn uncut(&self) {
        self.sim(&["mig", "destroy"], &["--gpu", "0", "--all"]);
    }

    /// What a power cut does to the GPUs: the MIG devices are gone.
    pub(crate) fn power_cycle(&self) {
        self.sim(&["reboot"], &[]);
    }

    /// Raises an Xid on the MIG device with this ID.
    #[track_caller]
    pub(crate) fn raise(&self, id: &str, xid: u32) {
        let place = self.place(id);
        let (gi, ci, _) = place.mig.expect("a MIG device");
        let [gpu, gi, ci, xid] = [place.slot, gi, ci, u64::from(xid)].map(|n| n.to_string());
        self.sim(
            &["xid"],
            &["--gpu", &gpu, "--gi", &gi, "--ci", &ci, "--xid", &xid],
        );
    }

    /// What a container with the device of this ID must see: paths of device nodes with their
    /// numbers as `stat -c %t:%T` writes them, and the MIG device's UUID.
    ///
    /// Computed from the driver's files and not by the daemon's code, which is what is tested.
    #[track_caller]
    pub(crate) fn device(&self, id: &str) -> (BTreeMap<String, String>, Option<String>) {
        let place = self.place(id);
        let mut names: Vec<String> = [
            "nvidiactl",
            "nvidia-uvm",
            "nvidia-uvm-tools",
            "nvidia-modeset",
        ]
        .map(str::to_owned)
        .into();
        names.push(format!("nvidia{}", place.minor));
        if let Some((gi, ci, _)) = &place.mig {
            let minors =
                std::fs::read_to_string(self.dir.join("proc/driver/nvidia-caps/mig-minors"))
                    .expect("the table of MIG capabilities");
            for capability in [format!("gi{gi}"), format!("gi{gi}/ci{ci}")] {
                let line = format!("gpu{}/{capability}/access ", place.minor);
                let number = minors.lines().find_map(|l| l.strip_prefix(&line));
                let number = number.unwrap_or_else(|| panic!("no line {line:?}"));
                names.push(format!("nvidia-caps/nvidia-cap{number}"));
            }
        }
        let nodes = names.into_iter().map(|name| {
            let node = std::fs::metadata(self.dir.join("dev").join(&name))
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            // Majors and minors below 256 and 2^20: the old bits of a device number.
            let device = node.rdev();
            let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
            (format!("/dev/{name}"), format!("{major:x}:{minor:x}"))
        });
        (nodes.collect(), place.mig.map(|(_, _, uuid)| uuid))
    }

    /// Where the device of this ID is: `GPU-<uuid>`, or `GPU-<uuid>/mig/<profile>@<start>`.
    #[track_caller]
    fn place(&self, id: &str) -> Place {
        let text = self.sim(&["show"], &["--output", "json"]);
        let node: Value = serde_json::from_str(&text).expect("gpusim show is JSON");
        let find = || {
            let (uuid, mig) = match id.split_once("/mig/") {
                Some((uuid, mig)) => (uuid, Some(mig)),
                None => (id, None),
            };
            let gpu = node["gpus"]
                .as_array()?
                .iter()
                .find(|gpu| gpu["uuid"] == uuid)?;
            let number = |value: &Value| value.as_u64();
            let mig = match mig {
                None => None,
                Some(mig) => {
                    let (profile, start) = mig.split_once('@')?;
                    let (profile, start) = (profile.parse().ok()?, start.parse().ok()?);
                    let gi = gpu["gis"].as_array()?.iter().find(|gi| {
                        number(&gi["profile"]) == Some(profile)
                            && number(&gi["start"]) == Some(start)
                    })?;
                    let ci = &gi["cis"][0];
                    Some((
                        number(&gi["id"])?,
                        number(&ci["id"])?,
                        ci["uuid"].as_str()?.to_owned(),
                    ))
                }
            };
            Some(Place {
                slot: number(&gpu["slot"])?,
                minor: number(&gpu["minor"])?,
                mig,
            })
        };
        find().unwrap_or_else(|| panic!("nothing at {id} in {text}"))
    }

    /// Where the driver's files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs `gpusim <verb> <dir> <args>`.
    #[track_caller]
    pub(crate) fn sim(&self, verb: &[&str], args: &[&str]) -> String {
        // The node's lock may be with a daemon that is stopped.
        let output = Command::new("timeout")
            .arg("20")
            .arg(&self.gpusim)
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
