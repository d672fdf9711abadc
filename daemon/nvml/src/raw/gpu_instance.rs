//! GPU instances: list, create, destroy.

use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
};

use std::ptr;

use super::{Answer, check, device, function, grown};

/// A GPU instance of this node. Used at once and never kept: a handle that is kept can make its destruction fail, and
/// stands for another tenant's instance later.
#[derive(Debug)]
pub(crate) struct GpuInstanceHandle {
    pub(super) raw: nvmlGpuInstance_t,
    pub(super) nvml: &'static Nvml,
}

/// What NVML says about a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GpuInstanceInfo {
    pub(crate) id: u32,
    pub(crate) profile: u32,
    pub(crate) start: u32,
    pub(crate) size: u32,
}

impl GpuInstanceHandle {
    /// The instance of a GPU with that id.
    pub(crate) fn by_id(of: &Device<'static>, id: u32) -> Answer<Self> {
        let nvml = of.nvml();
        let get = function(
            &nvml.lib().nvmlDeviceGetGpuInstanceById,
            "nvmlDeviceGetGpuInstanceById",
        )?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` takes the handle and lives over the call.
        check(unsafe { get(device::handle(of), id, &raw mut raw) })?;
        Ok(Self { raw, nvml })
    }

    /// All instances of a profile (its id, not its enum); `most` is how many the profile allows.
    pub(crate) fn of_profile(of: &Device<'static>, profile: u32, most: u32) -> Answer<Vec<Self>> {
        let nvml = of.nvml();
        let list = function(
            &nvml.lib().nvmlDeviceGetGpuInstances,
            "nvmlDeviceGetGpuInstances",
        )?;
        // The function takes no length: it writes as many handles as the profile allows at most.
        let room = usize::try_from(most).unwrap_or(0) + ROOM;
        let handles = grown(room, ptr::null_mut(), |buffer, used| {
            // SAFETY: the header wants room for the profile's `instanceCount` handles, which the buffer has and more.
            unsafe { list(device::handle(of), profile, buffer.as_mut_ptr(), used) }
        })?;
        Ok(handles.into_iter().map(|raw| Self { raw, nvml }).collect())
    }

    /// Creates an instance of a profile (its id) at a placement.
    pub(crate) fn create(
        of: &Device<'static>,
        profile: u32,
        start: u32,
        size: u32,
    ) -> Answer<Self> {
        let nvml = of.nvml();
        let create = function(
            &nvml.lib().nvmlDeviceCreateGpuInstanceWithPlacement,
            "nvmlDeviceCreateGpuInstanceWithPlacement",
        )?;
        let placement = nvmlGpuInstancePlacement_t { start, size };
        let mut raw = ptr::null_mut();
        // SAFETY: the placement is read and `raw` takes the handle; both live over the call.
        check(unsafe {
            create(
                device::handle(of),
                profile,
                &raw const placement,
                &raw mut raw,
            )
        })?;
        Ok(Self { raw, nvml })
    }

    /// Id, profile and placement.
    pub(crate) fn info(&self) -> Answer<GpuInstanceInfo> {
        let get = function(
            &self.nvml.lib().nvmlGpuInstanceGetInfo,
            "nvmlGpuInstanceGetInfo",
        )?;
        let mut info = nvmlGpuInstanceInfo_t {
            device: ptr::null_mut(),
            id: 0,
            profileId: 0,
            placement: nvmlGpuInstancePlacement_t { start: 0, size: 0 },
        };
        // SAFETY: the handle came from NVML and was not destroyed by us; the structure is the function's own and lives
        // over the call.
        check(unsafe { get(self.raw, &raw mut info) })?;
        Ok(GpuInstanceInfo {
            id: info.id,
            profile: info.profileId,
            start: info.placement.start,
            size: info.placement.size,
        })
    }

    /// Destroys it; `IN_USE` while it has compute instances or users.
    pub(crate) fn destroy(self) -> Answer<()> {
        let destroy = function(
            &self.nvml.lib().nvmlGpuInstanceDestroy,
            "nvmlGpuInstanceDestroy",
        )?;
        // SAFETY: the handle came from NVML and goes with `self`, so nothing of ours uses it afterwards.
        check(unsafe { destroy(self.raw) })
    }
}

/// Handles more than a profile says it allows: a driver that counts otherwise must not write past the buffer.
pub(super) const ROOM: usize = 16;
