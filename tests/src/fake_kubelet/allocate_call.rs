//! The `Allocate` call itself and the book entry after it.
//!
//! The table lock is given up while the plugin works. When a device of the request is not listed any
//! more afterwards, the real kubelet panics (`manager.go:923`); this one records it and dies.

use std::collections::{BTreeMap, BTreeSet};

use gpushared_proto::deviceplugin::v1beta1::Device;

use super::devices::{Held, InFlight, NO_NUMA_NODE};
use super::event::Violation;
use super::pods::{ContainerSpec, Pod};
use super::process::Process;

impl Process {
    /// Has the plugin allocate `taken` and writes down who holds it.
    pub(crate) async fn call_allocate(
        &self,
        pod: &Pod,
        container: &ContainerSpec,
        resource: &str,
        taken: BTreeSet<String>,
    ) -> Result<(), String> {
        let holder = format!("container {} of pod {}", container.name, pod.full_name());
        let endpoint = {
            let mut manager = self.manager();
            let Some(endpoint) = manager.endpoints.get(resource).cloned() else {
                manager.recount_allocated();
                return Err(format!("unknown Device Plugin {resource}"));
            };
            let (resource, devices) = (resource.to_owned(), taken.clone());
            manager.in_flight.push(InFlight {
                resource,
                devices,
                holder: holder.clone(),
            });
            endpoint
        };
        let answer = endpoint
            .allocate(self, self.world.shuffle(taken.clone()))
            .await;
        let crash = {
            let mut manager = self.manager();
            manager.in_flight.retain(|call| call.holder != holder);
            let response = match answer {
                Ok(answer) => answer.container_responses.into_iter().next(),
                Err(message) => {
                    manager.recount_allocated();
                    return Err(message);
                }
            };
            let Some(response) = response else {
                return Err("no containers return in allocation response ".to_owned());
            };
            let listed = manager.all.get(resource);
            match numa_of(listed, &taken) {
                Ok(numa) => {
                    let containers = manager.held.entry(pod.uid.clone()).or_default();
                    let resources = containers.entry(container.name.clone()).or_default();
                    resources.insert(resource.to_owned(), Held { numa, response });
                    None
                }
                Err(device) => {
                    let resource = resource.to_owned();
                    Some(Violation::VanishedInFlight {
                        resource,
                        device,
                        holder,
                    })
                }
            }
        };
        match crash {
            None => Ok(()),
            Some(violation) => {
                self.crash(violation);
                Err("the kubelet is gone".to_owned())
            }
        }
    }
}

/// Sorts devices by NUMA node.
///
/// # Errors
/// The device that is not listed any more: here the real kubelet panics.
fn numa_of(
    listed: Option<&BTreeMap<String, Device>>,
    taken: &BTreeSet<String>,
) -> Result<BTreeMap<i64, Vec<String>>, String> {
    let mut numa: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for id in taken {
        let device = listed
            .and_then(|all| all.get(id))
            .ok_or_else(|| id.clone())?;
        let nodes = device
            .topology
            .iter()
            .flat_map(|t| &t.nodes)
            .map(|node| node.id);
        let mut nodes: Vec<i64> = nodes.collect();
        if nodes.is_empty() {
            nodes.push(NO_NUMA_NODE);
        }
        for node in nodes {
            numa.entry(node).or_default().push(id.clone());
        }
    }
    Ok(numa)
}
