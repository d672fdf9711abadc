//! What the daemon tells operators: the answer of its admin socket, read by `gpusharectl`.
//!
//! Stable for scripts: fields are added, never renamed or removed within `version`.

use serde::{Deserialize, Serialize};

use crate::health::Condition;
use crate::ids::{ContainerRef, GpuIndex, GpuUuid, MigUuid};
use crate::inventory::DriverInfo;
use crate::mig::MigMode;
use crate::offer::LeftOut;
use crate::slice::SliceKind;

/// The node as the daemon sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Form of this answer; 1.
    pub version: u32,
    /// The daemon.
    pub daemon: DaemonStatus,
    /// The driver; `None` until it answered once.
    pub driver: Option<DriverInfo>,
    /// GPUs in PCI order.
    pub gpus: Vec<GpuStatus>,
    /// Resources by name.
    pub resources: Vec<ResourceStatus>,
    /// What is there and not offered, and why.
    pub left_out: Vec<LeftOut>,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Start, Unix seconds.
    pub started_at: u64,
    /// Number of the published state; grows with every change.
    pub generation: u64,
    /// Everything is registered and the driver answers.
    pub ready: bool,
    /// What it still waits for.
    pub waiting_for: Vec<String>,
    /// How devices reach containers: `cdi`, `device-nodes` or `env`.
    pub device_list_strategy: String,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuStatus {
    /// Identity.
    pub uuid: GpuUuid,
    /// NVML order.
    pub index: GpuIndex,
    /// Product name.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// PCI address.
    pub pci: String,
    /// NUMA node, where known.
    pub numa_node: Option<u32>,
    /// MIG mode.
    pub mig_mode: MigMode,
    /// False while the driver does not list it.
    pub present: bool,
    /// Conditions on the GPU as a whole.
    pub conditions: Vec<Condition>,
    /// Its slices.
    pub slices: Vec<SliceStatus>,
}

/// A slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceStatus {
    /// Plugin device ID.
    pub id: String,
    /// Kind.
    pub kind: SliceKind,
    /// Resource that it is offered under.
    pub resource: String,
    /// First memory slice and number of memory slices, for MIG.
    pub placement: Option<(u32, u32)>,
    /// MIG device, where it exists.
    pub mig_uuid: Option<MigUuid>,
    /// May be given out.
    pub healthy: bool,
    /// Why not.
    pub why_unhealthy: Vec<String>,
    /// The lease on it.
    pub lease: Option<LeaseStatus>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// `reserved`, `building`, `ready`, `in-use`, `releasing` or `failed: <why>`.
    pub state: String,
    /// Who has it, once seen.
    pub container: Option<ContainerRef>,
    /// When the last grant was given, Unix seconds.
    pub granted_at: u64,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// e.g. `nvidia.com/gpu`.
    pub name: String,
    /// The kubelet knows it and reads our list.
    pub registered: bool,
    /// IDs in the list.
    pub capacity: u32,
    /// Those of them that are healthy.
    pub allocatable: u32,
    /// Those of them that are leased.
    pub leased: u32,
}
