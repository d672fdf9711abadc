//! How GPUs lie to each other. NVLink is not modelled: links exist by number and are down.

use gpushared_driver_sim::{Code, GpuSlot, Result};

use crate::abi::DeviceHandle;
use crate::abi::device::PciInfo;
use crate::context::{Context, gpu_handle};
use crate::entry::entries;
use crate::pointer::{Out, list_or_count};

/// `NVML_TOPOLOGY_INTERNAL`: the same board.
const INTERNAL: u32 = 0;
/// `NVML_TOPOLOGY_NODE`: the same NUMA node, another root complex.
const NODE: u32 = 40;
/// `NVML_TOPOLOGY_SYSTEM`: across NUMA nodes.
const SYSTEM: u32 = 50;
/// `NVML_NVLINK_MAX_LINKS`.
const MAX_LINKS: u32 = 18;
/// Processors per NUMA node of the simulated host.
const CPUS_PER_NODE: u32 = 32;

entries! {
    /// What two GPUs have in common.
    fn nvmlDeviceGetTopologyCommonAncestor(
        first: DeviceHandle, second: DeviceHandle, level: Out<u32>,
    ) |cx| {
        let (first, second) = (cx.parent(first)?, cx.parent(second)?);
        level.set(ancestor(cx, first, second)?)
    }

    /// GPUs at exactly this distance.
    fn nvmlDeviceGetTopologyNearestGpus(
        device: DeviceHandle, level: u32, count: Out<u32>, devices: Out<DeviceHandle>,
    ) |cx| {
        let gpu = cx.board(device)?;
        if !matches!(level, 0 | 10 | 20 | 30 | 40 | 50) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let mut near = Vec::new();
        for other in cx.node.present().filter(|&other| other != gpu) {
            if ancestor(cx, gpu, other).is_ok_and(|found| found == level) {
                near.push(gpu_handle(other));
            }
        }
        list_or_count(count, devices, &near)
    }

    /// GPUs near a processor.
    fn nvmlSystemGetTopologyGpuSet(cpu: u32, count: Out<u32>, devices: Out<DeviceHandle>) |cx| {
        let node = cpu / CPUS_PER_NODE;
        let near: Vec<_> = cx
            .node
            .present()
            .filter(|&slot| cx.node.gpu(slot).is_ok_and(|gpu| u32::try_from(gpu.numa_node) == Ok(node)))
            .map(gpu_handle)
            .collect();
        list_or_count(count, devices, &near)
    }

    /// Peer to peer: reading and writing works over PCIe (0), atomics and NVLink do not.
    fn nvmlDeviceGetP2PStatus(
        first: DeviceHandle, second: DeviceHandle, capability: u32, status: Out<u32>,
    ) |cx| {
        const OK: u32 = 0;
        const NOT_SUPPORTED: u32 = 5;
        cx.board(first)?;
        cx.board(second)?;
        status.set(match capability {
            0 | 1 | 4 => OK,
            2 | 3 => NOT_SUPPORTED,
            _ => return Err(Code::INVALID_ARGUMENT),
        })
    }

    /// Every link is down.
    fn nvmlDeviceGetNvLinkState(device: DeviceHandle, link: u32, active: Out<u32>) |cx| {
        known_link(cx, device, link)?;
        active.set(0)
    }

    /// Nothing is at the other end.
    fn nvmlDeviceGetNvLinkRemotePciInfo_v2(device: DeviceHandle, link: u32, pci: Out<PciInfo>) |cx| {
        known_link(cx, device, link)?;
        pci.require()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Nothing is at the other end.
    fn nvmlDeviceGetNvLinkRemotePciInfo(device: DeviceHandle, link: u32, pci: Out<PciInfo>) |cx| {
        known_link(cx, device, link)?;
        pci.require()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Nothing is at the other end.
    fn nvmlDeviceGetNvLinkRemoteDeviceType(device: DeviceHandle, link: u32, kind: Out<u32>) |cx| {
        known_link(cx, device, link)?;
        kind.require()?;
        Err(Code::NOT_SUPPORTED)
    }
}

fn known_link(cx: &Context<'_>, device: DeviceHandle, link: u32) -> Result<()> {
    cx.board(device)?;
    if link < MAX_LINKS {
        Ok(())
    } else {
        Err(Code::INVALID_ARGUMENT)
    }
}

/// Every simulated GPU hangs on a root port of its own.
fn ancestor(cx: &Context<'_>, first: GpuSlot, second: GpuSlot) -> Result<u32> {
    let node = |slot| Ok::<_, Code>(cx.node.gpu(slot)?.numa_node);
    Ok(match (node(first)?, node(second)?) {
        _ if first == second => INTERNAL,
        (a, b) if a == b => NODE,
        _ => SYSTEM,
    })
}
