//! The node's state: what it offers, who holds it, what is wrong with it. Decides what may be listed and given out.
//!
//! Invariants: a listed ID stays listed for the life of this value; an ID belongs to one resource; a place that is
//! not there, not healthy, or that overlaps another one's lease is listed unhealthy.

mod report;

use std::collections::{BTreeMap, BTreeSet};

use crate::device_id::PluginDeviceId;
use crate::health::HealthBook;
use crate::ids::{ContainerRef, GpuInstanceId, GpuUuid};
use crate::inventory::{GpuFacts, Inventory};
use crate::lease::LeaseTable;
use crate::mig::Placement;
use crate::offer::{Handles, OfferPolicy, OfferedSlice, Offers, offers};
use crate::resource::ResourceName;
use crate::slice::{Place, Slice, SliceKind};

/// A place that is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its resource, for the life of the process.
    pub resource: ResourceName,
    /// Place and extent.
    pub slice: Slice,
    /// NUMA node of its GPU.
    pub numa_node: Option<u32>,
    /// The driver's names; `None` while the place is not there.
    pub handles: Option<Handles>,
}

/// What is leased, by GPU.
type LeasedSlices<'a> = BTreeMap<&'a GpuUuid, Vec<(&'a PluginDeviceId, &'a Slice)>>;

/// Why places cannot be given out. The text is read by the person whose pod it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefuseAllocate {
    /// Not in our list.
    #[error("{id} is not a device of this node")]
    Unknown {
        /// The ID.
        id: PluginDeviceId,
    },
    /// Listed under another resource.
    #[error("{id} belongs to {resource}")]
    OtherResource {
        /// The ID.
        id: PluginDeviceId,
        /// Where it is listed.
        resource: ResourceName,
    },
    /// Listed, and not to be given out now.
    #[error("{id} cannot be given out now: {}", why.join("; "))]
    Unhealthy {
        /// The ID.
        id: PluginDeviceId,
        /// Every reason.
        why: Vec<String>,
    },
    /// Two of the request cannot be had together.
    #[error("{first} and {second} lie on the same part of a GPU")]
    Overlap {
        /// One.
        first: PluginDeviceId,
        /// The other.
        second: PluginDeviceId,
    },
}

/// What the node is, offers and has given out.
#[derive(Debug)]
pub struct Node {
    policy: OfferPolicy,
    inventory: Option<Inventory>,
    /// Of every GPU that was ever described, so that a lost one keeps its name and order.
    facts: BTreeMap<GpuUuid, GpuFacts>,
    offers: Offers,
    listed: BTreeMap<PluginDeviceId, Listed>,
    resources: BTreeSet<ResourceName>,
    /// Who holds what.
    pub leases: LeaseTable,
    /// What is wrong.
    pub health: HealthBook,
}

impl Node {
    /// From what is durable. `resources` are all names that this node ever registered: they stay, empty if need
    /// be, because the kubelet keeps them on the node.
    #[must_use]
    pub fn new(
        policy: OfferPolicy,
        leases: LeaseTable,
        health: HealthBook,
        resources: BTreeSet<ResourceName>,
    ) -> Self {
        let mut node = Self {
            policy,
            inventory: None,
            facts: BTreeMap::new(),
            offers: Offers::default(),
            listed: BTreeMap::new(),
            resources,
            leases,
            health,
        };
        node.list_leased();
        node
    }

    /// Replaces the policy; what is listed stays listed under its resource.
    pub fn set_policy(&mut self, policy: OfferPolicy) {
        self.policy = policy;
        if let Some(inventory) = self.inventory.take() {
            self.observe(inventory);
        }
    }

    /// A fresh look at the hardware.
    pub fn observe(&mut self, inventory: Inventory) {
        self.offers = offers(&inventory, &self.policy);
        for gpu in &inventory.gpus {
            self.facts.insert(gpu.facts.uuid.clone(), gpu.facts.clone());
        }
        self.inventory = Some(inventory);
        for listed in self.listed.values_mut() {
            listed.handles = None;
        }
        for (resource, slices) in &self.offers.resources {
            self.resources.insert(resource.clone());
            for offered in slices {
                list(&mut self.listed, &self.leases, resource, offered);
            }
        }
        self.list_leased();
    }

    /// Containers hold places: leases that are missing are made, and those places are listed from here on.
    /// Says whether any was missing.
    pub fn adopt(
        &mut self,
        now: u64,
        in_use: &BTreeMap<PluginDeviceId, (ResourceName, ContainerRef)>,
    ) -> bool {
        let mut adopted = false;
        for (id, (resource, container)) in in_use {
            if self.leases.get(id).is_none() {
                self.leases.adopt(now, id, resource, container);
                adopted = true;
            }
        }
        if adopted {
            self.list_leased();
        }
        adopted
    }

    /// The kubelet's own record binds a place to a pod: it is leased and listed from here on.
    pub fn remember(&mut self, now: u64, id: &PluginDeviceId, resource: &ResourceName) {
        self.leases.remember(now, id, resource);
        self.list_leased();
    }

    /// Every leased place is listed, whether it is there or not.
    fn list_leased(&mut self) {
        for lease in self.leases.iter() {
            self.resources.insert(lease.resource.clone());
            let place = lease.id.place().clone();
            let gpu = self
                .inventory
                .as_ref()
                .and_then(|inventory| inventory.gpu(place.gpu()));
            let extent = match &place {
                Place::Gpu(_) => None,
                Place::Mig { profile, start, .. } => gpu
                    .and_then(|gpu| gpu.profile(*profile))
                    .and_then(|profile| profile.placements.iter().find(|p| p.start == *start))
                    .copied(),
            };
            if let Some(known) = self.listed.get_mut(&lease.id) {
                // listed before its GPU was described
                known.slice.placement = extent.or(known.slice.placement);
                known.numa_node = gpu.map_or(known.numa_node, |gpu| gpu.facts.numa_node);
                continue;
            }
            let placement = extent.or(match &place {
                Place::Gpu(_) => None,
                Place::Mig { start, .. } => Some(Placement {
                    start: *start,
                    size: 1,
                }),
            });
            let listed = Listed {
                resource: lease.resource.clone(),
                slice: Slice { place, placement },
                numa_node: gpu.and_then(|gpu| gpu.facts.numa_node),
                handles: None,
            };
            self.listed.insert(lease.id.clone(), listed);
        }
    }

    /// Everything that is listed, by resource: ID, health, NUMA node, ordered by GPU index and start.
    #[must_use]
    pub fn lists(&self) -> BTreeMap<ResourceName, Vec<(PluginDeviceId, bool, Option<u32>)>> {
        let mut lists: BTreeMap<ResourceName, Vec<_>> = self
            .resources
            .iter()
            .map(|resource| (resource.clone(), Vec::new()))
            .collect();
        let mut ordered: Vec<_> = self.listed.iter().collect();
        ordered.sort_by_cached_key(|(id, listed)| self.position(id, listed));
        let leased = self.leased_slices();
        for (id, listed) in ordered {
            let healthy = self.is_healthy(id, listed, &leased);
            lists.entry(listed.resource.clone()).or_default().push((
                id.clone(),
                healthy,
                listed.numa_node,
            ));
        }
        lists
    }

    fn position(&self, id: &PluginDeviceId, listed: &Listed) -> (u32, u32, PluginDeviceId) {
        let index = self
            .facts
            .get(listed.slice.place.gpu())
            .map_or(u32::MAX, |facts| facts.index.0);
        (
            index,
            listed
                .slice
                .placement
                .map_or(0, |placement| placement.start),
            id.clone(),
        )
    }

    fn is_healthy(&self, id: &PluginDeviceId, listed: &Listed, leased: &LeasedSlices<'_>) -> bool {
        let overlaps = |others: &Vec<(&PluginDeviceId, &Slice)>| {
            others
                .iter()
                .any(|(other, slice)| *other != id && slice.overlaps(&listed.slice))
        };
        listed.handles.is_some()
            && self.health.is_healthy(&listed.slice.place)
            && !leased.get(listed.slice.place.gpu()).is_some_and(overlaps)
    }

    fn leased_slices(&self) -> LeasedSlices<'_> {
        let mut leased = LeasedSlices::new();
        for lease in self.leases.iter() {
            if let Some(listed) = self.listed.get(&lease.id) {
                let gpu = listed.slice.place.gpu();
                leased
                    .entry(gpu)
                    .or_default()
                    .push((&lease.id, &listed.slice));
            }
        }
        leased
    }

    fn overlapping_lease(&self, id: &PluginDeviceId, listed: &Listed) -> Option<&PluginDeviceId> {
        self.leases.iter().map(|lease| &lease.id).find(|other| {
            *other != id
                && other.place().gpu() == listed.slice.place.gpu()
                && self
                    .listed
                    .get(other)
                    .is_some_and(|theirs| theirs.slice.overlaps(&listed.slice))
        })
    }

    /// Why an ID may not be given out; empty when it may.
    #[must_use]
    pub fn why_unhealthy(&self, id: &PluginDeviceId) -> Vec<String> {
        let Some(listed) = self.listed.get(id) else {
            return vec!["it is not a device of this node".to_owned()];
        };
        let place = &listed.slice.place;
        let mut why: Vec<String> = self
            .health
            .of(place)
            .map(|condition| condition.cause.to_string())
            .collect();
        if listed.handles.is_none() && why.is_empty() {
            why.push(self.why_absent(place));
        }
        if let Some(other) = self.overlapping_lease(id, listed) {
            why.push(format!("{other} is in use on the same part of the GPU"));
        }
        why
    }

    fn why_absent(&self, place: &Place) -> String {
        let gpu = self
            .inventory
            .as_ref()
            .and_then(|inventory| inventory.gpu(place.gpu()));
        match (gpu, place.kind()) {
            (None, _) => "the driver does not list its GPU".to_owned(),
            (Some(_), SliceKind::Gpu) => "the GPU is not offered whole now".to_owned(),
            (Some(_), SliceKind::Mig) => "there is no such MIG device now".to_owned(),
        }
    }

    /// May these be given out together under that resource? Gives them back with the driver's names.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn may_allocate(
        &self,
        resource: &ResourceName,
        ids: &[PluginDeviceId],
    ) -> Result<Vec<(&Listed, &Handles)>, RefuseAllocate> {
        let mut found: Vec<(&Listed, &Handles)> = Vec::with_capacity(ids.len());
        for id in ids {
            let listed = self
                .listed
                .get(id)
                .ok_or_else(|| RefuseAllocate::Unknown { id: id.clone() })?;
            if listed.resource != *resource {
                let resource = listed.resource.clone();
                return Err(RefuseAllocate::OtherResource {
                    id: id.clone(),
                    resource,
                });
            }
            let why = self.why_unhealthy(id);
            let (true, Some(handles)) = (why.is_empty(), listed.handles.as_ref()) else {
                return Err(RefuseAllocate::Unhealthy {
                    id: id.clone(),
                    why,
                });
            };
            if let Some(position) = found
                .iter()
                .position(|(other, _)| other.slice.overlaps(&listed.slice))
            {
                let first = ids[position].clone();
                return Err(RefuseAllocate::Overlap {
                    first,
                    second: id.clone(),
                });
            }
            found.push((listed, handles));
        }
        Ok(found)
    }

    /// The driver's names of places that are there, whatever their health.
    #[must_use]
    pub fn handles(&self, ids: &[PluginDeviceId]) -> Option<Vec<&Handles>> {
        ids.iter()
            .map(|id| {
                self.listed
                    .get(id)
                    .and_then(|listed| listed.handles.as_ref())
            })
            .collect()
    }

    /// The place of a GPU instance that is there now, offered or not: an event of one that is not offered says
    /// nothing about the rest of its GPU.
    #[must_use]
    pub fn place_of(&self, gpu: &GpuUuid, instance: GpuInstanceId) -> Option<Place> {
        let state = self.inventory.as_ref()?.gpu(gpu)?;
        let found = state.instances.iter().find(|known| known.id == instance)?;
        Some(Place::Mig {
            gpu: gpu.clone(),
            profile: found.profile,
            start: found.placement.start,
        })
    }

    /// The driver describes the GPU, and says that there is no such MIG device on it.
    #[must_use]
    pub fn is_gone(&self, place: &Place) -> bool {
        let Place::Mig {
            gpu,
            profile,
            start,
        } = place
        else {
            return false;
        };
        let state = self.inventory.as_ref().and_then(|all| all.gpu(gpu));
        state.is_some_and(|state| {
            !state
                .instances
                .iter()
                .any(|known| known.profile == *profile && known.placement.start == *start)
        })
    }

    /// Every GPU that has something listed, or that the driver describes.
    #[must_use]
    pub fn gpus(&self) -> Vec<GpuUuid> {
        let described = self
            .inventory
            .iter()
            .flat_map(|all| &all.gpus)
            .map(|gpu| &gpu.facts.uuid);
        let listed = self.listed.values().map(|listed| listed.slice.place.gpu());
        let all: BTreeSet<&GpuUuid> = described.chain(listed).collect();
        all.into_iter().cloned().collect()
    }

    /// The driver's answer of the last look.
    #[must_use]
    pub fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    /// What is offered now and what is left out.
    #[must_use]
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// All resource names of this node.
    #[must_use]
    pub fn resources(&self) -> &BTreeSet<ResourceName> {
        &self.resources
    }

    /// Which of the free devices a container should get.
    #[must_use]
    pub fn prefer(
        &self,
        available: &[PluginDeviceId],
        must_include: &[PluginDeviceId],
        size: usize,
    ) -> Vec<PluginDeviceId> {
        let mut ordered: Vec<_> = available
            .iter()
            .filter_map(|id| {
                let listed = self.listed.get(id)?;
                Some((self.position(id, listed), listed.numa_node))
            })
            .collect();
        ordered.sort();
        crate::prefer::prefer(available, must_include, size, |id| {
            let position = ordered.iter().position(|((_, _, known), _)| known == id)?;
            Some((position, ordered[position].1))
        })
    }
}

/// Lists an offered slice, or brings its entry up to date. A place that is leased stays with the resource that it
/// was leased under.
fn list(
    listed: &mut BTreeMap<PluginDeviceId, Listed>,
    leases: &LeaseTable,
    resource: &ResourceName,
    offered: &OfferedSlice,
) {
    let entry = listed.entry(offered.id.clone()).or_insert_with(|| Listed {
        resource: leases
            .get(&offered.id)
            .map_or_else(|| resource.clone(), |lease| lease.resource.clone()),
        slice: offered.slice.clone(),
        numa_node: offered.numa_node,
        handles: None,
    });
    entry.slice = offered.slice.clone();
    entry.numa_node = offered.numa_node;
    entry.handles = Some(offered.handles.clone());
}

#[cfg(test)]
mod tests;
