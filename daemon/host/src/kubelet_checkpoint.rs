//! A read-only look at the kubelet's device-manager checkpoint.
//!
//! It is the only place that has pod UID, plugin devices and our own stored answer together, and it survives what our
//! journal may not (a lost disk of ours, a power cut). It is also a private format without a promise, and its checksum
//! cannot be computed outside Go: so it is a **hint**, judged against PodResources, and what cannot be read in it is
//! skipped and counted, never an error of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::foreign_id::ForeignId;
use gpushared_domain::resource::ResourceName;
use gpushared_proto::deviceplugin::v1beta1::ContainerAllocateResponse;
use prost::Message as _;
use serde::Deserialize;

/// The file's name in the kubelet's device-plugins folder.
pub const FILE_NAME: &str = "kubelet_internal_checkpoint";

/// The checkpoint could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not the JSON that is expected.
    #[error("decoding {}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What the kubelet remembers of one container and resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// The pod.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
    /// The resource.
    pub resource: ResourceName,
    /// The plugin devices, each once, in order.
    pub ids: Vec<PluginDeviceId>,
    /// CDI devices of the stored answer; empty where it cannot be decoded.
    pub cdi_devices: Vec<String>,
}

/// What the file holds of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Entries whose IDs are all ours.
    pub entries: Vec<CheckpointEntry>,
    /// IDs of NVIDIA's plugin in any entry.
    pub foreign: BTreeSet<ForeignId>,
    /// How many entries are somebody else's or cannot be read.
    pub skipped: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    // The kubelet writes null for none.
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerName")]
    container: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By NUMA node, `-1` for none.
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<BTreeMap<String, Vec<String>>>,
    #[serde(rename = "AllocResp")]
    answer: Option<String>,
}

/// Reads the checkpoint; `None` when there is none.
///
/// # Errors
/// When the file is there and cannot be read or decoded.
pub fn read(path: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CheckpointError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let file: File = serde_json::from_slice(&text).map_err(|source| CheckpointError::Decode {
        path: path.to_owned(),
        source,
    })?;
    let mut checkpoint = Checkpoint::default();
    for entry in file.data.pod_device_entries.unwrap_or_default() {
        let ids = entry.device_ids.iter().flatten();
        let ids = ids.flat_map(|(_, ids)| ids);
        checkpoint
            .foreign
            .extend(ids.filter_map(|id| id.parse::<ForeignId>().ok()));
        match ours(entry) {
            Some(entry) => checkpoint.entries.push(entry),
            None => checkpoint.skipped += 1,
        }
    }
    Ok(Some(checkpoint))
}

fn ours(entry: Entry) -> Option<CheckpointEntry> {
    let resource = entry.resource.parse().ok()?;
    let mut ids = entry
        .device_ids?
        .into_values()
        .flatten()
        .map(|id| id.parse().ok())
        .collect::<Option<Vec<PluginDeviceId>>>()?;
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        return None;
    }
    Some(CheckpointEntry {
        pod_uid: entry.pod_uid,
        container: entry.container,
        resource,
        ids,
        cdi_devices: entry.answer.as_deref().map(cdi_devices).unwrap_or_default(),
    })
}

fn cdi_devices(answer: &str) -> Vec<String> {
    STANDARD
        .decode(answer)
        .ok()
        .and_then(|bytes| ContainerAllocateResponse::decode(bytes.as_slice()).ok())
        .map(|answer| {
            answer
                .cdi_devices
                .into_iter()
                .map(|device| device.name)
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpushared_proto::deviceplugin::v1beta1::CdiDevice;

    const GPU: &str = "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

    fn checkpoint(entries: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let text = format!(
            r#"{{"Data":{{"PodDeviceEntries":{entries},"RegisteredDevices":{{}}}},"Checksum":3851416999}}"#
        );
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn our_entries_come_with_pod_devices_and_cdi_names() {
        let answer = ContainerAllocateResponse {
            cdi_devices: vec![CdiDevice {
                name: "gpushared.io/slice=0000000000000001-7".to_owned(),
            }],
            ..ContainerAllocateResponse::default()
        };
        let answer = STANDARD.encode(answer.encode_to_vec());
        let entry = format!(
            r#"{{"PodUID":"p1","ContainerName":"c","ResourceName":"nvidia.com/mig-1g.10gb",
                "DeviceIDs":{{"0":["{GPU}/mig/19@3"],"1":["{GPU}/mig/19@3","{GPU}/mig/19@2"]}},"AllocResp":"{answer}"}}"#
        );
        let read = checkpoint(&format!("[{entry}]")).unwrap().unwrap();
        let [entry] = read.entries.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(
            (entry.pod_uid.as_str(), entry.container.as_str()),
            ("p1", "c")
        );
        let ids: Vec<_> = entry.ids.iter().map(PluginDeviceId::as_str).collect();
        assert_eq!(ids, [format!("{GPU}/mig/19@2"), format!("{GPU}/mig/19@3")]);
        assert_eq!(entry.cdi_devices, ["gpushared.io/slice=0000000000000001-7"]);
    }

    #[test]
    fn what_is_foreign_is_skipped_and_counted() {
        let foreign = r#"{"PodUID":"p1","ContainerName":"c","ResourceName":"x.io/gpu","DeviceIDs":{"0":["d1","MIG-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"]},"AllocResp":"CgcKAUQSAmQx"}"#;
        let torn = format!(
            r#"{{"PodUID":"p","ContainerName":"c","ResourceName":"nvidia.com/gpu","DeviceIDs":{{"-1":["{GPU}"]}},"AllocResp":"?"}}"#
        );
        let read = checkpoint(&format!("[{foreign},{torn}]")).unwrap().unwrap();
        assert_eq!(read.skipped, 1);
        assert_eq!(read.foreign.len(), 1);
        assert!(read.entries[0].cdi_devices.is_empty());
        assert_eq!(checkpoint("null").unwrap(), Some(Checkpoint::default()));
    }

    #[test]
    fn no_file_is_none_and_a_broken_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join(FILE_NAME)).unwrap(), None);
        assert!(matches!(
            checkpoint("[{"),
            Err(CheckpointError::Decode { .. })
        ));
    }
}
