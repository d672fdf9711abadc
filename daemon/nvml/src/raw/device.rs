//! From nvml-wrapper's devices to handles and back.

use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::nvmlDevice_t;

/// The handle of a device.
pub(super) fn handle(device: &Device<'static>) -> nvmlDevice_t {
    // SAFETY: the function is unsafe because a handle may outlive its library; this one is only used while
    // `device.nvml()` is borrowed for ever.
    unsafe { device.handle() }
}

/// A device that NVML gave as a handle.
pub(super) fn from_handle(handle: nvmlDevice_t, nvml: &'static Nvml) -> Device<'static> {
    // SAFETY: the caller has the handle from a successful call of the same library; NVML checks it on every use.
    unsafe { Device::new(handle, nvml) }
}
