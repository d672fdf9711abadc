//! The device manager's tables: what plugins list, what is healthy, what is allocated to whom.
//!
//! A list replaces the one before it. Devices that a pod holds, or that a pending `Allocate` names,
//! have to be in it: the real kubelet dereferences the missing entry and panics. Here that is a
//! [`Violation`], recorded at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gpushared_proto::deviceplugin::HEALTHY;
use gpushared_proto::deviceplugin::v1beta1::{
    ContainerAllocateResponse, Device, DevicePluginOptions,
};

use super::endpoint::Endpoint;
use super::event::{Event, Violation};
use super::pods::PodUid;
use super::process::Process;
use super::registration::Client;
use super::topology::Hint;

/// Key of [`Held::numa`] for devices without a NUMA node.
pub(crate) const NO_NUMA_NODE: i64 = -1;

/// Sets of device IDs by resource.
pub(crate) type IdsByResource = BTreeMap<String, BTreeSet<String>>;

/// What one container got of one resource, and the answer that is replayed for ever.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// Device IDs by NUMA node; a device with two nodes is in two lists.
    pub(crate) numa: BTreeMap<i64, Vec<String>>,
    pub(crate) response: ContainerAllocateResponse,
}

impl Held {
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.numa.values().flatten().cloned().collect()
    }
}

/// By pod, container and resource.
pub(crate) type PodDevices = BTreeMap<PodUid, BTreeMap<String, BTreeMap<String, Held>>>;

/// An `Allocate` that has not been answered.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) resource: String,
    pub(crate) devices: BTreeSet<String>,
    pub(crate) holder: String,
}

/// The tables of one kubelet process.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    pub(crate) all: BTreeMap<String, BTreeMap<String, Device>>,
    pub(crate) healthy: IdsByResource,
    pub(crate) unhealthy: IdsByResource,
    pub(crate) allocated: IdsByResource,
    pub(crate) held: PodDevices,
    /// Devices of finished init containers, for the later containers of the same pod.
    pub(crate) reusable: BTreeMap<PodUid, IdsByResource>,
    pub(crate) in_flight: Vec<InFlight>,
    pub(crate) affinity: BTreeMap<(PodUid, String), Hint>,
}

impl Manager {
    pub(crate) fn connected(&mut self, client: &Arc<Client>, options: DevicePluginOptions) {
        let endpoint = Endpoint {
            resource: client.resource.clone(),
            client: Some(Arc::clone(client)),
            options: Some(options),
            stopped_at: None,
        };
        self.endpoints.insert(client.resource.clone(), endpoint);
    }

    pub(crate) fn disconnected(&mut self, resource: &str, now: Duration) {
        let Some(endpoint) = self.endpoints.get_mut(resource) else {
            return;
        };
        endpoint.stopped_at = Some(now);
        let healthy = self
            .healthy
            .get_mut(resource)
            .map(std::mem::take)
            .unwrap_or_default();
        self.unhealthy
            .entry(resource.to_owned())
            .or_default()
            .extend(healthy);
    }

    /// Whether a limit of this name concerns the device manager at all.
    pub(crate) fn is_device_plugin_resource(&self, resource: &str) -> bool {
        self.healthy.contains_key(resource) || self.allocated.contains_key(resource)
    }

    pub(crate) fn held_by(&self, pod: &PodUid, container: &str, resource: &str) -> Option<&Held> {
        self.held.get(pod)?.get(container)?.get(resource)
    }

    /// The allocation table computed anew from what containers hold.
    pub(crate) fn recount_allocated(&mut self) {
        let mut allocated = IdsByResource::new();
        for resources in self.held.values().flat_map(BTreeMap::values) {
            for (resource, held) in resources {
                allocated
                    .entry(resource.clone())
                    .or_default()
                    .extend(held.ids());
            }
        }
        self.allocated = allocated;
    }

    /// Frees what pods hold that are no longer active.
    pub(crate) fn keep_only(&mut self, active: &[PodUid]) {
        let before = self.held.len();
        self.held.retain(|pod, _| active.contains(pod));
        if self.held.len() < before {
            self.recount_allocated();
        }
    }

    /// Capacity and allocatable of each resource, and the resources that expired on this look.
    pub(crate) fn capacity(
        &mut self,
        now: Duration,
    ) -> (BTreeMap<String, (usize, usize)>, Vec<String>) {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut expired = Vec::new();
        for (resource, ids) in &self.healthy {
            if self
                .endpoints
                .get(resource)
                .is_none_or(|endpoint| endpoint.is_expired(now))
            {
                expired.push(resource.clone());
            } else {
                let unhealthy = self.unhealthy.get(resource).map_or(0, BTreeSet::len);
                counts.insert(resource.clone(), (ids.len() + unhealthy, ids.len()));
            }
        }
        for resource in &expired {
            self.endpoints.remove(resource);
            self.healthy.remove(resource);
            self.unhealthy.remove(resource);
        }
        (counts, expired)
    }

    /// Replaces the list of `resource`; returns the pods whose devices changed their health.
    fn replace_list(&mut self, resource: &str, devices: Vec<Device>) -> BTreeSet<PodUid> {
        let old = self.all.remove(resource).unwrap_or_default();
        let mut touched = BTreeSet::new();
        let (mut healthy, mut unhealthy) = (BTreeSet::new(), BTreeSet::new());
        let mut all = BTreeMap::new();
        for device in devices {
            if old
                .get(&device.id)
                .is_none_or(|before| before.health != device.health)
            {
                touched.extend(self.holder_of(&device.id));
            }
            let set = if device.health == HEALTHY {
                &mut healthy
            } else {
                &mut unhealthy
            };
            set.insert(device.id.clone());
            all.insert(device.id.clone(), device);
        }
        self.healthy.insert(resource.to_owned(), healthy);
        self.unhealthy.insert(resource.to_owned(), unhealthy);
        self.all.insert(resource.to_owned(), all);
        touched
    }

    /// Upstream does not look at the resource here, so equal IDs of two resources mix up pods.
    fn holder_of(&self, device: &str) -> Option<PodUid> {
        let holds = |held: &Held| held.numa.values().flatten().any(|id| id == device);
        let found = self
            .held
            .iter()
            .find(|(_, containers)| containers.values().flat_map(BTreeMap::values).any(holds));
        found.map(|(pod, _)| pod.clone())
    }

    /// What a plugin may not do, judged on the list that just came in.
    fn violations(&self, resource: &str, active: &[PodUid]) -> Vec<Violation> {
        let listed = &self.all[resource];
        let mut found = Vec::new();
        for (other, theirs) in self.all.iter().filter(|(other, _)| *other != resource) {
            let shared = listed.keys().find(|id| theirs.contains_key(*id));
            found.extend(shared.map(|device| Violation::SharedId {
                device: device.clone(),
                first: other.min(&resource.to_owned()).clone(),
                second: other.max(&resource.to_owned()).clone(),
            }));
        }
        for (pod, containers) in self.held.iter().filter(|(pod, _)| active.contains(pod)) {
            for (container, held) in containers {
                let ids = held.get(resource).map(Held::ids).unwrap_or_default();
                for device in ids.into_iter().filter(|id| !listed.contains_key(id)) {
                    let holder = format!("container {container} of pod {pod}");
                    let resource = resource.to_owned();
                    found.push(Violation::VanishedWhileAllocated {
                        resource,
                        device,
                        holder,
                    });
                }
            }
        }
        let pending = self
            .in_flight
            .iter()
            .filter(|call| call.resource == resource);
        for call in pending {
            for device in call.devices.iter().filter(|id| !listed.contains_key(*id)) {
                found.push(Violation::VanishedInFlight {
                    resource: resource.to_owned(),
                    device: device.clone(),
                    holder: call.holder.clone(),
                });
            }
        }
        found
    }
}

impl Process {
    /// A complete list came in over some stream of `resource`, whichever instance it belongs to.
    pub(crate) fn receive_list(&self, resource: &str, devices: Vec<Device>) {
        let listed: Vec<_> = devices
            .iter()
            .map(|d| (d.id.clone(), d.health.clone()))
            .collect();
        let active = self.world.active_pods();
        let (touched, violations) = {
            let mut manager = self.manager();
            let touched = manager.replace_list(resource, devices);
            (touched, manager.violations(resource, &active))
        };
        violations
            .into_iter()
            .for_each(|violation| self.world.violate(violation));
        self.world.note(Event::Listed {
            resource: resource.to_owned(),
            devices: listed,
        });
        for pod in touched {
            self.world.note(Event::HealthUpdate {
                pod: pod.to_string(),
            });
        }
        self.write_checkpoint();
    }

    /// Frees devices of pods that are gone: lazily, and only when all pod sources have reported.
    pub(crate) fn update_allocated(&self) {
        let active = self.world.active_pods();
        if self.sources_ready() {
            self.manager().keep_only(&active);
        }
    }

    /// One turn of the node status loop.
    pub(crate) fn publish_node_status(&self) {
        let now = self.world.clock.now();
        let (counts, expired) = self.manager().capacity(now);
        if !expired.is_empty() {
            self.write_checkpoint();
        }
        let mut state = self.world.lock();
        state.node.extend(counts);
        state
            .node
            .extend(expired.into_iter().map(|resource| (resource, (0, 0))));
    }
}
