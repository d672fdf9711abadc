//! What a container gets with its slices: device nodes, mounts, environment, CDI names. No runtime's types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path in the container, e.g. `/dev/nvidia0`.
    pub container_path: PathBuf,
    /// Path on the host; differs under a driver root or a simulated node.
    pub host_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// A bind mount of a host file or folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BindMount {
    /// Path in the container.
    pub container_path: PathBuf,
    /// Path on the host.
    pub host_path: PathBuf,
    /// No writes from the container.
    pub read_only: bool,
}

/// All that is added to one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEdits {
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Device nodes, each once.
    pub device_nodes: Vec<DeviceNode>,
    /// Mounts, each container path once.
    pub mounts: Vec<BindMount>,
    /// Fully qualified CDI devices, `vendor/class=name`.
    pub cdi_devices: Vec<String>,
    /// Annotations on the container in the runtime.
    pub annotations: BTreeMap<String, String>,
}
