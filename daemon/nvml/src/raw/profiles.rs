//! Profiles of GPU instances and compute instances, and placements.
//!
//! A profile is *asked for* by its enum (0, 1, 2, …) and *named* by its id (19, 14, 9, …) ever after. Three versions
//! of the structure are known; the third and second have one size and different layouts, so each is a type of its own
//! and none is ever read as another.

use std::ptr;

use nvml_wrapper::Device;
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstanceProfileInfo_t, nvmlComputeInstanceProfileInfo_v2_t,
    nvmlComputeInstanceProfileInfo_v3_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t,
};

use super::gpu_instance::GpuInstanceHandle;
use super::{Answer, Refusal, check, code, device, function, grown, text, version_of};

/// More enums than any driver has (18 and 9 today): drivers answer `INVALID_ARGUMENT` past their own last one.
pub(crate) const ENUMS: u32 = 64;
/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`, the only one.
const SHARED: u32 = 0;
const NAME: usize = 96;

/// A GPU-instance profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuInstanceProfile {
    pub(crate) id: u32,
    /// `None` from drivers that only know the first version.
    pub(crate) name: Option<String>,
    pub(crate) slices: u32,
    pub(crate) most: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) memory_mib: u64,
}

/// A compute-instance profile within a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ComputeInstanceProfile {
    pub(crate) id: u32,
    pub(crate) slices: u32,
    pub(crate) most: u32,
    pub(crate) multiprocessors: u32,
}

/// The GPU-instance profile with that enum, in the newest version that the driver knows.
pub(crate) fn gpu_instance_profile(
    of: &Device<'static>,
    profile: u32,
) -> Answer<GpuInstanceProfile> {
    older(third(of, profile), || {
        older(second(of, profile), || first(of, profile))
    })
}

/// The answer of one version, or that of the one before it where the driver may not know this one. Drivers answer an
/// unknown version with `ARGUMENT_VERSION_MISMATCH` or `INVALID_ARGUMENT`; the latter also means "past the last
/// profile", which only the oldest version can tell.
fn older<T>(newer: Answer<T>, older: impl FnOnce() -> Answer<T>) -> Answer<T> {
    match newer {
        Err(refusal) if refusal.is_of_version() || refusal.is(&[code::INVALID_ARGUMENT]) => older(),
        other => other,
    }
}

fn third(of: &Device<'static>, profile: u32) -> Answer<GpuInstanceProfile> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetGpuInstanceProfileInfoV,
        "nvmlDeviceGetGpuInstanceProfileInfoV",
    )?;
    let mut info = nvmlGpuInstanceProfileInfo_v3_t {
        version: version_of::<nvmlGpuInstanceProfileInfo_v3_t>(3),
        id: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
        name: [0; NAME],
        capabilities: 0,
    };
    let out = (&raw mut info).cast();
    // SAFETY: the function takes every version behind one pointer type and goes by the version word, which is this
    // structure's; the structure lives over the call.
    check(unsafe { get(device::handle(of), profile, out) })?;
    Ok(GpuInstanceProfile {
        id: info.id,
        name: Some(text(&info.name)?),
        slices: info.sliceCount,
        most: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
    })
}

fn second(of: &Device<'static>, profile: u32) -> Answer<GpuInstanceProfile> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetGpuInstanceProfileInfoV,
        "nvmlDeviceGetGpuInstanceProfileInfoV",
    )?;
    let mut info = nvmlGpuInstanceProfileInfo_v2_t {
        version: version_of::<nvmlGpuInstanceProfileInfo_v2_t>(2),
        id: 0,
        isP2pSupported: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
        name: [0; NAME],
    };
    // SAFETY: the structure is the function's own, says its version and lives over the call.
    check(unsafe { get(device::handle(of), profile, &raw mut info) })?;
    Ok(GpuInstanceProfile {
        id: info.id,
        name: Some(text(&info.name)?),
        slices: info.sliceCount,
        most: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
    })
}

fn first(of: &Device<'static>, profile: u32) -> Answer<GpuInstanceProfile> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetGpuInstanceProfileInfo,
        "nvmlDeviceGetGpuInstanceProfileInfo",
    )?;
    let mut info = nvmlGpuInstanceProfileInfo_t {
        id: 0,
        isP2pSupported: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
    };
    // SAFETY: the structure is the function's own and lives over the call.
    check(unsafe { get(device::handle(of), profile, &raw mut info) })?;
    Ok(GpuInstanceProfile {
        id: info.id,
        name: None,
        slices: info.sliceCount,
        most: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        memory_mib: info.memorySizeMB,
    })
}

/// Where instances of a profile (its id) may lie, as start and size. A count query with NULL is answered with success
/// here, unlike for other lists.
pub(crate) fn placements(of: &Device<'static>, profile: u32) -> Answer<Vec<(u32, u32)>> {
    let list = function(
        &of.nvml()
            .lib()
            .nvmlDeviceGetGpuInstancePossiblePlacements_v2,
        "nvmlDeviceGetGpuInstancePossiblePlacements_v2",
    )?;
    let mut count = 0;
    // SAFETY: NULL asks for the count only, which lives over the call.
    let counted =
        check(unsafe { list(device::handle(of), profile, ptr::null_mut(), &raw mut count) });
    match counted {
        Err(refusal) if !refusal.is(&[code::INSUFFICIENT_SIZE]) => return Err(refusal),
        _ => {}
    }
    let empty = nvmlGpuInstancePlacement_t { start: 0, size: 0 };
    let room = usize::try_from(count).unwrap_or(0) + super::gpu_instance::ROOM;
    let placements = grown(room, empty, |buffer, used| {
        // SAFETY: the buffer has room for `used` placements, more than were counted, and both live over the call.
        unsafe { list(device::handle(of), profile, buffer.as_mut_ptr(), used) }
    })?;
    Ok(placements
        .into_iter()
        .map(|placement| (placement.start, placement.size))
        .collect())
}

/// The compute-instance profile with that enum, in the newest version that the driver knows.
pub(crate) fn compute_instance_profile(
    of: &GpuInstanceHandle,
    profile: u32,
) -> Answer<ComputeInstanceProfile> {
    older(compute_third(of, profile), || {
        older(compute_second(of, profile), || compute_first(of, profile))
    })
}

fn compute_third(of: &GpuInstanceHandle, profile: u32) -> Answer<ComputeInstanceProfile> {
    let get = compute_function(of)?;
    let mut info = nvmlComputeInstanceProfileInfo_v3_t {
        version: version_of::<nvmlComputeInstanceProfileInfo_v3_t>(3),
        id: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        sharedCopyEngineCount: 0,
        sharedDecoderCount: 0,
        sharedEncoderCount: 0,
        sharedJpegCount: 0,
        sharedOfaCount: 0,
        name: [0; NAME],
        capabilities: 0,
    };
    let out = (&raw mut info).cast();
    // SAFETY: the function takes every version behind one pointer type and goes by the version word, which is this
    // structure's; the structure lives over the call, and the handle came from NVML.
    check(unsafe { get(of.raw, profile, SHARED, out) })?;
    Ok(ComputeInstanceProfile {
        id: info.id,
        slices: info.sliceCount,
        most: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
    })
}

fn compute_second(of: &GpuInstanceHandle, profile: u32) -> Answer<ComputeInstanceProfile> {
    let get = compute_function(of)?;
    let mut info = nvmlComputeInstanceProfileInfo_v2_t {
        version: version_of::<nvmlComputeInstanceProfileInfo_v2_t>(2),
        id: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        sharedCopyEngineCount: 0,
        sharedDecoderCount: 0,
        sharedEncoderCount: 0,
        sharedJpegCount: 0,
        sharedOfaCount: 0,
        name: [0; NAME],
    };
    // SAFETY: the structure is the function's own, says its version and lives over the call; the handle came from NVML.
    check(unsafe { get(of.raw, profile, SHARED, &raw mut info) })?;
    Ok(ComputeInstanceProfile {
        id: info.id,
        slices: info.sliceCount,
        most: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
    })
}

type ComputeFunction = unsafe extern "C" fn(
    nvml_wrapper_sys::bindings::nvmlGpuInstance_t,
    u32,
    u32,
    *mut nvmlComputeInstanceProfileInfo_v2_t,
) -> u32;

fn compute_function(of: &GpuInstanceHandle) -> Answer<ComputeFunction> {
    let name = "nvmlGpuInstanceGetComputeInstanceProfileInfoV";
    let symbol = &of.nvml.lib().nvmlGpuInstanceGetComputeInstanceProfileInfoV;
    match symbol {
        Ok(function) => Ok(*function),
        Err(_) => Err(Refusal::NoFunction(name.to_owned())),
    }
}

fn compute_first(of: &GpuInstanceHandle, profile: u32) -> Answer<ComputeInstanceProfile> {
    let get = function(
        &of.nvml.lib().nvmlGpuInstanceGetComputeInstanceProfileInfo,
        "nvmlGpuInstanceGetComputeInstanceProfileInfo",
    )?;
    let mut info = nvmlComputeInstanceProfileInfo_t {
        id: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        sharedCopyEngineCount: 0,
        sharedDecoderCount: 0,
        sharedEncoderCount: 0,
        sharedJpegCount: 0,
        sharedOfaCount: 0,
    };
    // SAFETY: the structure is the function's own and lives over the call; the handle came from NVML.
    check(unsafe { get(of.raw, profile, SHARED, &raw mut info) })?;
    Ok(ComputeInstanceProfile {
        id: info.id,
        slices: info.sliceCount,
        most: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
    })
}
