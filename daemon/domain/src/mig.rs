//! MIG profiles and placements, as the driver tells them.
//!
//! Units: places and sizes in memory slices of the GPU (8 on most parts, 4 on A30, 12 on RTX PRO 6000). Where a slice
//! is only counted as occupied or free it is called a slot.
//!
//! - [`geometry`]: profiles and places of one GPU as the rules need them; [`load`]: what lies on one GPU.
//! - [`placement`]: where an instance goes.
//! - [`check`]: a second opinion on what may lie side by side.

pub mod check;
pub mod geometry;
pub mod load;
mod losses;
pub mod placement;
mod room;
mod several;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ComputeInstanceId, GpuInstanceId, MigUuid};

/// The driver's number for a GPU-instance profile (19, 14, 9, 5, 0, …), the one that `nvidia-smi` prints.
///
/// It does not change with the driver, as names do (`1g.24gb` or `1g.23gb` on one board), so state is keyed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MigProfileId(pub u32);

impl fmt::Display for MigProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// First memory slice and number of memory slices of a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// First memory slice.
    pub start: u32,
    /// How many memory slices.
    pub size: u32,
}

impl Placement {
    /// Do the two share a memory slice?
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let end = |placement: Self| placement.start.saturating_add(placement.size);
        self.start < end(other) && other.start < end(self)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

/// A GPU-instance profile of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigProfile {
    /// The stable number.
    pub id: MigProfileId,
    /// The driver's name, e.g. `1g.10gb+me`; may change with the driver.
    pub name: String,
    /// Compute slices of the GPU.
    pub compute_slices: u32,
    /// Most instances of this profile on the GPU, whatever the placements say (1 for `+me`).
    pub max_instances: u32,
    /// Memory of one instance in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors of one instance.
    pub multiprocessors: u32,
    /// Where an instance may lie, ascending by start.
    pub placements: Vec<Placement>,
}

/// MIG mode of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigMode {
    /// The GPU has no MIG.
    Unsupported,
    /// Off, and stays off.
    Disabled,
    /// On, and stays on.
    Enabled,
    /// Current and pending mode differ: a reset or a reboot is outstanding, nothing may be offered.
    Pending {
        /// What the mode becomes.
        enabled: bool,
    },
}

/// What the driver said to a change of MIG mode that it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a mode change that the driver accepted may still be outstanding"]
pub enum MigModeActivation {
    /// In force.
    Active,
    /// The GPU must be reset, or the node rebooted, first.
    ResetRequired,
    /// Somebody uses the GPU: in force when it is idle, or after a reset.
    InUse,
    /// Any other NVML code as activation status.
    Outstanding(u32),
}

/// A GPU instance that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInstance {
    /// Its id, valid until it is destroyed.
    pub id: GpuInstanceId,
    /// Its profile.
    pub profile: MigProfileId,
    /// Where it lies.
    pub placement: Placement,
    /// Its compute instances; none where their creation failed.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A compute instance that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// Its id within the GPU instance.
    pub id: ComputeInstanceId,
    /// The driver's number for its profile.
    pub profile: u32,
    /// Compute slices that it has of the GPU instance's.
    pub slices: u32,
    /// The MIG device.
    pub uuid: MigUuid,
}

#[cfg(test)]
mod tests;
