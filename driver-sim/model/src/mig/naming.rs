//! The numbers and names that the driver gives to instances: GPU-instance ids by placement, MIG uuids.

use crate::code::{Code, Result};
use crate::gpu::Gpu;
use crate::gpu_model::Placement;
use crate::ids::{GpuInstanceId, MigDevice, derive_uuid, format_uuid};

/// GPU-instance id (swizz id) of a placement: 0 whole, 1–2 halves, 3–6 quarters, 7–14 eighths.
///
/// Which half is 1, and whether quarters and eighths are counted from the other half, differs between the boards
/// of one host. The four maps are the combinations of the two differences seen in published listings
/// (`gi_id_to_placement` in `mig-profiles.json`): map 0 is the one called normal there.
pub(crate) fn gpu_instance_id(board_map: u32, grid_slots: u32, place: Placement) -> GpuInstanceId {
    let halves_swapped = board_map & 1 == 0;
    let mirrored = board_map & 2 != 0;
    let parts = grid_slots.checked_div(place.size).unwrap_or(1);
    let position = place.start.checked_div(place.size).unwrap_or(0);
    let id = match parts {
        2 => {
            1 + if halves_swapped {
                1 - position.min(1)
            } else {
                position
            }
        }
        4 => 3 + if mirrored { position ^ 2 } else { position },
        8 => 7 + if mirrored { position ^ 4 } else { position },
        _ => 0,
    };
    GpuInstanceId::new(id)
}

impl Gpu {
    /// Uuid of a MIG device, `MIG-…` in the form of a version 5 uuid: a function of the GPU, the GPU-instance id
    /// and the graphics-engine index only, so the same place gets the same uuid again.
    ///
    /// # Errors
    /// NOT_FOUND: no such compute instance.
    pub fn mig_uuid(&self, device: MigDevice) -> Result<String> {
        let ci = self.instance(device.gi)?.compute_instance(device.ci)?;
        let (high, low) = self.uuid.split_at(8);
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0u64, |word, &b| (word << 8) | u64::from(b))
        };
        let engine = u64::from(device.gi.get()) << 32 | u64::from(ci.start);
        Ok(format_uuid(
            "MIG-",
            &derive_uuid(5, word(high), word(low), engine),
        ))
    }

    /// Minor number of the GPU instance's capability node (`nv-caps.c`).
    ///
    /// # Errors
    /// INVALID_ARGUMENT: a number out of range.
    pub fn gi_capability_minor(&self, gi: GpuInstanceId) -> Result<u32> {
        if self.minor > 31 || gi.get() > 14 {
            return Err(Code::INVALID_ARGUMENT);
        }
        Ok(3 + 135 * self.minor + 9 * gi.get())
    }

    /// Minor number of the compute instance's capability node (`nv-caps.c`).
    ///
    /// # Errors
    /// INVALID_ARGUMENT: a number out of range.
    pub fn ci_capability_minor(&self, device: MigDevice) -> Result<u32> {
        if device.ci.get() > 7 {
            return Err(Code::INVALID_ARGUMENT);
        }
        Ok(self.gi_capability_minor(device.gi)? + 1 + device.ci.get())
    }
}
