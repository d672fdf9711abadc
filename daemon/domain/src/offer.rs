//! From what the node has to what it offers: (inventory, policy) → resources, each a list of slices.
//!
//! Offered are whole GPUs without MIG, and MIG devices that exist and cover their GPU instance. A GPU with MIG on,
//! or with a mode change outstanding, is never offered whole. What is left out is said, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::device_id::PluginDeviceId;
use crate::ids::{ComputeInstanceId, GpuInstanceId, GpuMinor, GpuUuid, MigUuid};
use crate::inventory::{GpuState, Inventory};
use crate::mig::{GpuInstance, MigMode};
use crate::resource::ResourceName;
use crate::slice::{Place, Slice};

/// What this node gives out, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferPolicy {
    /// Resource of whole GPUs; `None` offers none.
    pub gpu: Option<ResourceName>,
    /// Domain of the MIG resources (`<domain>/mig-<profile>`); `None` offers none.
    pub mig_domain: Option<String>,
    /// GPUs that are left alone.
    pub excluded: BTreeSet<GpuUuid>,
}

/// What the driver calls a slice at this moment; needed to hand it out, never kept as its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handles {
    /// The GPU.
    pub gpu: GpuUuid,
    /// Device node of the GPU.
    pub gpu_minor: GpuMinor,
    /// The MIG device, for a MIG place.
    pub mig: Option<MigHandles>,
}

/// The driver's names of a MIG device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigHandles {
    /// GPU instance.
    pub gpu_instance: GpuInstanceId,
    /// Compute instance.
    pub compute_instance: ComputeInstanceId,
    /// MIG device.
    pub uuid: MigUuid,
}

/// A slice that exists and is given out under a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedSlice {
    /// Its ID.
    pub id: PluginDeviceId,
    /// Its place and extent.
    pub slice: Slice,
    /// NUMA node of its GPU.
    pub numa_node: Option<u32>,
    /// Device memory in MiB.
    pub memory_mib: u64,
    /// The driver's names.
    pub handles: Handles,
}

/// Something that is there and is not offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which GPU, and which part of it.
    pub what: String,
    /// Why.
    pub why: String,
}

/// All that the node offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// Slices by resource, ordered by GPU index and start; a resource may be empty.
    pub resources: BTreeMap<ResourceName, Vec<OfferedSlice>>,
    /// What is not offered, and why.
    pub left_out: Vec<LeftOut>,
}

impl Offers {
    /// The slice with that ID and the resource that it belongs to.
    #[must_use]
    pub fn find(&self, id: &PluginDeviceId) -> Option<(&ResourceName, &OfferedSlice)> {
        self.resources.iter().find_map(|(resource, slices)| {
            slices
                .iter()
                .find(|slice| slice.id == *id)
                .map(|slice| (resource, slice))
        })
    }
}

/// What the node offers under a policy.
#[must_use]
pub fn offers(inventory: &Inventory, policy: &OfferPolicy) -> Offers {
    let mut offers = Offers::default();
    if let Some(name) = &policy.gpu {
        offers.resources.insert(name.clone(), Vec::new());
    }
    for uuid in policy
        .excluded
        .iter()
        .filter(|uuid| inventory.gpu(uuid).is_none())
    {
        offers.leave_out(
            uuid.to_string(),
            "excluded by the configuration; not a GPU of this node now",
        );
    }
    for (index, why) in &inventory.unreadable {
        offers.leave_out(format!("GPU {index}"), why.clone());
    }
    for gpu in &inventory.gpus {
        if policy.excluded.contains(&gpu.facts.uuid) {
            offers.leave_out(gpu.facts.uuid.to_string(), "excluded by the configuration");
            continue;
        }
        match gpu.mig_mode {
            MigMode::Unsupported | MigMode::Disabled => offers.add_gpu(gpu, policy),
            MigMode::Enabled => offers.add_instances(gpu, policy),
            MigMode::Pending { enabled } => offers.leave_out(
                gpu.facts.uuid.to_string(),
                format!(
                    "MIG mode will be {} after a reset of the GPU or a reboot",
                    if enabled { "on" } else { "off" }
                ),
            ),
        }
    }
    offers
}

impl Offers {
    fn leave_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(LeftOut {
            what: what.into(),
            why: why.into(),
        });
    }

    fn add_gpu(&mut self, gpu: &GpuState, policy: &OfferPolicy) {
        let Some(resource) = &policy.gpu else {
            self.leave_out(
                gpu.facts.uuid.to_string(),
                "whole GPUs are not offered on this node",
            );
            return;
        };
        let place = Place::Gpu(gpu.facts.uuid.clone());
        self.resources
            .entry(resource.clone())
            .or_default()
            .push(OfferedSlice {
                id: place.clone().into(),
                slice: Slice {
                    place,
                    placement: None,
                },
                numa_node: gpu.facts.numa_node,
                memory_mib: gpu.facts.memory_bytes >> 20,
                handles: Handles {
                    gpu: gpu.facts.uuid.clone(),
                    gpu_minor: gpu.facts.minor,
                    mig: None,
                },
            });
    }

    fn add_instances(&mut self, gpu: &GpuState, policy: &OfferPolicy) {
        let Some(domain) = &policy.mig_domain else {
            self.leave_out(
                gpu.facts.uuid.to_string(),
                "MIG devices are not offered on this node",
            );
            return;
        };
        if gpu.instances.is_empty() {
            self.leave_out(
                gpu.facts.uuid.to_string(),
                "MIG mode is on and there is no instance",
            );
        }
        for instance in &gpu.instances {
            match offered_instance(gpu, instance, domain) {
                Ok((resource, slice)) => {
                    self.resources.entry(resource).or_default().push(slice);
                }
                Err(why) => self.leave_out(
                    format!("{} GPU instance {}", gpu.facts.uuid, instance.id),
                    why,
                ),
            }
        }
    }
}

fn offered_instance(
    gpu: &GpuState,
    instance: &GpuInstance,
    domain: &str,
) -> Result<(ResourceName, OfferedSlice), String> {
    let profile = gpu.profile(instance.profile).ok_or_else(|| {
        format!(
            "the driver does not describe its profile {}",
            instance.profile
        )
    })?;
    let resource =
        ResourceName::of_mig_profile(domain, &profile.name).map_err(|error| error.to_string())?;
    let compute = match instance.compute_instances.as_slice() {
        [only] if only.slices == profile.compute_slices => only,
        [] => return Err("it has no compute instance".to_owned()),
        several => {
            return Err(format!(
                "it is cut into {} compute instance(s) that do not cover it",
                several.len()
            ));
        }
    };
    let place = Place::Mig {
        gpu: gpu.facts.uuid.clone(),
        profile: instance.profile,
        start: instance.placement.start,
    };
    let slice = OfferedSlice {
        id: place.clone().into(),
        slice: Slice {
            place,
            placement: Some(instance.placement),
        },
        numa_node: gpu.facts.numa_node,
        memory_mib: profile.memory_mib,
        handles: Handles {
            gpu: gpu.facts.uuid.clone(),
            gpu_minor: gpu.facts.minor,
            mig: Some(MigHandles {
                gpu_instance: instance.id,
                compute_instance: compute.id,
                uuid: compute.uuid.clone(),
            }),
        },
    };
    Ok((resource, slice))
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
