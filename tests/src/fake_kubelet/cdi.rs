//! A strict reader of Container Device Interface specs, as a container runtime has one: the files of
//! its directories, which device is defined where, and the edits that it stands for.
//!
//! A device that two files of one directory define is defined by neither. JSON only; a `.yaml` spec
//! counts as unreadable.

mod spec;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use spec::Edits;
use spec::{Device, Spec};

use super::names::parse_cdi_name;

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
