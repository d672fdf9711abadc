//! Structs of process lists and per-process utilisation.

use super::{assert_layout, plain};

/// `nvmlProcessInfo_v1_t`: what the unversioned symbols write, 16 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessInfoV1 {
    pub(crate) pid: u32,
    pub(crate) used: u64,
}

/// `nvmlProcessInfo_v2_t`: what `_v2` and `_v3` write, 24 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessInfoV2 {
    pub(crate) pid: u32,
    pub(crate) used: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
}

/// `nvmlProcessDetail_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessDetailV1 {
    pub(crate) pid: u32,
    pub(crate) used: u64,
    pub(crate) gpu_instance: u32,
    pub(crate) compute_instance: u32,
    pub(crate) protected_used: u64,
}

/// `nvmlProcessDetailList_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessDetailListV1 {
    pub(crate) version: u32,
    pub(crate) mode: u32,
    pub(crate) entries: u32,
    pub(crate) array: *mut ProcessDetailV1,
}

/// `nvmlProcessUtilizationSample_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessUtilizationSample {
    pub(crate) pid: u32,
    pub(crate) timestamp_us: u64,
    pub(crate) sm: u32,
    pub(crate) memory: u32,
    pub(crate) encoder: u32,
    pub(crate) decoder: u32,
}

/// `nvmlProcessUtilizationInfo_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessUtilizationInfoV1 {
    pub(crate) timestamp_us: u64,
    pub(crate) pid: u32,
    pub(crate) sm: u32,
    pub(crate) memory: u32,
    pub(crate) encoder: u32,
    pub(crate) decoder: u32,
    pub(crate) jpeg: u32,
    pub(crate) ofa: u32,
}

/// `nvmlProcessesUtilizationInfo_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ProcessesUtilizationInfoV1 {
    pub(crate) version: u32,
    pub(crate) entries: u32,
    pub(crate) last_seen_us: u64,
    pub(crate) array: *mut ProcessUtilizationInfoV1,
}

assert_layout! {
    ProcessInfoV1 = 16, ProcessInfoV2 = 24, ProcessDetailV1 = 32, ProcessDetailListV1 = 24,
    ProcessUtilizationSample = 32, ProcessUtilizationInfoV1 = 40, ProcessesUtilizationInfoV1 = 24,
}
plain! {
    ProcessInfoV1, ProcessInfoV2, ProcessDetailV1, ProcessDetailListV1, ProcessUtilizationSample,
    ProcessUtilizationInfoV1, ProcessesUtilizationInfoV1,
}
