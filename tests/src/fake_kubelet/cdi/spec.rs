//! One spec file's content. Unknown fields, a version lower than the content needs, a device without
//! edits and broken names are refused, as runtimes refuse them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::names::{check_cdi_device, check_cdi_kind};

const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// One spec file's content.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    cdi_version: String,
    pub(crate) kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) container_edits: Edits,
}

/// A device of a spec.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    pub(crate) container_edits: Edits,
}

/// What a runtime changes in a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    env: Vec<String>,
    pub(crate) device_nodes: Vec<DeviceNode>,
    net_devices: Vec<serde_json::Value>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<Mount>,
    intel_rdt: Option<serde_json::Value>,
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceNode {
    pub(crate) path: String,
    pub(crate) host_path: Option<String>,
    r#type: Option<String>,
    major: Option<i64>,
    #[serde(rename = "minor")]
    _minor: Option<i64>,
    #[serde(rename = "fileMode")]
    _file_mode: Option<u32>,
    pub(crate) permissions: Option<String>,
    #[serde(rename = "uid")]
    _uid: Option<u32>,
    #[serde(rename = "gid")]
    _gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hook {
    pub(crate) hook_name: String,
    pub(crate) path: String,
    #[serde(rename = "args", default)]
    _args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    #[serde(rename = "timeout")]
    _timeout: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    #[serde(default)]
    pub(crate) options: Vec<String>,
    r#type: Option<String>,
}

impl DeviceNode {
    /// Whether the runtime can make the node without looking at the host's.
    pub(crate) fn is_complete(&self) -> bool {
        self.r#type.is_some() && self.major.is_some_and(|major| major != 0)
    }
}

impl Edits {
    /// Name and value of each variable; names were checked when the spec was read.
    pub(crate) fn env_pairs(&self) -> impl Iterator<Item = (String, String)> {
        let split = |pair: &String| {
            pair.split_once('=')
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        };
        self.env.iter().filter_map(split)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.env.extend(other.env.iter().cloned());
        self.device_nodes.extend(other.device_nodes.iter().cloned());
        self.hooks.extend(other.hooks.iter().cloned());
        self.mounts.extend(other.mounts.iter().cloned());
    }

    fn check(&self) -> Result<(), String> {
        check_env(&self.env)?;
        for node in &self.device_nodes {
            let kind = node.r#type.as_deref().unwrap_or_default();
            let permissions = node.permissions.as_deref().unwrap_or_default();
            if node.path.is_empty() {
                return Err("invalid (empty) device path".to_owned());
            }
            if !["", "b", "c", "u", "p"].contains(&kind) {
                return Err(format!("device {:?}: invalid type {kind:?}", node.path));
            }
            if permissions != "none" && permissions.chars().any(|c| !"rwm".contains(c)) {
                return Err(format!(
                    "device {:?}: invalid permissions {permissions:?}",
                    node.path
                ));
            }
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) || hook.path.is_empty() {
                return Err(format!(
                    "invalid hook {:?} with path {:?}",
                    hook.hook_name, hook.path
                ));
            }
            check_env(&hook.env)?;
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || mount.container_path.is_empty() {
                return Err("invalid mount, empty path".to_owned());
            }
        }
        Ok(())
    }

    /// Index into [`VERSIONS`] of the lowest version that knows all of this.
    fn needs(&self) -> usize {
        if !self.net_devices.is_empty() {
            9
        } else if self.intel_rdt.is_some() || !self.additional_gids.is_empty() {
            6
        } else if self
            .device_nodes
            .iter()
            .any(|node| node.host_path.is_some())
        {
            4
        } else if self.mounts.iter().any(|mount| mount.r#type.is_some()) {
            3
        } else {
            2
        }
    }
}

fn check_env(env: &[String]) -> Result<(), String> {
    match env
        .iter()
        .find(|pair| pair.find('=').unwrap_or_default() == 0)
    {
        Some(pair) => Err(format!("invalid environment variable {pair:?}")),
        None => Ok(()),
    }
}

impl Spec {
    /// Reads and judges one file's text.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let spec: Self = serde_json::from_str(text)
            .map_err(|error| format!("failed to unmarshal CDI Spec: {error}"))?;
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        let said = self.cdi_version.trim_start_matches('v');
        let Some(version) = VERSIONS.iter().position(|known| *known == said) else {
            return Err(format!("invalid version {:?}", self.cdi_version));
        };
        let (vendor, class) = self.kind.split_once('/').unwrap_or(("", &self.kind));
        let needed = self.needs(class);
        if version < needed {
            return Err(format!(
                "the spec version must be at least v{}",
                VERSIONS[needed]
            ));
        }
        check_cdi_kind(vendor, class)?;
        self.container_edits.check()?;
        for (place, device) in self.devices.iter().enumerate() {
            check_cdi_device(&device.name)?;
            if device.container_edits.is_empty() {
                return Err("invalid device, empty device edits".to_owned());
            }
            device.container_edits.check()?;
            if self.devices[..place]
                .iter()
                .any(|other| other.name == device.name)
            {
                return Err(format!("invalid spec, multiple device {:?}", device.name));
            }
        }
        if self.devices.is_empty() {
            return Err("invalid spec, no devices".to_owned());
        }
        Ok(())
    }

    fn needs(&self, class: &str) -> usize {
        let digit = |d: &Device| d.name.starts_with(|c: char| c.is_ascii_digit());
        let annotated = !self.annotations.is_empty()
            || self
                .devices
                .iter()
                .any(|device| !device.annotations.is_empty());
        let by_name = match (
            annotated || class.contains('.'),
            self.devices.iter().any(digit),
        ) {
            (true, _) => 5,
            (false, true) => 4,
            (false, false) => 2,
        };
        let edits = self.devices.iter().map(|device| &device.container_edits);
        edits
            .chain([&self.container_edits])
            .map(Edits::needs)
            .fold(by_name, usize::max)
    }
}

#[cfg(test)]
mod tests;
