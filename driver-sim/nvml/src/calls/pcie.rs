//! The bus: link, throughput, replay counter, interrupt, NUMA node and CPU affinity.

use gpushared_driver_sim::{Code, GpuSlot, Result};

use crate::abi::DeviceHandle;
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::Out;

/// Lanes of every simulated board.
const WIDTH: u32 = 16;
/// Processors per NUMA node of the simulated host.
const CPUS_PER_NODE: u32 = 32;

entries! {
    /// Highest link generation that GPU and system reach together.
    fn nvmlDeviceGetMaxPcieLinkGeneration(device: DeviceHandle, generation: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        generation.set(link_generation(cx, gpu)?)
    }

    /// Highest link generation of the GPU.
    fn nvmlDeviceGetGpuMaxPcieLinkGeneration(device: DeviceHandle, generation: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        generation.set(link_generation(cx, gpu)?)
    }

    /// Link generation now.
    fn nvmlDeviceGetCurrPcieLinkGeneration(device: DeviceHandle, generation: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        generation.set(link_generation(cx, gpu)?)
    }

    /// Most lanes.
    fn nvmlDeviceGetMaxPcieLinkWidth(device: DeviceHandle, width: Out<u32>) |cx| {
        cx.board(device)?;
        width.set(WIDTH)
    }

    /// Lanes now.
    fn nvmlDeviceGetCurrPcieLinkWidth(device: DeviceHandle, width: Out<u32>) |cx| {
        cx.board(device)?;
        width.set(WIDTH)
    }

    /// Highest speed as `NVML_PCIE_LINK_MAX_SPEED_…`: the generation's own number.
    fn nvmlDeviceGetPcieLinkMaxSpeed(device: DeviceHandle, speed: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        speed.set(link_generation(cx, gpu)?)
    }

    /// Speed of one lane in MBPS.
    fn nvmlDeviceGetPcieSpeed(device: DeviceHandle, mbps: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mbps.set(match link_generation(cx, gpu)? {
            5 => 32_000,
            4 => 16_000,
            _ => 8_000,
        })
    }

    /// KiB/s over the last 20 ms, sent (0) or received (1): 1 GiB/s at full work.
    fn nvmlDeviceGetPcieThroughput(device: DeviceHandle, counter: u32, kib_per_s: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        if counter > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        cx.reap();
        kib_per_s.set(cx.node.busy_permille(gpu, None, cx.now_ns) * 1024 * 1024 / 1000)
    }

    /// No packet was ever replayed.
    fn nvmlDeviceGetPcieReplayCounter(device: DeviceHandle, count: Out<u32>) |cx| {
        cx.board(device)?;
        count.set(0)
    }

    /// PCI Express.
    fn nvmlDeviceGetBusType(device: DeviceHandle, kind: Out<u32>) |cx| {
        cx.board(device)?;
        kind.set(2)
    }

    /// Interrupt number.
    fn nvmlDeviceGetIrqNum(device: DeviceHandle, number: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        number.set(100 + gpu.get())
    }

    /// NUMA node of GPU memory: none, it is not CPU-addressable.
    fn nvmlDeviceGetNumaNodeId(device: DeviceHandle, node: Out<u32>) |cx| {
        cx.board(device)?;
        node.require()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Processors near the GPU, as words of a bit mask.
    fn nvmlDeviceGetCpuAffinity(device: DeviceHandle, words: u32, set: Out<u64>) |cx| {
        near_cpus(cx, device, words, set)
    }

    /// The same; node (0) and socket (1) are one here.
    fn nvmlDeviceGetCpuAffinityWithinScope(
        device: DeviceHandle, words: u32, set: Out<u64>, scope: u32,
    ) |cx| {
        if scope > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        near_cpus(cx, device, words, set)
    }

    /// Memory near the GPU, as words of a bit mask of NUMA nodes.
    fn nvmlDeviceGetMemoryAffinity(device: DeviceHandle, words: u32, set: Out<u64>, scope: u32) |cx| {
        if scope > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        let node = numa_node(cx, device)?;
        write_mask(words, set, node, 1)
    }
}

/// PCIe generation by architecture: Turing 3, Ampere and Ada 4, later 5.
pub(super) fn link_generation(cx: &Context<'_>, gpu: GpuSlot) -> Result<u32> {
    Ok(match cx.model(gpu)?.architecture {
        0..=6 => 3,
        7 | 8 => 4,
        _ => 5,
    })
}

fn numa_node(cx: &Context<'_>, device: DeviceHandle) -> Result<u32> {
    let gpu = cx.board(device)?;
    u32::try_from(cx.node.gpu(gpu)?.numa_node).map_err(|_| Code::NOT_SUPPORTED)
}

fn near_cpus(cx: &Context<'_>, device: DeviceHandle, words: u32, set: Out<u64>) -> Result<()> {
    let node = numa_node(cx, device)?;
    write_mask(words, set, node * CPUS_PER_NODE, CPUS_PER_NODE)
}

/// Bits `first..first + count`, as far as the words go.
fn write_mask(words: u32, set: Out<u64>, first: u32, count: u32) -> Result<()> {
    if words == 0 {
        return Err(Code::INVALID_ARGUMENT);
    }
    // No simulated host needs more; a caller with a longer mask gets zeroes behind.
    let words = words.min(1024) as usize;
    let mut mask = vec![0u64; words];
    for bit in (first..first.saturating_add(count)).map(|bit| bit as usize) {
        if let Some(word) = mask.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }
    set.fill(words, &mask)
}
