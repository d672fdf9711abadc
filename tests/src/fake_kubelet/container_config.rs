//! The answers of all resources merged, the pod's own settings behind them, and the runtime's CDI edits
//! on top: how a [`Container`] comes to look as it does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use gpushared_proto::deviceplugin::v1beta1::ContainerAllocateResponse;

use super::cdi;
use super::containers::{Container, DeviceNode, Mount};
use super::event::{Event, Violation};
use super::pods::{ContainerSpec, Pod};
use super::process::Process;

impl Process {
    /// What the runtime makes of the kubelet's request.
    pub(crate) fn create(&self, pod: &Pod, spec: &ContainerSpec) -> Result<Container, String> {
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
