//! The CDI spec as JSON, and CDI's grammar of names.
//!
//! The version is the lowest that the content needs, so that the oldest runtime that could read the file does.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use gpushared_domain::edits::{BindMount, ContainerEdits, DeviceNode};
use gpushared_domain::lease::GrantId;
use nix::sys::stat::{major, minor};
use serde::Serialize;

use super::{CdiError, PlainFiles};

/// The first version with all that is written here but the two below.
const BASE_VERSION: &str = "0.3.0";
/// The first version with `hostPath` of device nodes and with device names that begin with a digit.
const HOST_PATH_VERSION: &str = "0.5.0";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    cdi_version: &'static str,
    kind: String,
    devices: [Device; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: Edits,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device_nodes: Vec<Node>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<Mount>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_path: Option<String>,
    r#type: &'static str,
    major: u64,
    minor: u64,
    permissions: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: String,
    container_path: String,
    options: [&'static str; 4],
}

impl Spec {
    /// Of one device, named after the grant. Looks at every host path.
    pub(super) fn new(
        kind: String,
        grant: &GrantId,
        edits: &ContainerEdits,
        plain_files: PlainFiles,
    ) -> Result<Self, CdiError> {
        let name = grant.to_string();
        if !is_device_name(&name) {
            return Err(CdiError::Name {
                what: "device name",
                text: name,
            });
        }
        let mut written = Edits {
            env: edits
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            ..Edits::default()
        };
        for node in &edits.device_nodes {
            let found = look(grant, &node.host_path)?;
            if found.file_type().is_char_device() {
                written.device_nodes.push(Node::new(node, &found)?);
            } else if found.is_file() && plain_files == PlainFiles::Mounted {
                let mount = BindMount {
                    container_path: node.container_path.clone(),
                    host_path: node.host_path.clone(),
                    read_only: !node.permissions.contains('w'),
                };
                written.mounts.push(Mount::new(&mount, &found)?);
            } else {
                return Err(CdiError::NotADevice {
                    path: node.host_path.clone(),
                });
            }
        }
        for mount in &edits.mounts {
            let found = look(grant, &mount.host_path)?;
            written.mounts.push(Mount::new(mount, &found)?);
        }
        if written.env.is_empty() && written.device_nodes.is_empty() && written.mounts.is_empty() {
            return Err(CdiError::Empty {
                grant: grant.clone(),
            });
        }
        let needs_host_path = name.starts_with(|first: char| first.is_ascii_digit())
            || written
                .device_nodes
                .iter()
                .any(|node| node.host_path.is_some());
        Ok(Self {
            cdi_version: if needs_host_path {
                HOST_PATH_VERSION
            } else {
                BASE_VERSION
            },
            kind,
            devices: [Device {
                name,
                container_edits: written,
            }],
        })
    }
}

impl Node {
    fn new(node: &DeviceNode, found: &Metadata) -> Result<Self, CdiError> {
        Ok(Self {
            path: text(&node.container_path)?,
            host_path: (node.host_path != node.container_path)
                .then(|| text(&node.host_path))
                .transpose()?,
            r#type: "c",
            major: major(found.rdev()),
            minor: minor(found.rdev()),
            permissions: node.permissions.clone(),
        })
    }
}

impl Mount {
    fn new(mount: &BindMount, found: &Metadata) -> Result<Self, CdiError> {
        Ok(Self {
            host_path: text(&mount.host_path)?,
            container_path: text(&mount.container_path)?,
            options: [
                if mount.read_only { "ro" } else { "rw" },
                "nosuid",
                "nodev",
                if found.is_dir() { "rbind" } else { "bind" },
            ],
        })
    }
}

fn look(grant: &GrantId, path: &Path) -> Result<Metadata, CdiError> {
    fs::metadata(path).map_err(|source| CdiError::Look {
        grant: grant.clone(),
        path: path.to_owned(),
        source,
    })
}

fn text(path: &Path) -> Result<String, CdiError> {
    let bad = || CdiError::PathText {
        path: PathBuf::from(path),
    };
    path.to_str().map(str::to_owned).ok_or_else(bad)
}

/// A vendor or a class: begins with a letter, ends with a letter or digit, has `_`, `-` and `.` between.
pub(super) fn is_kind_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
}

/// A device name: letter or digit at both ends, `_`, `-`, `.` and `:` between.
pub(super) fn is_device_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte))
}
