//! Row remapping of a board's memory.

use nvml_wrapper::Device;

use super::{Answer, check, device, function};

/// Has remapping a row ever failed on this board? `NOT_SUPPORTED` before Ampere.
pub(crate) fn remap_failed(of: &Device<'static>) -> Answer<bool> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetRemappedRows,
        "nvmlDeviceGetRemappedRows",
    )?;
    let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: each pointer is to a number of the function's type that lives over the call.
    check(unsafe {
        get(
            device::handle(of),
            &raw mut corrected,
            &raw mut uncorrected,
            &raw mut pending,
            &raw mut failed,
        )
    })?;
    Ok(failed != 0)
}
