//! Health of allocated devices in the pod's status, with the quirks of Kubernetes 1.36: a device that
//! vanished counts as healthy, a lost plugin changes nothing, init containers are never filled in.

use std::collections::BTreeMap;

use gpushared_proto::deviceplugin::HEALTHY;

use super::pods::ContainerKind;
use super::{FakeKubelet, PodStatus, PodUid};

/// `allocatedResourcesStatus` of one container: device ID and whether it is healthy, by resource.
pub type AllocatedResources = BTreeMap<String, BTreeMap<String, bool>>;

impl FakeKubelet {
    /// Status of a pod.
    ///
    /// # Panics
    /// When there never was such a pod.
    #[must_use]
    pub fn status(&self, pod: &PodUid) -> PodStatus {
        self.pod(pod).status()
    }

    /// `allocatedResourcesStatus` by container.
    ///
    /// # Panics
    /// When there never was such a pod.
    #[must_use]
    pub fn allocated_resources(&self, pod: &PodUid) -> BTreeMap<String, AllocatedResources> {
        let spec = self.pod(pod).spec;
        let Some(process) = self.process() else {
            return BTreeMap::new();
        };
        let manager = process.manager();
        let mut all = BTreeMap::new();
        for container in spec
            .containers
            .iter()
            .filter(|c| c.kind == ContainerKind::App)
        {
            let held = manager
                .held
                .get(pod)
                .and_then(|containers| containers.get(&container.name));
            let mut resources = AllocatedResources::new();
            for (resource, held) in held.into_iter().flatten() {
                let listed = manager.all.get(resource);
                let healthy = |id: &String| {
                    let device = listed.and_then(|all| all.get(id));
                    device.is_none_or(|device| device.health == HEALTHY)
                };
                let ids = held.ids().into_iter().map(|id| (id.clone(), healthy(&id)));
                resources.insert(resource.clone(), ids.collect());
            }
            all.insert(container.name.clone(), resources);
        }
        all
    }
}
