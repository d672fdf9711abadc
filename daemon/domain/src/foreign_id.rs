//! IDs that NVIDIA's device plugin counts under the resource names that this daemon offers, too.
//!
//! | ID | what it holds |
//! |---|---|
//! | `MIG-<uuid>`, `MIG-<uuid>::<n>` | the MIG device with that UUID, or a time share of it |
//! | `GPU-<uuid>::<n>` | a time share of the GPU |
//!
//! A node that changes from that plugin to this daemon has pods that go on with them: their places are taken, and a
//! time share takes all of its place. `GPU-<uuid>` without a number is an ID of this daemon, with the same meaning.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::device_id::PluginDeviceId;
use crate::ids::{ContainerRef, GpuUuid, MigUuid, ParseIdError};
use crate::inventory::Inventory;
use crate::node::Node;
use crate::resource::ResourceName;
use crate::slice::Place;

/// More than any such ID has; what is longer is not looked at.
const LONGEST: usize = 128;

/// What an ID of NVIDIA's device plugin stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForeignId {
    /// A MIG device, or a time share of it.
    Mig(MigUuid),
    /// A time share of a GPU.
    SharedGpu(GpuUuid),
}

impl FromStr for ForeignId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError {
            text: text.chars().take(LONGEST).collect(),
            expected: "an ID of NVIDIA's device plugin (MIG-<uuid>, MIG-<uuid>::<n> or GPU-<uuid>::<n>)",
        };
        if text.len() > LONGEST {
            return Err(error());
        }
        let (device, share) = match text.split_once("::") {
            None => (text, None),
            Some((device, share)) => (device, Some(share.parse::<u32>().map_err(|_| error())?)),
        };
        if let Ok(mig) = device.parse() {
            return Ok(Self::Mig(mig));
        }
        match (device.parse(), share) {
            (Ok(gpu), Some(_)) => Ok(Self::SharedGpu(gpu)),
            _ => Err(error()),
        }
    }
}

/// Which places MIG devices have now, by UUID: a UUID says nothing about an instance that is not there any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigPlaces(BTreeMap<MigUuid, PluginDeviceId>);

impl MigPlaces {
    /// Of what the driver described last.
    #[must_use]
    pub fn new(inventory: Option<&Inventory>) -> Self {
        let gpus = inventory.into_iter().flat_map(|all| &all.gpus);
        let places = gpus.flat_map(|gpu| {
            gpu.instances.iter().flat_map(|instance| {
                let place = PluginDeviceId::from(Place::Mig {
                    gpu: gpu.facts.uuid.clone(),
                    profile: instance.profile,
                    start: instance.placement.start,
                });
                let devices = instance.compute_instances.iter();
                devices.map(move |device| (device.uuid.clone(), place.clone()))
            })
        });
        Self(places.collect())
    }

    /// The place that such an ID holds, where that can be told.
    #[must_use]
    pub fn find(&self, id: &ForeignId) -> Option<PluginDeviceId> {
        match id {
            ForeignId::Mig(uuid) => self.0.get(uuid).cloned(),
            ForeignId::SharedGpu(gpu) => Some(Place::Gpu(gpu.clone()).into()),
        }
    }
}

/// Who holds which device, and under which resource, as PodResources says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// By our IDs.
    pub ours: BTreeMap<PluginDeviceId, (ResourceName, ContainerRef)>,
    /// By those of NVIDIA's plugin.
    pub foreign: BTreeMap<ForeignId, (ResourceName, ContainerRef)>,
}

impl Holdings {
    /// Every place that is held.
    ///
    /// While the driver does not describe a GPU, a UUID cannot be looked up: then the container keeps what it was
    /// last seen with.
    #[must_use]
    pub fn places(&self, node: &Node) -> BTreeMap<PluginDeviceId, (ResourceName, ContainerRef)> {
        let mut places = self.ours.clone();
        if self.foreign.is_empty() {
            return places;
        }
        let migs = MigPlaces::new(node.inventory());
        for (id, holder) in &self.foreign {
            if let Some(place) = migs.find(id) {
                places.entry(place).or_insert_with(|| holder.clone());
                continue;
            }
            let (resource, container) = holder;
            let kept = node.leases.iter().filter(|lease| {
                lease.grants.is_empty()
                    && lease.resource == *resource
                    && lease.container.as_ref() == Some(container)
                    && !node.is_gone(lease.id.place())
            });
            for lease in kept {
                let place = places.entry(lease.id.clone());
                place.or_insert_with(|| holder.clone());
            }
        }
        places
    }
}

#[cfg(test)]
mod tests;
