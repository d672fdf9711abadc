//! Initialisation, versions and devices.

use std::sync::Arc;

use gpushared_driver_sim::Function;

use crate::entry::{Context, entries, guarded, observed};
use crate::pointer::Out;
use crate::process::{initialise, memory_of, node};
use crate::status::{Result, Status};
use crate::visible::Device;

/// `cuInit`: flags must be 0.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cuInit(flags: u32) -> Status {
    const FUNCTION: Function = Function::new("cuInit");
    guarded(&mut || {
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        let shared = node()?;
        match observed(FUNCTION, &mut |node, _| {
            initialise(&Arc::clone(&shared), node)
        }) {
            Status::SUCCESS => Ok(()),
            status => Err(status),
        }
    })
}

/// `cuDriverGetVersion`: works without `cuInit`.
///
/// # Safety
/// `version` is null or valid for writing an integer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDriverGetVersion(version: Out<i32>) -> Status {
    const FUNCTION: Function = Function::new("cuDriverGetVersion");
    observed(FUNCTION, &mut |node, _| {
        version.set(node.header.cuda_version.cast_signed())
    })
}

entries! {
    /// Number of devices that this process sees.
    fn cuDeviceGetCount(count: Out<i32>) |cx| {
        count.set(i32::try_from(cx.here.count()).unwrap_or(i32::MAX))
    }

    /// A device is its ordinal.
    fn cuDeviceGet(device: Out<i32>, ordinal: i32) |cx| {
        device.require()?;
        cx.here.device(ordinal)?;
        device.set(ordinal)
    }

    /// Name of the GPU, or of the MIG device with its profile.
    fn cuDeviceGetName(name: Out<u8>, length: i32, device: i32) |cx| {
        let text = match cx.here.device(device)? {
            Device::Gpu(slot) => cx.node.gpu(slot)?.model()?.name.to_owned(),
            Device::Mig(device) => cx.node.mig_name(device)?,
        };
        name.text(length, &text)
    }

    /// UUID of the GPU, also for a MIG device.
    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) |cx| {
        let slot = cx.here.device(device)?.slot();
        uuid.set(cx.node.gpu(slot)?.uuid)
    }

    /// UUID of the device, be it a GPU or a MIG device.
    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) |cx| {
        match cx.here.device(device)? {
            Device::Gpu(slot) => uuid.set(cx.node.gpu(slot)?.uuid),
            Device::Mig(device) => {
                let text = cx.node.mig_uuid(device)?;
                uuid.set(uuid_bytes(&text).ok_or(Status::UNKNOWN)?)
            }
        }
    }

    /// Memory in bytes, up to 4 GiB: the first form.
    fn cuDeviceTotalMem(bytes: Out<u32>, device: i32) |cx| {
        let total = total_memory(cx, device)?;
        bytes.set(u32::try_from(total).unwrap_or(u32::MAX))
    }

    /// Memory in bytes.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) |cx| {
        let total = total_memory(cx, device)?;
        bytes.set(usize::try_from(total).unwrap_or(usize::MAX))
    }

    /// An attribute; those that are not modelled are 0.
    fn cuDeviceGetAttribute(value: Out<i32>, attribute: i32, device: i32) |cx| {
        value.require()?;
        let number = attribute_of(cx, attribute, device)?;
        value.set(number)
    }
}

/// What a program may have: all but what the driver keeps.
fn total_memory(cx: &Context<'_>, ordinal: i32) -> Result<u64> {
    let memory = memory_of(cx.node, cx.here.device(ordinal)?)?;
    Ok(memory.total - memory.reserved)
}

fn attribute_of(cx: &Context<'_>, attribute: i32, ordinal: i32) -> Result<i32> {
    /// One past the highest attribute of CUDA 13.
    const END: i32 = 146;
    let device = cx.here.device(ordinal)?;
    let gpu = cx.node.gpu(device.slot())?;
    let model = gpu.model()?;
    let number = match attribute {
        // Threads per block, block and grid dimensions.
        1..=3 => 1024,
        4 => 64,
        5 => 0x7FFF_FFFF,
        6 | 7 => 65535,
        // Shared memory per block, constant memory, warp, registers per block.
        8 => 49152,
        9 => 65536,
        10 => 32,
        12 => 65536,
        13 => model.sm_clock * 1000,
        16 => match device {
            Device::Gpu(_) => model.sm,
            Device::Mig(device) => cx.node.mig_attributes(device)?.multiprocessors,
        },
        20 => gpu.compute_mode,
        31 => 1,
        33 => gpu.pci_bus,
        34 => gpu.pci_device,
        36 => model.memory_clock * 1000,
        37 => model.bus_width,
        // Threads per multiprocessor, unified addressing.
        39 => 2048,
        41 => 1,
        50 => gpu.pci_domain,
        75 => model.compute_capability.0,
        76 => model.compute_capability.1,
        // Shared memory and registers per multiprocessor, managed memory.
        81 => 102_400,
        82 => 65536,
        83 => 1,
        other if (1..END).contains(&other) => 0,
        _ => return Err(Status::INVALID_VALUE),
    };
    i32::try_from(number).map_err(|_| Status::UNKNOWN)
}

/// The sixteen bytes of `MIG-xxxxxxxx-xxxx-…`.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u32> = text
        .strip_prefix("MIG-")?
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] << 4 | pair[1]).ok()?;
    }
    (digits.len() == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::uuid_bytes;

    #[test]
    fn a_mig_uuid_is_sixteen_bytes() {
        let bytes = uuid_bytes("MIG-00010203-0405-5607-8809-0a0b0c0d0e0f").unwrap();
        assert_eq!(
            bytes,
            [0, 1, 2, 3, 4, 5, 0x56, 7, 0x88, 9, 10, 11, 12, 13, 14, 15]
        );
        assert_eq!(uuid_bytes("MIG-00"), None);
    }
}
