//! Which device nodes a slice needs, and the minors of MIG capabilities.
//!
//! | slice | nodes |
//! |---|---|
//! | any | `nvidiactl`, `nvidia-uvm`, the GPU's `nvidia<minor>`; `nvidia-uvm-tools` and `nvidia-modeset` where they are |
//! | MIG device | and two capabilities, `nvidia-caps/nvidia-cap<N>`: of its GPU instance and of its compute instance |
//!
//! A capability's number comes from the driver: the instance's `access` file under `proc/driver/nvidia/capabilities`
//! while the instance exists, else the table `proc/driver/nvidia-caps/mig-minors`. It is compared with the formula of
//! the kernel module's `nv-caps.c` and a difference is logged: the driver's word counts. With neither file there is no
//! guess, since a wrong number opens another tenant's instance.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpushared_domain::edits::DeviceNode;
use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId, GpuMinor};
use gpushared_domain::offer::Handles;

const ALWAYS: [&str; 2] = ["nvidiactl", "nvidia-uvm"];
const WHERE_THEY_ARE: [&str; 2] = ["nvidia-uvm-tools", "nvidia-modeset"];

/// Where the node's device files and the driver's files in `/proc` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNodeRoots {
    /// `/`, or the root of a simulated node: holds `proc/driver`.
    pub sysroot: PathBuf,
    /// The folder that stands for `/dev`.
    pub dev: PathBuf,
}

/// A capability of the driver: access to a GPU instance or to one of its compute instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The GPU.
    pub gpu: GpuMinor,
    /// The GPU instance.
    pub gpu_instance: GpuInstanceId,
    /// The compute instance; `None` for the GPU instance's own.
    pub compute_instance: Option<ComputeInstanceId>,
}

/// A slice's nodes could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DeviceNodeError {
    /// A node is not there.
    #[error("{} is missing; `{made_by}` makes it", path.display())]
    Missing {
        /// The node on the host.
        path: PathBuf,
        /// The command that makes it.
        made_by: String,
    },
    /// The MIG device is not there any more.
    #[error("the MIG device is gone: {} does not exist", path.display())]
    InstanceGone {
        /// The driver's file that exists as long as the instance does.
        path: PathBuf,
    },
    /// The driver lists no such capability.
    #[error("the driver lists no capability for {capability} under {}", proc_driver.display())]
    NoCapability {
        /// Which.
        capability: Capability,
        /// Where it was looked for.
        proc_driver: PathBuf,
    },
    /// A file of the driver cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the driver has another form.
    #[error("{} has no number after {expected:?}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: String,
    },
}

impl Capability {
    /// By the formula of `nv-caps.c`: 135 minors for each GPU (15 GPU instances of 1 + 8), after 3 of the node's.
    #[must_use]
    pub fn minor_by_formula(self) -> u32 {
        let instance = 3 + 135 * self.gpu.0 + 9 * self.gpu_instance.0;
        self.compute_instance
            .map_or(instance, |compute| instance + 1 + compute.0)
    }

    /// As `mig-minors` writes it, without `/access`.
    fn line(self) -> String {
        let instance = format!("gpu{}/gi{}", self.gpu, self.gpu_instance);
        self.compute_instance.map_or(instance.clone(), |compute| {
            format!("{instance}/ci{compute}")
        })
    }

    /// Its file while the instance exists, below the sysroot.
    fn access_file(self) -> PathBuf {
        let instance = format!(
            "proc/driver/nvidia/capabilities/gpu{}/mig/gi{}",
            self.gpu, self.gpu_instance
        );
        let folder = self.compute_instance.map_or(instance.clone(), |compute| {
            format!("{instance}/ci{compute}")
        });
        Path::new(&folder).join("access")
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl DeviceNodeRoots {
    /// The nodes that a container with these slices needs, each once. Container paths are under `/dev`.
    ///
    /// # Errors
    /// When a node that is always needed is missing, or a capability's number cannot be told.
    pub fn nodes<'a>(
        &self,
        slices: impl IntoIterator<Item = &'a Handles>,
    ) -> Result<Vec<DeviceNode>, DeviceNodeError> {
        let mut nodes = Vec::new();
        for name in ALWAYS {
            nodes.push(self.needed(name, || made_by_modprobe(name))?);
        }
        for name in WHERE_THEY_ARE {
            if self.dev.join(name).exists() {
                nodes.push(self.node(name));
            }
        }
        for slice in slices {
            let minor = slice.gpu_minor;
            nodes.push(self.needed(&format!("nvidia{minor}"), || {
                format!("nvidia-modprobe -c {minor}")
            })?);
            let Some(mig) = &slice.mig else { continue };
            for compute_instance in [None, Some(mig.compute_instance)] {
                let capability = Capability {
                    gpu: minor,
                    gpu_instance: mig.gpu_instance,
                    compute_instance,
                };
                let name = format!(
                    "nvidia-caps/nvidia-cap{}",
                    self.capability_minor(capability)?
                );
                let access = self.sysroot.join(capability.access_file());
                if !access.exists() && !self.dev.join(&name).exists() {
                    return Err(DeviceNodeError::InstanceGone { path: access });
                }
                nodes.push(self.needed(&name, || {
                    format!("nvidia-modprobe -f /{}", capability.access_file().display())
                })?);
            }
        }
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The minor of a capability's node, as the driver says.
    ///
    /// # Errors
    /// When the driver's files do not say.
    pub fn capability_minor(&self, capability: Capability) -> Result<u32, DeviceNodeError> {
        let minor = match self.minor_of_instance(capability)? {
            Some(minor) => minor,
            None => self.minor_of_table(capability)?,
        };
        let expected = capability.minor_by_formula();
        if minor != expected {
            tracing::warn!(
                capability = %capability,
                minor,
                expected,
                "Capability minor differs from the known formula"
            );
        }
        Ok(minor)
    }

    fn minor_of_instance(&self, capability: Capability) -> Result<Option<u32>, DeviceNodeError> {
        let path = self.sysroot.join(capability.access_file());
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        number_after(&text, &path, "DeviceFileMinor:").map(Some)
    }

    fn minor_of_table(&self, capability: Capability) -> Result<u32, DeviceNodeError> {
        let path = self.sysroot.join("proc/driver/nvidia-caps/mig-minors");
        let name = format!("{}/access ", capability.line());
        match read(&path)? {
            Some(text) if text.lines().any(|line| line.starts_with(&name)) => {
                number_after(&text, &path, &name)
            }
            _ => Err(DeviceNodeError::NoCapability {
                capability,
                proc_driver: self.sysroot.join("proc/driver"),
            }),
        }
    }

    fn needed(
        &self,
        name: &str,
        made_by: impl FnOnce() -> String,
    ) -> Result<DeviceNode, DeviceNodeError> {
        let node = self.node(name);
        if node.host_path.exists() {
            Ok(node)
        } else {
            Err(DeviceNodeError::Missing {
                path: node.host_path,
                made_by: made_by(),
            })
        }
    }

    fn node(&self, name: &str) -> DeviceNode {
        DeviceNode {
            container_path: Path::new("/dev").join(name),
            host_path: self.dev.join(name),
            permissions: "rw".to_owned(),
        }
    }
}

fn made_by_modprobe(name: &str) -> String {
    let options = if name == "nvidia-uvm" {
        "-u -c 0"
    } else {
        "-c 0"
    };
    format!("nvidia-modprobe {options}")
}

fn read(path: &Path) -> Result<Option<String>, DeviceNodeError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DeviceNodeError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn number_after(text: &str, path: &Path, name: &str) -> Result<u32, DeviceNodeError> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .ok_or_else(|| DeviceNodeError::Form {
            path: path.to_owned(),
            expected: name.to_owned(),
        })
}

#[cfg(test)]
mod tests;
