//! A look at one GPU that cannot be answered without it.

use gpushared_domain::health::Probe;
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::structs::device::FieldId;

use crate::raw::{Answer, Refusal, code, memory, rows};

/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`; below the ids that were renumbered with driver 580.82.
const RECOVERY_ACTION: FieldId = FieldId(230);
/// Values of it that only a reset of the GPU or the node ends: reset, reboot, drain and reset. (0 is none, 3 asks for
/// peer-to-peer traffic to end.)
const RESETS: [u32; 3] = [1, 2, 4];

/// Reads memory in use, the recovery action, volatile error counters and row remapping.
pub(crate) fn look_at(device: &Device<'static>) -> Answer<Probe> {
    memory::memory(device)?;
    // Many calls go on as if nothing was on a GPU that wants a reset; drivers that know it say so here.
    if recovery_action(device).is_some_and(|action| RESETS.contains(&action)) {
        return Ok(Probe::ResetRequired);
    }
    let errors = device
        .total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)
        .map_err(Refusal::from);
    Ok(Probe::Answers {
        volatile_uncorrected: if_it_has(errors)?,
        remap_failed: if_it_has(rows::remap_failed(device))?.unwrap_or(false),
    })
}

/// What the driver wants done about the GPU; `None` from drivers that have no such field.
fn recovery_action(device: &Device<'static>) -> Option<u32> {
    let values = device.field_values_for(&[RECOVERY_ACTION]).ok()?;
    match values.into_iter().next()?.ok()?.value.ok()? {
        SampleValue::U32(action) => Some(action),
        SampleValue::U64(action) => u32::try_from(action).ok(),
        _ => None,
    }
}

/// `None` for what this GPU or driver does not have.
fn if_it_has<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(refusal) if refusal.is(&[code::NOT_SUPPORTED]) || refusal.is_of_version() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
