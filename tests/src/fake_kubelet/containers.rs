//! Container start: `PreStartContainer`, and then the replayed answers.
//!
//! The result is a [`Container`]: what a process in it would see. A start does not ask the plugin for
//! devices again, unless the kubelet has lost them.

use std::collections::BTreeMap;

use super::pods::{ContainerSpec, Pod};
use super::process::Process;

/// A device node in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where it is on the node.
    pub host_path: String,
    /// Where it is in the container.
    pub container_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// A mount in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it comes from.
    pub host_path: String,
    /// Where it is in the container.
    pub container_path: String,
    /// Whether it can be written to.
    pub read_only: bool,
}

/// A container as it was started: what its processes see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Device IDs by resource.
    pub devices: BTreeMap<String, Vec<String>>,
    /// The environment in effect: plugin, overridden by the pod's spec, overridden by CDI.
    pub env: BTreeMap<String, String>,
    /// Device nodes, of plugins and CDI.
    pub device_nodes: Vec<DeviceNode>,
    /// Mounts in their order: of plugins, of the pod, of CDI.
    pub mounts: Vec<Mount>,
    /// Annotations of the container, set by plugins.
    pub annotations: BTreeMap<String, String>,
    /// CDI devices that the runtime resolved.
    pub cdi_devices: Vec<String>,
    /// Hooks that CDI asked for: name and path.
    pub hooks: Vec<(String, String)>,
}

impl Container {
    /// An environment variable as a process sees it.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// The mount that a process sees at `container_path`: the last one there.
    #[must_use]
    pub fn mount(&self, container_path: &str) -> Option<&Mount> {
        self.mounts
            .iter()
            .rev()
            .find(|mount| mount.container_path == container_path)
    }

    /// The device IDs of one resource.
    #[must_use]
    pub fn ids(&self, resource: &str) -> &[String] {
        self.devices.get(resource).map_or(&[], Vec::as_slice)
    }
}

impl Process {
    /// Starts a container once, without retries.
    ///
    /// # Errors
    /// What the kubelet would put behind `CreateContainerConfigError` or `CreateContainerError`.
    pub(crate) async fn start_container(
        &self,
        pod: &Pod,
        spec: &ContainerSpec,
    ) -> Result<Container, String> {
        let mut lost = false;
        for (resource, count) in self.world.shuffle(spec.limits.clone()) {
            if count == 0 || !self.manager().is_device_plugin_resource(&resource) {
                continue;
            }
            self.pre_start(pod, spec, &resource).await?;
            if self.world.active_pods().contains(&pod.uid) {
                lost |= self
                    .manager()
                    .held_by(&pod.uid, &spec.name, &resource)
                    .is_none();
            }
        }
        if lost {
            self.allocate(pod, spec).await?;
        }
        if self.gone.is_cancelled() {
            return Err("the kubelet is gone".to_owned());
        }
        self.create(pod, spec)
    }

    async fn pre_start(
        &self,
        pod: &Pod,
        spec: &ContainerSpec,
        resource: &str,
    ) -> Result<(), String> {
        let (endpoint, devices) = {
            let manager = self.manager();
            let Some(endpoint) = manager.endpoints.get(resource).cloned() else {
                return Err(format!(
                    "endpoint not found in cache for a registered resource: {resource}"
                ));
            };
            if !endpoint
                .options
                .is_some_and(|options| options.pre_start_required)
            {
                return Ok(()); // also while the options are unknown, after a kubelet restart
            }
            let Some(held) = manager.held_by(&pod.uid, &spec.name, resource) else {
                return Err(format!(
                    "no devices found allocated in local cache for pod {}, container {}, resource {resource}",
                    pod.uid, spec.name
                ));
            };
            (endpoint, held.ids())
        };
        let called = endpoint.pre_start(self, self.world.shuffle(devices)).await;
        called.map_err(|message| {
            format!("device plugin PreStartContainer rpc failed with err: {message}")
        })
    }
}
