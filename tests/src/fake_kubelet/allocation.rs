//! Allocation for one container, one resource at a time.
//!
//! Devices are taken in the kubelet's order (of finished init containers, aligned, preferred, the
//! rest) and in an order of the seed's choosing within each step. The table lock is given up around
//! both calls to the plugin, as upstream does, with the same consequences: what was taken before a
//! failing `GetPreferredAllocation` stays taken until the table is counted anew, and an `Allocate`
//! answered with an empty list leaks its devices in the same way.

use std::collections::BTreeSet;

use super::devices::{Held, IdsByResource, Manager};
use super::pods::{ContainerKind, ContainerSpec, Pod, PodUid};
use super::process::Process;

/// Devices on their way to a container.
struct Taking {
    resource: String,
    taken: BTreeSet<String>,
    needed: usize,
}

impl Taking {
    /// Takes from `from` until nothing is needed any more; whether that came true.
    fn take(&mut self, process: &Process, manager: &mut Manager, from: &BTreeSet<String>) -> bool {
        let allocated = manager.allocated.entry(self.resource.clone()).or_default();
        for device in process.world.shuffle(from - &self.taken) {
            allocated.insert(device.clone());
            self.taken.insert(device);
            self.needed -= 1;
            if self.needed == 0 {
                return true;
            }
        }
        false
    }
}

impl Process {
    /// Allocates for one container, with what init containers of the pod have left over.
    pub(crate) async fn allocate(
        &self,
        pod: &Pod,
        container: &ContainerSpec,
    ) -> Result<(), String> {
        let mut reusable = {
            let mut manager = self.manager();
            manager.reusable.retain(|uid, _| *uid == pod.uid);
            manager.reusable.get(&pod.uid).cloned().unwrap_or_default()
        };
        self.allocate_container(pod, container, &reusable).await?;
        let mut manager = self.manager();
        let held = manager
            .held
            .get(&pod.uid)
            .and_then(|all| all.get(&container.name));
        for (resource, held) in held.into_iter().flatten() {
            let left = reusable.entry(resource.clone()).or_default();
            *left = match container.kind {
                ContainerKind::Init => &*left | &held.ids(),
                ContainerKind::Sidecar | ContainerKind::App => &*left - &held.ids(),
            };
        }
        manager.reusable.insert(pod.uid.clone(), reusable);
        Ok(())
    }

    async fn allocate_container(
        &self,
        pod: &Pod,
        container: &ContainerSpec,
        reusable: &IdsByResource,
    ) -> Result<(), String> {
        let mut swept = false;
        let mut changed = false;
        for (resource, count) in self.world.shuffle(container.limits.clone()) {
            if !self.manager().is_device_plugin_resource(&resource) {
                continue; // never registered: passes without a word
            }
            if !swept {
                self.update_allocated();
                swept = true;
            }
            let left = reusable.get(&resource).cloned().unwrap_or_default();
            let taken = self
                .choose(&pod.uid, &container.name, &resource, count, &left)
                .await?;
            if !taken.is_empty() {
                changed = true;
                self.call_allocate(pod, container, &resource, taken).await?;
            }
        }
        if changed {
            self.write_checkpoint();
        }
        Ok(())
    }

    /// Chooses devices and marks them taken; none when the container needs none.
    async fn choose(
        &self,
        pod: &PodUid,
        container: &str,
        resource: &str,
        required: usize,
        reusable: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, String> {
        let mut taking = Taking {
            resource: resource.to_owned(),
            taken: BTreeSet::new(),
            needed: required,
        };
        let key = (pod.clone(), container.to_owned());
        let (aligned, available) = {
            let mut manager = self.manager();
            let before = manager.held_by(pod, container, resource).map(Held::ids);
            if let Some(before) = &before {
                if before.len() != required {
                    return Err(format!(
                        "pod {:?} container {container:?} changed request for resource {resource:?} \
                         from {} to {required}",
                        pod.to_string(),
                        before.len()
                    ));
                }
                taking.needed = 0;
            }
            if !self.sources_ready() && self.initially_running.contains(&key) {
                return Ok(BTreeSet::new());
            }
            let Some(healthy) = manager.healthy.get(resource).cloned() else {
                return Err(format!("cannot allocate unregistered device {resource}"));
            };
            if healthy.is_empty() {
                return Err(format!(
                    "no healthy devices present; cannot allocate unhealthy devices {resource}"
                ));
            }
            if before.is_some_and(|before| !before.is_subset(&healthy)) {
                return Err(format!(
                    "previously allocated devices are no longer healthy; \
                     cannot allocate unhealthy devices {resource}"
                ));
            }
            if taking.needed == 0 || taking.take(self, &mut manager, reusable) {
                return Ok(taking.taken);
            }
            let in_use = manager.allocated.get(resource).cloned().unwrap_or_default();
            let available = &healthy - &in_use;
            if available.len() < taking.needed {
                return Err(format!(
                    "requested number of devices unavailable for {resource}. \
                     Requested: {}, Available: {}",
                    taking.needed,
                    available.len()
                ));
            }
            let [aligned, ..] = manager.by_affinity(&key, resource, &available);
            // Only what is left over can be chosen by preference; an exact fit is taken at once.
            if taking.needed >= aligned.len() && taking.take(self, &mut manager, &aligned) {
                return Ok(taking.taken);
            }
            (aligned, available)
        };
        let surplus = taking.needed < (&aligned - &taking.taken).len();
        let pool = if surplus { &aligned } else { &available };
        let offered = pool | &taking.taken;
        let preferred = self
            .preferred(resource, &offered, &taking.taken, required)
            .await?;
        let mut manager = self.manager();
        let [_, unaligned, without_node] = manager.by_affinity(&key, resource, &available);
        let steps = if surplus {
            vec![&preferred & &aligned, aligned]
        } else {
            vec![&preferred & &available, unaligned, without_node]
        };
        for step in steps {
            if taking.take(self, &mut manager, &step) {
                return Ok(taking.taken);
            }
        }
        Err(format!(
            "unexpectedly allocated less resources than required. Requested: {required}, Got: {}",
            required - taking.needed
        ))
    }

    async fn preferred(
        &self,
        resource: &str,
        available: &BTreeSet<String>,
        must_include: &BTreeSet<String>,
        size: usize,
    ) -> Result<BTreeSet<String>, String> {
        let endpoint = self.manager().endpoints.get(resource).cloned();
        let Some(endpoint) = endpoint else {
            return Err(format!(
                "endpoint not found in cache for a registered resource: {resource}"
            ));
        };
        if !endpoint
            .options
            .is_some_and(|options| options.get_preferred_allocation_available)
        {
            return Ok(BTreeSet::new());
        }
        let available = self.world.shuffle(available.clone());
        let must_include = self.world.shuffle(must_include.clone());
        let answer = endpoint
            .preferred(self, available, must_include, size)
            .await;
        let answer = answer.map_err(|message| {
            format!("device plugin GetPreferredAllocation rpc failed with err: {message}")
        })?;
        let first = answer.container_responses.into_iter().next();
        Ok(first
            .into_iter()
            .flat_map(|response| response.device_i_ds)
            .collect())
    }
}
