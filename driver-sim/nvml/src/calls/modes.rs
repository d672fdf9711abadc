//! Modes: persistence, compute, ECC, display, virtualisation, accounting.

use gpushared_driver_sim::Code;

use crate::abi::DeviceHandle;
use crate::context::Target;
use crate::entry::entries;
use crate::pointer::Out;

/// `NVML_FEATURE_DISABLED`.
const DISABLED: u32 = 0;
/// `NVML_FEATURE_ENABLED`.
const ENABLED: u32 = 1;

entries! {
    /// Persistence mode.
    fn nvmlDeviceGetPersistenceMode(device: DeviceHandle, mode: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mode.set(cx.node.gpu(gpu)?.persistence_mode)
    }

    /// Persistence mode.
    fn nvmlDeviceSetPersistenceMode(device: DeviceHandle, mode: u32) |cx| {
        let gpu = cx.gpu(device)?;
        cx.privileged()?;
        cx.node.set_persistence_mode(gpu, mode)
    }

    /// Compute mode; MIG devices are always in the default mode.
    fn nvmlDeviceGetComputeMode(device: DeviceHandle, mode: Out<u32>) |cx| {
        match cx.target(device)? {
            Target::Gpu(gpu) => mode.set(cx.node.gpu(gpu)?.compute_mode),
            Target::Mig(_) => mode.set(0),
        }
    }

    /// Compute mode; the model keeps it per GPU, and not with MIG enabled.
    fn nvmlDeviceSetComputeMode(device: DeviceHandle, mode: u32) |cx| {
        let gpu = cx.board(device)?;
        cx.privileged()?;
        cx.node.set_compute_mode(gpu, mode)
    }

    /// ECC mode in effect and after the next reset.
    fn nvmlDeviceGetEccMode(device: DeviceHandle, current: Out<u32>, pending: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        pending.require()?;
        let gpu = cx.node.gpu(gpu)?;
        current.set(gpu.ecc_current)?;
        pending.set(gpu.ecc_pending)
    }

    /// ECC is on unless switched off.
    fn nvmlDeviceGetDefaultEccMode(device: DeviceHandle, mode: Out<u32>) |cx| {
        cx.board(device)?;
        mode.set(ENABLED)
    }

    /// ECC mode after the next reset.
    fn nvmlDeviceSetEccMode(device: DeviceHandle, mode: u32) |cx| {
        let gpu = cx.gpu(device)?;
        cx.privileged()?;
        cx.node.set_ecc_mode(gpu, mode)
    }

    /// No display.
    fn nvmlDeviceGetDisplayMode(device: DeviceHandle, display: Out<u32>) |cx| {
        cx.board(device)?;
        display.set(DISABLED)
    }

    /// No display.
    fn nvmlDeviceGetDisplayActive(device: DeviceHandle, active: Out<u32>) |cx| {
        cx.board(device)?;
        active.set(DISABLED)
    }

    /// Bare metal.
    fn nvmlDeviceGetVirtualizationMode(device: DeviceHandle, mode: Out<u32>) |cx| {
        cx.board(device)?;
        mode.set(0)
    }

    /// Application clocks and the like are not restricted.
    fn nvmlDeviceGetAPIRestriction(device: DeviceHandle, api: u32, restricted: Out<u32>) |cx| {
        cx.board(device)?;
        if api > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        restricted.set(DISABLED)
    }

    /// Accounting is off: the model keeps no history of processes that ended.
    fn nvmlDeviceGetAccountingMode(device: DeviceHandle, mode: Out<u32>) |cx| {
        cx.board(device)?;
        mode.set(DISABLED)
    }

    /// Room for accounting entries, 3872 live and 128 ended ones.
    fn nvmlDeviceGetAccountingBufferSize(device: DeviceHandle, size: Out<u32>) |cx| {
        cx.board(device)?;
        size.set(4000)
    }
}
