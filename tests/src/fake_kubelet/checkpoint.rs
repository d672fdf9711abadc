//! The device manager's checkpoint file: the shape of the real one, written on every change and read
//! at the start of a kubelet.
//!
//! The real checksum is taken over Go's deep print of the data and cannot be had elsewhere; ours is
//! taken over the JSON text, with the same hash. A damaged file means the same as for the real
//! kubelet: it starts with nothing, and running pods' devices look free.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gpushared_proto::deviceplugin::v1beta1::ContainerAllocateResponse;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::devices::{Held, Manager};
use super::endpoint::Endpoint;
use super::pods::PodUid;
use super::process::Process;

/// Name of the file in the device-plugins directory.
pub const CHECKPOINT_FILE: &str = "kubelet_internal_checkpoint";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
    checksum: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerName")]
    container_name: String,
    #[serde(rename = "ResourceName")]
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<String, Vec<String>>,
    #[serde(rename = "AllocResp")]
    alloc_resp: String,
}

impl Process {
    fn checkpoint_file(&self) -> PathBuf {
        self.settings().device_plugins().join(CHECKPOINT_FILE)
    }

    /// Writes the file, by a temporary one and a rename as the real kubelet does.
    pub(crate) fn write_checkpoint(&self) {
        if self.gone.is_cancelled() {
            return;
        }
        let manager = self.manager(); // held while writing, so that an older table cannot land last
        let data = data_of(&manager);
        let text = serde_json::to_string(&data).unwrap();
        let file = Checkpoint {
            checksum: fnv32a(&text),
            data,
        };
        let path = self.checkpoint_file();
        let temporary = path.with_file_name(".kubelet_internal_checkpoint.tmp");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&temporary).and_then(|file_handle| {
            file_handle.set_permissions(fs::Permissions::from_mode(0o600))?;
            serde_json::to_writer(file_handle, &file).map_err(Into::into)
        });
        // A node whose directory is being taken away has no more use for a checkpoint.
        drop(written.and_then(|()| fs::rename(&temporary, &path)));
    }

    /// Fills the tables from the file: allocations, and registered resources with no device and a
    /// stopped endpoint each, so that the node shows capacity 0. Without a readable file: nothing.
    pub(crate) fn read_checkpoint(&self) {
        let Ok(text) = fs::read_to_string(self.checkpoint_file()) else {
            return;
        };
        let Ok(checkpoint) = serde_json::from_str::<Checkpoint>(&text) else {
            return;
        };
        let canonical = serde_json::to_string(&checkpoint.data).unwrap();
        if fnv32a(&canonical) != checkpoint.checksum {
            return;
        }
        let now = self.world.clock.now();
        let mut manager = self.manager();
        for entry in checkpoint.data.pod_device_entries.unwrap_or_default() {
            insert(&mut manager, entry);
        }
        manager.recount_allocated();
        for resource in checkpoint.data.registered_devices.into_keys() {
            manager.healthy.insert(resource.clone(), Default::default());
            manager
                .unhealthy
                .insert(resource.clone(), Default::default());
            manager
                .endpoints
                .insert(resource.clone(), Endpoint::stopped(&resource, now));
        }
    }
}

fn insert(manager: &mut Manager, entry: Entry) {
    let bytes = BASE64.decode(entry.alloc_resp).unwrap();
    let response = ContainerAllocateResponse::decode(&bytes[..]).unwrap();
    let numa = entry
        .device_ids
        .into_iter()
        .map(|(node, ids)| (node.parse().unwrap(), ids));
    let held = Held {
        numa: numa.collect(),
        response,
    };
    let containers = manager.held.entry(PodUid::from(entry.pod_uid)).or_default();
    containers
        .entry(entry.container_name)
        .or_default()
        .insert(entry.resource_name, held);
}

fn data_of(manager: &Manager) -> Data {
    let mut entries = Vec::new();
    for (pod, containers) in &manager.held {
        for (container, resources) in containers {
            for (resource, held) in resources {
                let ids = held
                    .numa
                    .iter()
                    .map(|(node, ids)| (node.to_string(), ids.clone()));
                entries.push(Entry {
                    pod_uid: pod.to_string(),
                    container_name: container.clone(),
                    resource_name: resource.clone(),
                    device_ids: ids.collect(),
                    alloc_resp: BASE64.encode(held.response.encode_to_vec()),
                });
            }
        }
    }
    let registered = manager
        .healthy
        .iter()
        .map(|(r, ids)| (r.clone(), ids.iter().cloned().collect()));
    Data {
        pod_device_entries: (!entries.is_empty()).then_some(entries), // Go writes null for no entry
        registered_devices: registered.collect(),
    }
}

fn fnv32a(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}
