//! Device memory, in the second layout or, before R510, in the first.

use nvml_wrapper::Device;
use nvml_wrapper_sys::bindings::{nvmlMemory_t, nvmlMemory_v2_t};

use super::{Answer, check, device, function, version_of};

/// Bytes of device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// Without what the driver keeps, if that is known.
    pub(crate) used: u64,
    pub(crate) reserved: Option<u64>,
}

/// Memory of a GPU or MIG device.
pub(crate) fn memory(of: &Device<'static>) -> Answer<Memory> {
    match second(of) {
        Err(refusal) if refusal.is_of_version() => first(of),
        other => other,
    }
}

fn second(of: &Device<'static>) -> Answer<Memory> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetMemoryInfo_v2,
        "nvmlDeviceGetMemoryInfo_v2",
    )?;
    let mut memory = nvmlMemory_v2_t {
        version: version_of::<nvmlMemory_v2_t>(2),
        total: 0,
        reserved: 0,
        free: 0,
        used: 0,
    };
    // SAFETY: the structure is the function's own, says its version and lives over the call.
    check(unsafe { get(device::handle(of), &raw mut memory) })?;
    Ok(Memory {
        total: memory.total,
        used: memory.used,
        reserved: Some(memory.reserved),
    })
}

fn first(of: &Device<'static>) -> Answer<Memory> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetMemoryInfo,
        "nvmlDeviceGetMemoryInfo",
    )?;
    let mut memory = nvmlMemory_t {
        total: 0,
        free: 0,
        used: 0,
    };
    // SAFETY: the structure is the function's own and lives over the call.
    check(unsafe { get(device::handle(of), &raw mut memory) })?;
    Ok(Memory {
        total: memory.total,
        used: memory.used,
        reserved: None,
    })
}
