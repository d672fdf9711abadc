//! Container start: `PreStartContainer`, the replayed answers of all resources merged, the pod's own
//! settings behind them, and the runtime's CDI edits on top.
//!
//! The result is a [`Container`]: what a process in it would see. A start does not ask the plugin for
//! devices again, unless the kubelet has lost them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use gpushared_proto::deviceplugin::v1beta1::ContainerAllocateResponse;

use super::cdi;
use super::event::{Event, Violation};
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

    /// What the runtime makes of the kubelet's request.
    fn create(&self, pod: &Pod, spec: &ContainerSpec) -> Result<Container, String> {
        let held = self
            .manager()
            .held
            .get(&pod.uid)
            .and_then(|all| all.get(&spec.name))
            .cloned();
        let mut container = Container::default();
        for (resource, held) in self.world.shuffle(held.unwrap_or_default()) {
            container
                .devices
                .insert(resource, held.ids().into_iter().collect());
            self.merge(&mut container, held.response);
        }
        for (name, value) in &spec.env {
            container.env.insert(name.clone(), value.clone());
        }
        for (host_path, container_path) in &spec.mounts {
            container.mounts.push(Mount {
                host_path: host_path.clone(),
                container_path: container_path.clone(),
                read_only: false,
            });
        }
        let stand_ins = self.settings().stand_in_devices;
        for node in &container.device_nodes {
            check_device(&node.host_path, stand_ins)?;
        }
        self.apply_cdi(&mut container)?;
        for mount in &container.mounts {
            if !Path::new(&mount.host_path).exists() {
                return Err(format!(
                    "error mounting {:?}: no such file or directory",
                    mount.host_path
                ));
            }
        }
        Ok(container)
    }

    /// Adds one resource's answer; what is there already stays, and a disagreement is written down.
    fn merge(&self, container: &mut Container, answer: ContainerAllocateResponse) {
        let mut conflicts = Vec::new();
        let mut first_wins = |kind, map: &mut BTreeMap<String, String>, key: String, value| {
            let kept = map
                .entry(key.clone())
                .or_insert_with(|| String::clone(&value));
            if *kept != value {
                conflicts.push(Event::Conflict { kind, key });
            }
        };
        for (name, value) in answer.envs {
            first_wins("env", &mut container.env, name, value);
        }
        for (name, value) in answer.annotations {
            first_wins("annotation", &mut container.annotations, name, value);
        }
        for device in answer.devices {
            let same = |known: &&DeviceNode| known.container_path == device.container_path;
            match container.device_nodes.iter().find(same) {
                Some(known) if known.host_path == device.host_path => {}
                Some(_) => {
                    let key = device.container_path;
                    conflicts.push(Event::Conflict {
                        kind: "device",
                        key,
                    });
                }
                None => container.device_nodes.push(DeviceNode {
                    host_path: device.host_path,
                    container_path: device.container_path,
                    permissions: device.permissions,
                }),
            }
        }
        for mount in answer.mounts {
            let same = |known: &&Mount| known.container_path == mount.container_path;
            match container.mounts.iter().find(same) {
                Some(known) if known.host_path == mount.host_path => {}
                Some(_) => {
                    let key = mount.container_path;
                    conflicts.push(Event::Conflict { kind: "mount", key });
                }
                None => container.mounts.push(Mount {
                    host_path: mount.host_path,
                    container_path: mount.container_path,
                    read_only: mount.read_only,
                }),
            }
        }
        for device in answer.cdi_devices {
            if !container.cdi_devices.contains(&device.name) {
                container.cdi_devices.push(device.name);
            }
        }
        conflicts
            .into_iter()
            .for_each(|conflict| self.world.note(conflict));
    }

    fn apply_cdi(&self, container: &mut Container) -> Result<(), String> {
        if container.cdi_devices.is_empty() {
            return Ok(());
        }
        let specs = cdi::read_specs(&self.settings().cdi_dirs);
        let edits = cdi::resolve(&specs, &container.cdi_devices)?;
        for name in &container.cdi_devices {
            let alone = cdi::resolve(&specs, std::slice::from_ref(name))?;
            let stands_for = format!("{alone:?}");
            let before = self
                .world
                .lock()
                .cdi_seen
                .insert(name.clone(), stands_for.clone());
            if before.is_some_and(|before| before != stands_for) {
                self.world
                    .violate(Violation::CdiNameReused { name: name.clone() });
            }
        }
        for (name, value) in edits.env_pairs() {
            container.env.insert(name, value);
        }
        for node in edits.device_nodes {
            let host_path = node.host_path.clone().unwrap_or_else(|| node.path.clone());
            if !node.is_complete() {
                check_device(&host_path, self.settings().stand_in_devices)?;
            }
            container
                .device_nodes
                .retain(|known| known.container_path != node.path);
            container.device_nodes.push(DeviceNode {
                host_path,
                container_path: node.path,
                permissions: node.permissions.unwrap_or_else(|| "rwm".to_owned()),
            });
        }
        for mount in edits.mounts {
            container
                .mounts
                .retain(|known| known.container_path != mount.container_path);
            container.mounts.push(Mount {
                read_only: mount.options.iter().any(|option| option == "ro"),
                host_path: mount.host_path,
                container_path: mount.container_path,
            });
        }
        let hooks = edits
            .hooks
            .into_iter()
            .map(|hook| (hook.hook_name, hook.path));
        container.hooks.extend(hooks);
        Ok(())
    }
}

/// A node without GPUs has no device nodes: there a file may stand in, if the test allows it.
fn check_device(host_path: &str, stand_ins: bool) -> Result<(), String> {
    let kind = fs::metadata(host_path)
        .map_err(|error| format!("failed to stat host device {host_path:?}: {error}"))?
        .file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    if is_device || (stand_ins && kind.is_file()) {
        Ok(())
    } else {
        Err(format!("{host_path:?} is not a device node"))
    }
}
