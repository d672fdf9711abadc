//! MIG devices: the compute instances as CUDA and the other queries see them.

use gpushared_driver_sim::{Code, Result};

use crate::abi::DeviceHandle;
use crate::abi::device::Attributes;
use crate::context::{Context, Target, gpu_handle};
use crate::entry::entries;
use crate::pointer::Out;

entries! {
    /// MIG device by its index on a GPU; indices may have gaps.
    fn nvmlDeviceGetMigDeviceHandleByIndex(
        device: DeviceHandle, index: u32, mig_device: Out<DeviceHandle>,
    ) |cx| {
        let gpu = cx.gpu(device)?;
        mig_device.require()?;
        if !cx.node.gpu(gpu)?.mig_enabled() {
            return Err(Code::NOT_SUPPORTED);
        }
        let found = cx.node.mig_device_by_index(gpu, index)?;
        mig_device.set(cx.mig_handle(found)?)
    }

    /// The GPU of a MIG device.
    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
        mig_device: DeviceHandle, device: Out<DeviceHandle>,
    ) |cx| {
        let found = cx.mig(mig_device)?;
        device.set(gpu_handle(found.gpu))
    }

    /// Whether a handle is a MIG device.
    fn nvmlDeviceIsMigDeviceHandle(device: DeviceHandle, is_mig: Out<u32>) |cx| {
        let target = cx.target(device)?;
        is_mig.set(u32::from(matches!(target, Target::Mig(_))))
    }

    /// GPU instance id of a MIG device.
    fn nvmlDeviceGetGpuInstanceId(device: DeviceHandle, id: Out<u32>) |cx| {
        let found = cx.mig(device)?;
        id.set(found.gi.get())
    }

    /// Compute instance id of a MIG device.
    fn nvmlDeviceGetComputeInstanceId(device: DeviceHandle, id: Out<u32>) |cx| {
        let found = cx.mig(device)?;
        id.set(found.ci.get())
    }

    /// Engines, slices and memory of a MIG device.
    fn nvmlDeviceGetAttributes_v2(device: DeviceHandle, attributes: Out<Attributes>) |cx| {
        attributes.set(attributes_of(cx, device)?)
    }

    /// The first symbol; it has always written these 40 bytes.
    fn nvmlDeviceGetAttributes(device: DeviceHandle, attributes: Out<Attributes>) |cx| {
        attributes.set(attributes_of(cx, device)?)
    }
}

fn attributes_of(cx: &Context<'_>, device: DeviceHandle) -> Result<Attributes> {
    let Target::Mig(device) = cx.target(device)? else {
        return Err(Code::NOT_SUPPORTED);
    };
    let found = cx.node.mig_attributes(device)?;
    Ok(Attributes {
        multiprocessors: found.multiprocessors,
        copy_engines: found.copy_engines,
        decoders: found.decoders,
        encoders: found.encoders,
        jpeg: found.jpeg,
        ofa: found.ofa,
        gpu_instance_slices: found.gi_slices,
        compute_instance_slices: found.ci_slices,
        memory_mib: found.memory_mib,
    })
}
