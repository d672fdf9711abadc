//! A strict reader of Container Device Interface specs, as a container runtime has one: unknown
//! fields, a version lower than the content needs, a device without edits and broken names are
//! refused, and a device that two files of one directory define is defined by neither.
//!
//! JSON only; a `.yaml` spec counts as unreadable.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::names::{check_cdi_device, check_cdi_kind, parse_cdi_name};

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
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Device {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    container_edits: Edits,
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

    fn append(&mut self, other: &Self) {
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

/// The specs of one directory, and of each file that could not be used the reason.
#[derive(Debug, Default)]
pub(crate) struct SpecDir {
    specs: Vec<Spec>,
    broken: Vec<(PathBuf, String)>,
}

/// Reads all directories, lowest priority first.
pub(crate) fn read_specs(dirs: &[PathBuf]) -> Vec<SpecDir> {
    dirs.iter().map(|dir| read_dir(dir)).collect()
}

fn read_dir(dir: &Path) -> SpecDir {
    let mut found = SpecDir::default();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let parsed = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => fs::read_to_string(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| Spec::parse(&text)),
            Some("yaml") => Err("this reader knows JSON only".to_owned()),
            _ => continue,
        };
        match parsed {
            Ok(spec) => found.specs.push(spec),
            Err(reason) => found.broken.push((path, reason)),
        }
    }
    found
}

/// The edits for `names` together: of each spec in use once, and of each device.
///
/// # Errors
/// The device that cannot be resolved, and the files that might be why.
pub(crate) fn resolve(dirs: &[SpecDir], names: &[String]) -> Result<Edits, String> {
    let mut edits = Edits::default();
    let mut used: Vec<*const Spec> = Vec::new();
    for name in names {
        let (vendor, class, device) = parse_cdi_name(name)?;
        let kind = format!("{vendor}/{class}");
        let Some((spec, device)) = find(dirs, &kind, device) else {
            let broken: Vec<_> = dirs.iter().flat_map(|dir| &dir.broken).collect();
            return Err(format!(
                "CDI device injection failed: unresolvable CDI devices {name} (broken specs: {broken:?})"
            ));
        };
        if !used.contains(&std::ptr::from_ref(spec)) {
            used.push(std::ptr::from_ref(spec));
            edits.append(&spec.container_edits);
        }
        edits.append(&device.container_edits);
    }
    Ok(edits)
}

/// The directory of the highest priority decides; two definitions in it cancel each other.
fn find<'a>(dirs: &'a [SpecDir], kind: &str, name: &str) -> Option<(&'a Spec, &'a Device)> {
    for dir in dirs.iter().rev() {
        let of_kind = dir.specs.iter().filter(|spec| spec.kind == kind);
        let mut hits = of_kind.flat_map(|spec| spec.devices.iter().map(move |d| (spec, d)));
        let mut hits = hits.by_ref().filter(|(_, device)| device.name == name);
        if let Some(hit) = hits.next() {
            return hits.next().is_none().then_some(hit);
        }
    }
    None
}

#[cfg(test)]
mod tests;
