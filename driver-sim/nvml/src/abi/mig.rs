//! Structs of GPU instances and compute instances.
//!
//! v2 and v3 of the GPU instance profile have the same size and a different layout: the version
//! byte decides, never the size.

use super::{ComputeInstanceHandle, DeviceHandle, GpuInstanceHandle, assert_layout, plain};

/// Length of a profile name buffer.
pub(crate) const NAME: usize = 96;

/// `nvmlGpuInstancePlacement_t` and `nvmlComputeInstancePlacement_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PlacementAbi {
    pub(crate) start: u32,
    pub(crate) size: u32,
}

/// `nvmlGpuInstanceProfileInfo_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GiProfileV1 {
    pub(crate) id: u32,
    pub(crate) p2p: u32,
    pub(crate) engines: Engines,
    pub(crate) memory_mib: u64,
}

/// The run of counts that all three versions share.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Engines {
    pub(crate) slices: u32,
    pub(crate) instances: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) copy_engines: u32,
    pub(crate) decoders: u32,
    pub(crate) encoders: u32,
    pub(crate) jpeg: u32,
    pub(crate) ofa: u32,
}

/// `nvmlGpuInstanceProfileInfo_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GiProfileV2 {
    pub(crate) version: u32,
    pub(crate) id: u32,
    pub(crate) p2p: u32,
    pub(crate) engines: Engines,
    pub(crate) memory_mib: u64,
    pub(crate) name: [u8; NAME],
}

/// `nvmlGpuInstanceProfileInfo_v3_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GiProfileV3 {
    pub(crate) version: u32,
    pub(crate) id: u32,
    pub(crate) engines: Engines,
    pub(crate) memory_mib: u64,
    pub(crate) name: [u8; NAME],
    pub(crate) capabilities: u32,
}

/// `nvmlGpuInstanceInfo_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GiInfo {
    pub(crate) device: DeviceHandle,
    pub(crate) id: u32,
    pub(crate) profile: u32,
    pub(crate) placement: PlacementAbi,
}

/// `nvmlComputeInstanceProfileInfo_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CiProfileV1 {
    pub(crate) id: u32,
    pub(crate) engines: Engines,
}

/// `nvmlComputeInstanceProfileInfo_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CiProfileV2 {
    pub(crate) version: u32,
    pub(crate) id: u32,
    pub(crate) engines: Engines,
    pub(crate) name: [u8; NAME],
}

/// `nvmlComputeInstanceProfileInfo_v3_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CiProfileV3 {
    pub(crate) version: u32,
    pub(crate) id: u32,
    pub(crate) engines: Engines,
    pub(crate) name: [u8; NAME],
    pub(crate) capabilities: u32,
}

/// What the unversioned `nvmlComputeInstanceGetInfo` writes: no placement.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CiInfoV1 {
    pub(crate) device: DeviceHandle,
    pub(crate) gpu_instance: GpuInstanceHandle,
    pub(crate) id: u32,
    pub(crate) profile: u32,
}

/// `nvmlComputeInstanceInfo_t`, what `_v2` writes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CiInfoV2 {
    pub(crate) v1: CiInfoV1,
    pub(crate) placement: PlacementAbi,
}

assert_layout! {
    PlacementAbi = 8, GiProfileV1 = 48, GiProfileV2 = 152, GiProfileV3 = 152, GiInfo = 24,
    CiProfileV1 = 36, CiProfileV2 = 136, CiProfileV3 = 140, CiInfoV1 = 24, CiInfoV2 = 32,
    ComputeInstanceHandle = 8,
}
plain! {
    PlacementAbi, GiProfileV1, GiProfileV2, GiProfileV3, GiInfo, CiProfileV1, CiProfileV2,
    CiProfileV3, CiInfoV1, CiInfoV2,
}
