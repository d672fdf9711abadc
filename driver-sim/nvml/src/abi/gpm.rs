//! Structs of the GPU performance monitoring calls.
//!
//! `version` is a plain 1 here, not size-coded, and the bound of `metrics[]` differs by header
//! (210, 333, 477): only `metrics` entries below `count` may be touched.

use super::{GpmSampleHandle, Return, assert_layout, plain};

/// The only version of the GPM structs.
pub(crate) const GPM_VERSION: u32 = 1;

/// `nvmlGpmMetric_t`; the three names stay as the caller left them unless we have one.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GpmMetric {
    pub(crate) id: u32,
    pub(crate) status: Return,
    pub(crate) value: f64,
    pub(crate) short_name: *const i8,
    pub(crate) long_name: *const i8,
    pub(crate) unit: *const i8,
}

/// The head of `nvmlGpmMetricsGet_t`; `metrics[]` follows at offset 24.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GpmMetricsGetHead {
    pub(crate) version: u32,
    pub(crate) count: u32,
    pub(crate) sample1: GpmSampleHandle,
    pub(crate) sample2: GpmSampleHandle,
}

/// `nvmlGpmSupport_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GpmSupport {
    pub(crate) version: u32,
    pub(crate) supported: u32,
}

assert_layout! { GpmMetric = 40, GpmMetricsGetHead = 24, GpmSupport = 8 }
plain! { GpmMetric, GpmMetricsGetHead, GpmSupport }
