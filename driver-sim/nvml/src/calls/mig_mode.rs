//! MIG mode. The activation status is an answer of its own: SUCCESS with status IN_USE means "not yet".

use gpushared_driver_sim::Code;

use crate::abi::{DeviceHandle, Return};
use crate::entry::entries;
use crate::pointer::Out;

entries! {
    /// Mode in effect and mode after the next activation.
    fn nvmlDeviceGetMigMode(device: DeviceHandle, current: Out<u32>, pending: Out<u32>) |cx| {
        let gpu = cx.gpu(device)?;
        pending.require()?;
        let mode = cx.node.mig_mode(gpu)?;
        current.set(mode.current)?;
        pending.set(mode.pending)
    }

    /// Sets the mode; it may stay pending.
    fn nvmlDeviceSetMigMode(device: DeviceHandle, mode: u32, activation: Out<Return>) |cx| {
        let gpu = cx.gpu(device)?;
        activation.require()?;
        if mode > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        cx.privileged()?;
        cx.reap();
        let status = cx.node.set_mig_mode(gpu, mode, cx.now_ns)?;
        activation.set(status.get())
    }

    /// Most MIG devices of a GPU: 0 without MIG.
    fn nvmlDeviceGetMaxMigDeviceCount(device: DeviceHandle, count: Out<u32>) |cx| {
        let gpu = cx.gpu(device)?;
        count.set(cx.node.max_mig_devices(gpu)?)
    }
}
