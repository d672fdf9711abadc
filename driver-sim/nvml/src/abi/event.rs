//! Structs of event sets.

use super::{DeviceHandle, assert_layout, plain};

/// What the unversioned `nvmlEventSetWait` writes: no instance ids.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct EventDataV1 {
    pub(crate) device: DeviceHandle,
    pub(crate) kind: u64,
    pub(crate) data: u64,
}

/// `nvmlEventData_t`, what `_v2` writes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct EventDataV2 {
    pub(crate) v1: EventDataV1,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

assert_layout! { EventDataV1 = 24, EventDataV2 = 32 }
plain! { EventDataV1, EventDataV2 }
