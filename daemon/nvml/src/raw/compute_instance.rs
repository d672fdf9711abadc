//! Compute instances: list, create, destroy, and the MIG device behind one.

use std::ptr;

use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t,
};

use super::gpu_instance::{GpuInstanceHandle, ROOM};
use super::{Answer, check, device, function, grown};

/// A compute instance of this node. Used at once and never kept.
#[derive(Debug)]
pub(crate) struct ComputeInstanceHandle {
    raw: nvmlComputeInstance_t,
    nvml: &'static Nvml,
}

/// What NVML says about a compute instance.
#[derive(Debug)]
pub(crate) struct ComputeInstanceInfo {
    pub(crate) id: u32,
    pub(crate) profile: u32,
    /// The MIG device. The header calls it the parent device; drivers give the MIG device's handle, and NVIDIA's own
    /// DRA driver relies on that. A walk over all MIG device handles would cost seconds on a busy node.
    pub(crate) device: Device<'static>,
}

impl ComputeInstanceHandle {
    /// The compute instance of a GPU instance with that id.
    pub(crate) fn by_id(of: &GpuInstanceHandle, id: u32) -> Answer<Self> {
        let nvml = of.nvml;
        let get = function(
            &nvml.lib().nvmlGpuInstanceGetComputeInstanceById,
            "nvmlGpuInstanceGetComputeInstanceById",
        )?;
        let mut raw = ptr::null_mut();
        // SAFETY: the GPU instance's handle came from NVML; `raw` takes the handle and lives over the call.
        check(unsafe { get(of.raw, id, &raw mut raw) })?;
        Ok(Self { raw, nvml })
    }

    /// All compute instances of a profile (its id); `most` is how many the profile allows.
    pub(crate) fn of_profile(of: &GpuInstanceHandle, profile: u32, most: u32) -> Answer<Vec<Self>> {
        let nvml = of.nvml;
        let list = function(
            &nvml.lib().nvmlGpuInstanceGetComputeInstances,
            "nvmlGpuInstanceGetComputeInstances",
        )?;
        let room = usize::try_from(most).unwrap_or(0) + ROOM;
        let handles = grown(room, ptr::null_mut(), |buffer, used| {
            // SAFETY: the header wants room for the profile's `instanceCount` handles, which the buffer has and more.
            unsafe { list(of.raw, profile, buffer.as_mut_ptr(), used) }
        })?;
        Ok(handles.into_iter().map(|raw| Self { raw, nvml }).collect())
    }

    /// Creates a compute instance of a profile (its id).
    pub(crate) fn create(of: &GpuInstanceHandle, profile: u32) -> Answer<Self> {
        let nvml = of.nvml;
        let create = function(
            &nvml.lib().nvmlGpuInstanceCreateComputeInstance,
            "nvmlGpuInstanceCreateComputeInstance",
        )?;
        let mut raw = ptr::null_mut();
        // SAFETY: the GPU instance's handle came from NVML; `raw` takes the handle and lives over the call.
        check(unsafe { create(of.raw, profile, &raw mut raw) })?;
        Ok(Self { raw, nvml })
    }

    /// Id, profile and MIG device.
    pub(crate) fn info(&self) -> Answer<ComputeInstanceInfo> {
        let get = function(
            &self.nvml.lib().nvmlComputeInstanceGetInfo_v2,
            "nvmlComputeInstanceGetInfo_v2",
        )?;
        let mut info = nvmlComputeInstanceInfo_t {
            device: ptr::null_mut(),
            gpuInstance: ptr::null_mut(),
            id: 0,
            profileId: 0,
            placement: nvmlComputeInstancePlacement_t { start: 0, size: 0 },
        };
        // SAFETY: the handle came from NVML and was not destroyed by us; the structure is the function's own and lives
        // over the call.
        check(unsafe { get(self.raw, &raw mut info) })?;
        Ok(ComputeInstanceInfo {
            id: info.id,
            profile: info.profileId,
            device: device::from_handle(info.device, self.nvml),
        })
    }

    /// Destroys it; `IN_USE` while somebody uses it.
    pub(crate) fn destroy(self) -> Answer<()> {
        let destroy = function(
            &self.nvml.lib().nvmlComputeInstanceDestroy,
            "nvmlComputeInstanceDestroy",
        )?;
        // SAFETY: the handle came from NVML and goes with `self`, so nothing of ours uses it afterwards.
        check(unsafe { destroy(self.raw) })
    }
}
