//! Which devices a process sees: pure, from the node and the value of `CUDA_VISIBLE_DEVICES`.
//!
//! Rules of CUDA: entries are read until the first that names nothing; a device named twice hides all; UUIDs
//! may be cut short as long as they are unique. A process works on at most one MIG device: if one is named, it
//! is the only device. Without the variable all GPUs without MIG mode are seen, or, if there is none, the first
//! MIG device.

use gpushared_driver_sim::{GpuSlot, MigDevice, Node};

/// A device of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// A GPU without MIG mode.
    Gpu(GpuSlot),
    /// A MIG device.
    Mig(MigDevice),
}

impl Device {
    /// The GPU, or that of the MIG device.
    pub(crate) fn slot(self) -> GpuSlot {
        match self {
            Self::Gpu(slot) => slot,
            Self::Mig(device) => device.gpu,
        }
    }
}

/// The devices of a process, by ordinal.
pub(crate) fn visible(node: &Node, variable: Option<&str>) -> Vec<Device> {
    let gpus: Vec<GpuSlot> = node
        .present()
        .filter(|&slot| node.gpu(slot).is_ok())
        .collect();
    let Some(variable) = variable else {
        return by_default(node, &gpus);
    };
    let mut found = Vec::new();
    for entry in variable.split(',').map(str::trim) {
        let Some(device) = named(node, &gpus, entry) else {
            break;
        };
        if found.contains(&device) {
            return Vec::new();
        }
        found.push(device);
    }
    let mig = found
        .iter()
        .copied()
        .find(|device| matches!(device, Device::Mig(_)));
    mig.map_or(found, |mig| vec![mig])
}

fn by_default(node: &Node, gpus: &[GpuSlot]) -> Vec<Device> {
    let whole = gpus
        .iter()
        .filter(|&&slot| node.gpu(slot).is_ok_and(|gpu| !gpu.mig_enabled()));
    let whole: Vec<_> = whole.map(|&slot| Device::Gpu(slot)).collect();
    if !whole.is_empty() {
        return whole;
    }
    gpus.iter()
        .find_map(|&slot| first_mig(node, slot))
        .map(Device::Mig)
        .into_iter()
        .collect()
}

fn named(node: &Node, gpus: &[GpuSlot], entry: &str) -> Option<Device> {
    if let Ok(index) = entry.parse::<usize>() {
        return of_gpu(node, *gpus.get(index)?);
    }
    if entry.starts_with("MIG-GPU-") {
        return node.mig_device_by_uuid(entry).ok().map(Device::Mig);
    }
    if entry.starts_with("MIG-") {
        let all = gpus.iter().flat_map(|&slot| {
            node.gpu(slot)
                .into_iter()
                .flat_map(move |gpu| gpu.mig_devices(slot))
        });
        return only(all.filter(|&device| {
            node.mig_uuid(device).is_ok_and(|uuid| {
                uuid.starts_with(&entry.to_ascii_lowercase().replacen("mig-", "MIG-", 1))
            })
        }))
        .map(Device::Mig);
    }
    if entry.starts_with("GPU-") {
        let wanted = entry.to_ascii_lowercase().replacen("gpu-", "GPU-", 1);
        let slot = only(gpus.iter().copied().filter(|&slot| {
            node.gpu(slot)
                .is_ok_and(|gpu| gpu.uuid().starts_with(&wanted))
        }))?;
        return of_gpu(node, slot);
    }
    None
}

/// A GPU as CUDA offers it: itself, or its first MIG device.
fn of_gpu(node: &Node, slot: GpuSlot) -> Option<Device> {
    if node.gpu(slot).ok()?.mig_enabled() {
        return first_mig(node, slot).map(Device::Mig);
    }
    Some(Device::Gpu(slot))
}

fn first_mig(node: &Node, slot: GpuSlot) -> Option<MigDevice> {
    let most = node.max_mig_devices(slot).ok()?;
    (0..most).find_map(|index| node.mig_device_by_index(slot, index).ok())
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use gpushared_driver_sim::{GpuSlot, NodeSpec, OwnedNode};

    use super::{Device, visible};

    fn node() -> OwnedNode {
        let mut node = OwnedNode::new(&NodeSpec::of(&["h100-80gb"; 3], 1).unwrap()).unwrap();
        let slot = GpuSlot::new(2);
        node.set_mig_mode(slot, 1, 1).unwrap();
        for _ in 0..2 {
            let gi = node.create_gi(slot, 19, None, 1).unwrap();
            node.create_ci(slot, gi, 0, None, 1).unwrap();
        }
        node
    }

    fn gpu(slot: u32) -> Device {
        Device::Gpu(GpuSlot::new(slot))
    }

    #[test]
    fn gpus_without_mig_are_seen_by_default() {
        assert_eq!(visible(&node(), None), [gpu(0), gpu(1)]);
        assert_eq!(visible(&node(), Some("")), []);
    }

    #[test]
    fn order_is_that_of_the_variable_and_ends_at_the_first_unknown_entry() {
        let node = node();
        let uuid = node.gpu(GpuSlot::new(0)).unwrap().uuid();
        assert_eq!(visible(&node, Some("1,0")), [gpu(1), gpu(0)]);
        assert_eq!(visible(&node, Some(&format!("1,{uuid}"))), [gpu(1), gpu(0)]);
        assert_eq!(visible(&node, Some(&uuid[..12])), [gpu(0)]);
        assert_eq!(visible(&node, Some("0,-1,1")), [gpu(0)]);
        assert_eq!(visible(&node, Some("0,9,1")), [gpu(0)]);
        assert_eq!(visible(&node, Some("0,0")), []);
    }

    #[test]
    fn a_mig_device_is_the_only_device() {
        let node = node();
        let slot = GpuSlot::new(2);
        let second = node.mig_device_by_index(slot, 1).unwrap();
        let uuid = node.mig_uuid(second).unwrap();
        assert_eq!(
            visible(&node, Some(&format!("0,{uuid}"))),
            [Device::Mig(second)]
        );
        let old = format!("MIG-{}/{}/0", node.gpu(slot).unwrap().uuid(), second.gi);
        assert_eq!(visible(&node, Some(&old)), [Device::Mig(second)]);
        let first = node.mig_device_by_index(slot, 0).unwrap();
        assert_eq!(visible(&node, Some("2")), [Device::Mig(first)]);
    }
}
