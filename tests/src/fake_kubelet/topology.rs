//! Topology Manager, container scope, with the device manager as its only hint provider.
//!
//! Modelled: hint generation over NUMA nodes that hold devices, merging over the resources of a
//! container, the four policies, alignment of the devices that are then taken. Not modelled: CPU and
//! memory hints, pod scope, policy options.

use std::collections::{BTreeMap, BTreeSet};

use gpushared_proto::deviceplugin::v1beta1::Device;

use super::devices::Manager;
use super::event::Violation;
use super::pods::{ContainerSpec, PodUid};
use super::process::Process;

/// The kubelet's `topologyManagerPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopologyPolicy {
    /// Never asks for hints.
    None,
    /// Uses hints where they can be met.
    BestEffort,
    /// Rejects a pod whose hint is not preferred.
    Restricted,
    /// As restricted, and one node only.
    SingleNumaNode,
}

/// Where a container's devices should come from; `nodes` is `None` for no preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) nodes: Option<BTreeSet<i64>>,
    preferred: bool,
}

fn nodes_of(device: &Device) -> BTreeSet<i64> {
    device
        .topology
        .iter()
        .flat_map(|topology| &topology.nodes)
        .map(|node| node.id)
        .collect()
}

impl Manager {
    fn has_topology(&self, resource: &str) -> bool {
        self.all
            .get(resource)
            .is_some_and(|all| all.values().any(|d| !nodes_of(d).is_empty()))
    }

    /// Splits `available` into aligned, not aligned and without a node.
    pub(crate) fn by_affinity(
        &self,
        key: &(PodUid, String),
        resource: &str,
        available: &BTreeSet<String>,
    ) -> [BTreeSet<String>; 3] {
        let wanted = self.affinity.get(key).and_then(|hint| hint.nodes.as_ref());
        let Some(wanted) = wanted.filter(|_| self.has_topology(resource)) else {
            return [BTreeSet::new(), BTreeSet::new(), available.clone()];
        };
        let mut split = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for id in available {
            let nodes = nodes_of(&self.all[resource][id]); // healthy devices are always listed
            let place = match (nodes.is_empty(), nodes.is_disjoint(wanted)) {
                (true, _) => 2,
                (false, true) => 1,
                (false, false) => 0,
            };
            split[place].insert(id.clone());
        }
        split
    }

    /// The hints of one resource: `None` for no preference, empty for impossible.
    fn hints(
        &self,
        pod: &PodUid,
        container: &str,
        resource: &str,
        requested: usize,
        machine: &BTreeSet<i64>,
    ) -> Result<Option<Vec<Hint>>, Violation> {
        if !self.has_topology(resource) {
            return Ok(None);
        }
        let none = BTreeSet::new();
        let held = self
            .held_by(pod, container, resource)
            .map(|held| held.ids());
        let (available, reusable) = match held.filter(|ids| !ids.is_empty()) {
            Some(ids) if ids.len() != requested => return Ok(Some(Vec::new())),
            Some(ids) => (ids, BTreeSet::new()),
            None => {
                let healthy = self.healthy.get(resource).unwrap_or(&none);
                let in_use = self.allocated.get(resource).unwrap_or(&none);
                let reusable = self.reusable.get(pod).and_then(|all| all.get(resource));
                (healthy - in_use, reusable.cloned().unwrap_or_default())
            }
        };
        if (&available | &reusable).len() < requested {
            return Ok(Some(Vec::new()));
        }
        let all = &self.all[resource];
        if let Some(device) = available
            .iter()
            .chain(&reusable)
            .find(|id| !all.contains_key(*id))
        {
            let (resource, device) = (resource.to_owned(), device.clone());
            return Err(Violation::CrashedInTopologyHints { resource, device });
        }
        let listed: Vec<BTreeSet<i64>> = all.values().map(nodes_of).collect();
        let bearing: BTreeSet<i64> = listed.iter().flatten().copied().collect();
        let mut nodes: Vec<i64> = bearing.intersection(machine).copied().collect();
        if nodes.is_empty() {
            nodes = machine.iter().copied().collect();
        }
        let matching = |mask: &BTreeSet<i64>, ids: &BTreeSet<String>| {
            ids.iter()
                .filter(|id| !nodes_of(&all[*id]).is_disjoint(mask))
                .count()
        };
        let mut smallest = nodes.len();
        let mut hints = Vec::new();
        for mask in masks(&nodes) {
            let in_mask = listed
                .iter()
                .filter(|nodes| !nodes.is_disjoint(&mask))
                .count();
            if in_mask >= requested {
                smallest = smallest.min(mask.len());
            }
            let outside = |id: &&String| {
                all[*id].topology.is_some() && nodes_of(&all[*id]).is_disjoint(&mask)
            };
            if reusable.iter().any(|id| outside(&id)) {
                continue;
            }
            if matching(&mask, &reusable) + matching(&mask, &available) >= requested {
                hints.push(mask);
            }
        }
        let hint = |mask: BTreeSet<i64>| Hint {
            preferred: mask.len() == smallest,
            nodes: Some(mask),
        };
        Ok(Some(hints.into_iter().map(hint).collect()))
    }
}

/// All non-empty subsets.
fn masks(nodes: &[i64]) -> Vec<BTreeSet<i64>> {
    let subset = |bits: u32| {
        let chosen = nodes
            .iter()
            .enumerate()
            .filter(move |(bit, _)| bits & (1 << bit) != 0);
        chosen.map(|(_, node)| *node).collect()
    };
    (1..1_u32 << nodes.len()).map(subset).collect()
}

/// The best hint over all resources: preferred before not, then narrow before wide.
fn merge(per_resource: &[Vec<Hint>], machine: &BTreeSet<i64>) -> Hint {
    let mut merged = vec![Hint {
        nodes: Some(machine.clone()),
        preferred: true,
    }];
    for hints in per_resource {
        let mut next = Vec::new();
        for (left, right) in merged
            .iter()
            .flat_map(|l| hints.iter().map(move |r| (l, r)))
        {
            let left_nodes = left.nodes.as_ref().unwrap_or(machine);
            let both = match &right.nodes {
                Some(nodes) => left_nodes & nodes,
                None => left_nodes.clone(),
            };
            if !both.is_empty() {
                let preferred = left.preferred && right.preferred;
                next.push(Hint {
                    nodes: Some(both),
                    preferred,
                });
            }
        }
        merged = next;
    }
    let size = |hint: &Hint| hint.nodes.as_ref().map_or(usize::MAX, BTreeSet::len);
    let best = merged
        .into_iter()
        .min_by_key(|hint| (!hint.preferred, size(hint)));
    best.unwrap_or(Hint {
        nodes: Some(machine.clone()),
        preferred: false,
    })
}

impl Process {
    /// Finds and stores the affinity of a container; whether the policy admits it.
    ///
    /// # Errors
    /// The crash of a real kubelet, when a device that the container holds is not listed any more.
    pub(crate) fn align(&self, pod: &PodUid, container: &ContainerSpec) -> Result<bool, Violation> {
        let policy = self.settings().policy;
        if policy == TopologyPolicy::None {
            return Ok(true);
        }
        self.update_allocated();
        let machine = &self.settings().numa_nodes;
        let mut manager = self.manager();
        let mut per_resource = Vec::new();
        let wanted: BTreeMap<&String, usize> = container
            .limits
            .iter()
            .map(|(resource, count)| (resource, *count))
            .collect();
        for (resource, count) in wanted {
            if !manager.is_device_plugin_resource(resource) {
                continue;
            }
            let hints = manager.hints(pod, &container.name, resource, count, machine)?;
            per_resource.push(match hints {
                None => vec![Hint {
                    nodes: None,
                    preferred: true,
                }],
                Some(hints) if hints.is_empty() => vec![Hint {
                    nodes: None,
                    preferred: false,
                }],
                Some(hints) if policy == TopologyPolicy::SingleNumaNode => {
                    let single = |hint: &Hint| {
                        hint.preferred && hint.nodes.as_ref().is_some_and(|nodes| nodes.len() == 1)
                    };
                    hints.into_iter().filter(single).collect()
                }
                Some(hints) => hints,
            });
        }
        let best = merge(&per_resource, machine);
        let admitted = best.preferred || policy == TopologyPolicy::BestEffort;
        manager
            .affinity
            .insert((pod.clone(), container.name.clone()), best);
        Ok(admitted)
    }
}
