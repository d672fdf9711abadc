//! Finding devices: by index, UUID, PCI address and serial number.

use gpushared_driver_sim::{Code, Result};

use crate::abi::device::UuidV1;
use crate::abi::{DeviceHandle, version_of};
use crate::context::{Context, gpu_handle};
use crate::entry::entries;
use crate::pointer::{CText, In, Out};

entries! {
    /// Number of GPUs present.
    fn nvmlDeviceGetCount_v2(count: Out<u32>) |cx| {
        count.set(cx.node.gpu_count())
    }

    /// The first count: GPUs that the caller may use; here all of them.
    fn nvmlDeviceGetCount(count: Out<u32>) |cx| {
        count.set(cx.node.gpu_count())
    }

    /// GPU by index.
    fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: Out<DeviceHandle>) |cx| {
        by_index(cx, index, device)
    }

    /// GPU by index, first symbol.
    fn nvmlDeviceGetHandleByIndex(index: u32, device: Out<DeviceHandle>) |cx| {
        by_index(cx, index, device)
    }

    /// GPU or MIG device by UUID; also the old `MIG-GPU-<uuid>/<gi>/<ci>`.
    fn nvmlDeviceGetHandleByUUID(uuid: CText, device: Out<DeviceHandle>) |cx| {
        let uuid = uuid.get()?;
        device.require()?;
        device.set(by_uuid(cx, &uuid)?)
    }

    /// By UUID as text (1) or sixteen bytes (2).
    fn nvmlDeviceGetHandleByUUIDV(uuid: In<UuidV1>, device: Out<DeviceHandle>) |cx| {
        let uuid = uuid.get()?;
        if uuid.version != version_of::<UuidV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        device.require()?;
        let handle = match uuid.kind {
            1 => {
                let end = uuid.value.iter().position(|&byte| byte == 0).unwrap_or(uuid.value.len());
                let text = std::str::from_utf8(&uuid.value[..end]);
                by_uuid(cx, text.map_err(|_| Code::INVALID_ARGUMENT)?)?
            }
            2 => by_uuid_bytes(cx, &uuid.value[..16])?,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        device.set(handle)
    }

    /// GPU by PCI address, with or without the domain.
    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: CText, device: Out<DeviceHandle>) |cx| {
        by_pci(cx, bus_id, device)
    }

    /// GPU by PCI address, first symbol.
    fn nvmlDeviceGetHandleByPciBusId(bus_id: CText, device: Out<DeviceHandle>) |cx| {
        by_pci(cx, bus_id, device)
    }

    /// GPU by board serial number.
    fn nvmlDeviceGetHandleBySerial(serial: CText, device: Out<DeviceHandle>) |cx| {
        let serial = serial.get()?;
        device.require()?;
        device.set(gpu_handle(cx.node.slot_by_serial(&serial)?))
    }
}

fn by_index(cx: &Context<'_>, index: u32, device: Out<DeviceHandle>) -> Result<()> {
    device.require()?;
    device.set(gpu_handle(cx.node.slot_by_index(index)?))
}

fn by_pci(cx: &Context<'_>, bus_id: CText, device: Out<DeviceHandle>) -> Result<()> {
    let bus_id = bus_id.get()?;
    device.require()?;
    device.set(gpu_handle(cx.node.slot_by_pci_bus_id(&bus_id)?))
}

/// The handle of a GPU (`GPU-…`) or MIG device (`MIG-…`).
fn by_uuid(cx: &Context<'_>, uuid: &str) -> Result<DeviceHandle> {
    if uuid.starts_with("MIG-") {
        // The old form names instances that may be gone: not found, as for any other unknown name.
        let device = cx
            .node
            .mig_device_by_uuid(uuid)
            .map_err(|code| match code {
                Code::GPU_IS_LOST => code,
                _ => Code::NOT_FOUND,
            })?;
        return cx.mig_handle(device);
    }
    cx.node.slot_by_uuid(uuid).map(gpu_handle)
}

/// Sixteen bytes as `8-4-4-4-12` digits; the bytes do not say of what kind the device is.
fn by_uuid_bytes(cx: &Context<'_>, bytes: &[u8]) -> Result<DeviceHandle> {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    by_uuid(cx, &format!("GPU-{text}")).or_else(|_| by_uuid(cx, &format!("MIG-{text}")))
}
