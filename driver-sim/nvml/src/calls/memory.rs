//! Memory of GPUs and MIG devices.

use gpushared_driver_sim::{Code, MemoryInfo, Result};

use crate::abi::device::{Bar1Memory, ConfComputeMemory, Memory, MemoryV2};
use crate::abi::{DeviceHandle, version_of};
use crate::context::{Context, Target};
use crate::entry::entries;
use crate::pointer::Out;

const MIB: u64 = 1 << 20;

entries! {
    /// Memory, first layout: what the driver reserves counts as used.
    fn nvmlDeviceGetMemoryInfo(device: DeviceHandle, memory: Out<Memory>) |cx| {
        memory.require()?;
        let MemoryInfo { total, reserved, free, used } = memory_of(cx, device)?;
        memory.set(Memory { total, free, used: used + reserved })
    }

    /// Memory, second layout; the caller fills in the version.
    fn nvmlDeviceGetMemoryInfo_v2(device: DeviceHandle, memory: Out<MemoryV2>) |cx| {
        let version = memory.cast::<u32>().get()?;
        if version != version_of::<MemoryV2>(2) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let MemoryInfo { total, reserved, free, used } = memory_of(cx, device)?;
        memory.set(MemoryV2 { version, total, reserved, free, used })
    }

    /// The aperture in which the CPU sees device memory; a little of it is always mapped.
    fn nvmlDeviceGetBAR1MemoryInfo(device: DeviceHandle, memory: Out<Bar1Memory>) |cx| {
        let target = cx.target(device)?;
        aggregate(cx, target)?;
        let total = cx.model(target.slot())?.bar1_mib * MIB;
        let used = total.min(MIB);
        memory.set(Bar1Memory { total, free: total - used, used })
    }

    /// Bus width in bits.
    fn nvmlDeviceGetMemoryBusWidth(device: DeviceHandle, width: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        width.set(cx.model(gpu)?.bus_width)
    }

    /// No confidential computing: all memory is unprotected.
    fn nvmlDeviceGetConfComputeMemSizeInfo(device: DeviceHandle, memory: Out<ConfComputeMemory>) |cx| {
        let gpu = cx.board(device)?;
        let unprotected_kib = cx.model(gpu)?.memory_mib * 1024;
        memory.set(ConfComputeMemory { protected_kib: 0, unprotected_kib })
    }
}

/// The sum over a GPU's instances is for the privileged only.
fn aggregate(cx: &Context<'_>, target: Target) -> Result<()> {
    match target {
        Target::Gpu(gpu) if cx.node.gpu(gpu)?.mig_enabled() => cx.privileged(),
        _ => Ok(()),
    }
}

/// Memory of a device.
fn memory_of(cx: &mut Context<'_>, device: DeviceHandle) -> Result<MemoryInfo> {
    let target = cx.target(device)?;
    aggregate(cx, target)?;
    cx.reap();
    match target {
        Target::Gpu(gpu) => cx.node.memory(gpu),
        Target::Mig(device) => cx.node.mig_memory(device),
    }
}
