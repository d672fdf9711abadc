//! Who a device is: name, UUID, index, serial, part numbers, architecture, PCI address.

use gpushared_driver_sim::{Code, GpuSlot, MigDevice, Result};

use crate::abi::device::{PciInfo, PciInfoExtV1, PciInfoHead, PciInfoV2, VersionedNumber};
use crate::abi::{DeviceHandle, version_of};
use crate::context::{Context, Target};
use crate::entry::entries;
use crate::pointer::{Out, text_array};

entries! {
    /// Product name; on a MIG device the name with the profile.
    fn nvmlDeviceGetName(device: DeviceHandle, name: Out<u8>, length: u32) |cx| {
        match cx.target(device)? {
            Target::Gpu(gpu) => name.text(length, cx.model(gpu)?.name),
            Target::Mig(device) => name.text(length, &cx.node.mig_name(device)?),
        }
    }

    /// `GPU-…` or `MIG-…`.
    fn nvmlDeviceGetUUID(device: DeviceHandle, uuid: Out<u8>, length: u32) |cx| {
        match cx.target(device)? {
            Target::Gpu(gpu) => uuid.text(length, &cx.node.gpu(gpu)?.uuid()),
            Target::Mig(device) => uuid.text(length, &cx.node.mig_uuid(device)?),
        }
    }

    /// Index of a GPU among those present, or of a MIG device on its GPU.
    fn nvmlDeviceGetIndex(device: DeviceHandle, index: Out<u32>) |cx| {
        match cx.target(device)? {
            Target::Gpu(gpu) => index.set(cx.node.index_of(gpu)?),
            Target::Mig(MigDevice { gpu, gi, ci }) => index.set(cx.node.ci(gpu, gi, ci)?.mig_index),
        }
    }

    /// Board serial number.
    fn nvmlDeviceGetSerial(device: DeviceHandle, serial: Out<u8>, length: u32) |cx| {
        let gpu = cx.board(device)?;
        serial.text(length, &cx.node.gpu(gpu)?.serial())
    }

    /// Position on the base board.
    fn nvmlDeviceGetModuleId(device: DeviceHandle, module: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        module.set(gpu.get() + 1)
    }

    /// The number of `/dev/nvidiaN`.
    fn nvmlDeviceGetMinorNumber(device: DeviceHandle, minor: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        minor.set(cx.node.gpu(gpu)?.minor)
    }

    /// `nvmlBrandType_t`.
    fn nvmlDeviceGetBrand(device: DeviceHandle, brand: Out<u32>) |cx| {
        let gpu = cx.parent(device)?;
        brand.set(cx.model(gpu)?.brand)
    }

    /// `nvmlDeviceArchitecture_t`.
    fn nvmlDeviceGetArchitecture(device: DeviceHandle, architecture: Out<u32>) |cx| {
        let gpu = cx.parent(device)?;
        architecture.set(cx.model(gpu)?.architecture)
    }

    /// CUDA compute capability.
    fn nvmlDeviceGetCudaComputeCapability(
        device: DeviceHandle, major: Out<u32>, minor: Out<u32>,
    ) |cx| {
        let gpu = cx.parent(device)?;
        minor.require()?;
        let (high, low) = cx.model(gpu)?.compute_capability;
        major.set(high)?;
        minor.set(low)
    }

    /// CUDA cores; not with MIG enabled.
    fn nvmlDeviceGetNumGpuCores(device: DeviceHandle, cores: Out<u32>) |cx| {
        let gpu = cx.whole(device)?;
        let model = cx.model(gpu)?;
        cores.set(model.sm * model.cores_per_sm)
    }

    /// Board part number.
    fn nvmlDeviceGetBoardPartNumber(device: DeviceHandle, number: Out<u8>, length: u32) |cx| {
        let gpu = cx.board(device)?;
        number.text(length, cx.model(gpu)?.part_number)
    }

    /// Board id: the PCI address without the function.
    fn nvmlDeviceGetBoardId(device: DeviceHandle, id: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        let gpu = cx.node.gpu(gpu)?;
        id.set(gpu.pci_domain << 16 | gpu.pci_bus << 8 | gpu.pci_device)
    }

    /// No simulated board holds several GPUs.
    fn nvmlDeviceGetMultiGpuBoard(device: DeviceHandle, several: Out<u32>) |cx| {
        cx.board(device)?;
        several.set(0)
    }

    /// Whether two GPUs share a board: only a GPU with itself.
    fn nvmlDeviceOnSameBoard(first: DeviceHandle, second: DeviceHandle, same: Out<u32>) |cx| {
        let (first, second) = (cx.board(first)?, cx.board(second)?);
        same.set(u32::from(first == second))
    }

    /// VBIOS version.
    fn nvmlDeviceGetVbiosVersion(device: DeviceHandle, version: Out<u8>, length: u32) |cx| {
        let gpu = cx.board(device)?;
        version.text(length, cx.model(gpu)?.vbios)
    }

    /// Firmware of the GPU system processor: the driver's own version.
    fn nvmlDeviceGetGspFirmwareVersion(device: DeviceHandle, version: Out<u8>) |cx| {
        let gpu = cx.board(device)?;
        if cx.model(gpu)?.gsp == 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        // The interface has no length: NVML_GSP_FIRMWARE_VERSION_BUF_SIZE is 64.
        version.text(64, cx.node.header.driver_version.as_str())
    }

    /// Whether the driver runs on the GPU system processor.
    fn nvmlDeviceGetGspFirmwareMode(
        device: DeviceHandle, enabled: Out<u32>, default: Out<u32>,
    ) |cx| {
        let gpu = cx.board(device)?;
        let gsp = cx.model(gpu)?.gsp;
        default.require()?;
        enabled.set(gsp)?;
        default.set(gsp)
    }

    /// The first PCI layout: nothing after the device id is written.
    fn nvmlDeviceGetPciInfo(device: DeviceHandle, pci: Out<PciInfoHead>) |cx| {
        let gpu = cx.board(device)?;
        pci.set(pci_info(cx, gpu)?.head)
    }

    /// The second PCI layout: nothing after the subsystem id is written.
    fn nvmlDeviceGetPciInfo_v2(device: DeviceHandle, pci: Out<PciInfoV2>) |cx| {
        let gpu = cx.board(device)?;
        let info = pci_info(cx, gpu)?;
        pci.set(PciInfoV2 { head: info.head, pci_sub_system_id: info.pci_sub_system_id })
    }

    /// The current PCI layout.
    fn nvmlDeviceGetPciInfo_v3(device: DeviceHandle, pci: Out<PciInfo>) |cx| {
        let gpu = cx.board(device)?;
        pci.set(pci_info(cx, gpu)?)
    }

    /// The PCI layout with class codes.
    fn nvmlDeviceGetPciInfoExt(device: DeviceHandle, pci: Out<PciInfoExtV1>) |cx| {
        let gpu = cx.board(device)?;
        let version = pci.cast::<u32>().get()?;
        if version != version_of::<PciInfoExtV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let PciInfo { head, pci_sub_system_id, bus_id } = pci_info(cx, gpu)?;
        pci.set(PciInfoExtV1 {
            version,
            domain: head.domain,
            bus: head.bus,
            device: head.device,
            pci_device_id: head.pci_device_id,
            pci_sub_system_id,
            base_class: 0x03,
            sub_class: 0x02,
            bus_id,
        })
    }

    /// No unified address space: NONE.
    fn nvmlDeviceGetAddressingMode(device: DeviceHandle, mode: Out<VersionedNumber>) |cx| {
        cx.parent(device)?;
        let version = mode.cast::<u32>().get()?;
        if version != version_of::<VersionedNumber>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        mode.set(VersionedNumber { version, value: 0 })
    }
}

/// The PCI identity of a GPU; the vendor is NVIDIA's 0x10DE.
pub(super) fn pci_info(cx: &Context<'_>, gpu: GpuSlot) -> Result<PciInfo> {
    const VENDOR: u32 = 0x10DE;
    let model = cx.model(gpu)?;
    let gpu = cx.node.gpu(gpu)?;
    let (domain, bus, device) = (gpu.pci_domain, gpu.pci_bus, gpu.pci_device);
    Ok(PciInfo {
        head: PciInfoHead {
            bus_id_legacy: text_array(&format!("{domain:04X}:{bus:02X}:{device:02X}.0")),
            domain,
            bus,
            device,
            pci_device_id: model.device_id << 16 | VENDOR,
        },
        pci_sub_system_id: model.subsystem_id << 16 | VENDOR,
        bus_id: text_array(&format!("{domain:08X}:{bus:02X}:{device:02X}.0")),
    })
}
