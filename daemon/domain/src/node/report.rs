//! The node's state for operators.

use super::{Listed, Node};
use crate::device_id::PluginDeviceId;
use crate::ids::{GpuIndex, GpuUuid};
use crate::mig::MigMode;
use crate::resource::ResourceName;
use crate::slice::Place;
use crate::status::{GpuStatus, LeaseStatus, ResourceStatus, SliceStatus};

impl Node {
    /// GPUs with their slices, for operators, in NVML order; lost ones with what was known of them.
    #[must_use]
    pub fn gpu_statuses(&self) -> Vec<GpuStatus> {
        let mut statuses: Vec<GpuStatus> = self
            .gpus()
            .iter()
            .map(|uuid| self.gpu_status(uuid))
            .collect();
        statuses.sort_by_key(|gpu| gpu.index);
        statuses
    }

    fn gpu_status(&self, uuid: &GpuUuid) -> GpuStatus {
        let state = self
            .inventory
            .as_ref()
            .and_then(|inventory| inventory.gpu(uuid));
        let facts = self.facts.get(uuid);
        let mut slices: Vec<_> = self
            .listed
            .iter()
            .filter(|(_, listed)| listed.slice.place.gpu() == uuid)
            .collect();
        slices.sort_by_cached_key(|(id, listed)| self.position(id, listed));
        GpuStatus {
            uuid: uuid.clone(),
            index: facts.map_or(GpuIndex(u32::MAX), |facts| facts.index),
            name: facts.map_or_else(|| "unknown GPU".to_owned(), |facts| facts.name.clone()),
            memory_mib: facts.map_or(0, |facts| facts.memory_bytes >> 20),
            pci: facts.map_or_else(String::new, |facts| facts.pci.to_string()),
            numa_node: facts.and_then(|facts| facts.numa_node),
            mig_mode: state.map_or(MigMode::Unsupported, |state| state.mig_mode),
            present: state.is_some(),
            conditions: self.health.of(&Place::Gpu(uuid.clone())).cloned().collect(),
            slices: slices
                .iter()
                .map(|(id, listed)| self.slice_status(id, listed))
                .collect(),
        }
    }

    fn slice_status(&self, id: &PluginDeviceId, listed: &Listed) -> SliceStatus {
        let why = self.why_unhealthy(id);
        SliceStatus {
            id: id.to_string(),
            kind: listed.slice.place.kind(),
            resource: listed.resource.to_string(),
            placement: listed
                .slice
                .placement
                .map(|placement| (placement.start, placement.size)),
            mig_uuid: listed
                .handles
                .as_ref()
                .and_then(|handles| handles.mig.as_ref())
                .map(|mig| mig.uuid.clone()),
            healthy: why.is_empty(),
            why_unhealthy: why,
            lease: self.leases.get(id).map(|lease| LeaseStatus {
                state: lease.state.to_string(),
                container: lease.container.clone(),
                granted_at: lease.granted_at,
            }),
        }
    }

    /// Resources with their counts, for operators; `registered` says which the kubelet knows.
    #[must_use]
    pub fn resource_statuses(
        &self,
        registered: impl Fn(&ResourceName) -> bool,
    ) -> Vec<ResourceStatus> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.lists()
            .into_iter()
            .map(|(name, devices)| ResourceStatus {
                registered: registered(&name),
                capacity: count(devices.len()),
                allocatable: count(devices.iter().filter(|(_, healthy, _)| *healthy).count()),
                leased: count(
                    devices
                        .iter()
                        .filter(|(id, _, _)| self.leases.get(id).is_some())
                        .count(),
                ),
                name: name.to_string(),
            })
            .collect()
    }
}
