//! What the node has: an immutable snapshot of the driver's answers, with what could not be read.

use serde::{Deserialize, Serialize};

use crate::ids::{GpuIndex, GpuMinor, GpuUuid, PciAddress};
use crate::mig::{GpuInstance, MigMode, MigProfile};

/// The driver and its library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverInfo {
    /// e.g. `570.124.06`.
    pub driver_version: String,
    /// NVML's own version, e.g. `12.570.124.06`.
    pub nvml_version: String,
    /// CUDA driver version as major × 1000 + minor × 10, e.g. 12080.
    pub cuda_version: u32,
    /// The library says that the GPUs are simulated.
    pub simulated: bool,
}

impl DriverInfo {
    /// Major number of the driver version, 0 where it cannot be read.
    #[must_use]
    pub fn driver_major(&self) -> u32 {
        self.driver_version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(0)
    }
}

/// What stays the same about a GPU as long as its driver does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// Identity.
    pub uuid: GpuUuid,
    /// NVML order.
    pub index: GpuIndex,
    /// Device node.
    pub minor: GpuMinor,
    /// Product name, e.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Kernel's PCI address.
    pub pci: PciAddress,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// CUDA compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// NUMA node of the GPU, where the machine tells.
    pub numa_node: Option<u32>,
}

/// A GPU at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuState {
    /// What it is.
    pub facts: GpuFacts,
    /// Its MIG mode.
    pub mig_mode: MigMode,
    /// Its profiles; empty without MIG.
    pub profiles: Vec<MigProfile>,
    /// Its GPU instances, ascending by start.
    pub instances: Vec<GpuInstance>,
}

impl GpuState {
    /// The profile with that number.
    #[must_use]
    pub fn profile(&self, id: crate::mig::MigProfileId) -> Option<&MigProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }
}

/// The node's GPUs at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The driver.
    pub driver: DriverInfo,
    /// What could be read, in PCI order.
    pub gpus: Vec<GpuState>,
    /// GPUs that the driver counts but could not describe: index and why.
    pub unreadable: Vec<(GpuIndex, String)>,
}

impl Inventory {
    /// The GPU with that UUID, if it could be read.
    #[must_use]
    pub fn gpu(&self, uuid: &GpuUuid) -> Option<&GpuState> {
        self.gpus.iter().find(|gpu| gpu.facts.uuid == *uuid)
    }
}
