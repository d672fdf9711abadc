//! The GPUs that can be simulated: recorded tables, generated from `driver-sim/data` by `build.rs`.
//!
//! These tables are the simulator's own source of truth about profiles and placements; nothing here calls the
//! planner's code, so that a planner bug cannot hide behind itself. Two compute-instance profiles are listed but
//! not creatable, as on real Ampere boards: profile 8 (`7_SLICE_NVL`) of the whole-GPU instance and profile 7
//! (`1_SLICE_REV1`) of the double-memory instance.

/// Start and size of an instance, in memory slices (GPU instance) or compute slices (compute instance).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// First slice.
    pub start: u32,
    /// Number of slices.
    pub size: u32,
}

impl Placement {
    /// First slice after the placement.
    pub const fn end(self) -> u32 {
        self.start.saturating_add(self.size)
    }

    /// Whether the two share a slice.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

/// One GPU product.
#[derive(Debug)]
pub struct GpuModel {
    /// Name on the command line, lower case: `h100-80gb`.
    pub key: &'static str,
    /// What `nvmlDeviceGetName` answers.
    pub name: &'static str,
    /// What `nvmlDeviceGetBoardPartNumber` answers.
    pub part_number: &'static str,
    /// What `nvmlDeviceGetVbiosVersion` answers.
    pub vbios: &'static str,
    /// `nvmlDeviceArchitecture_t` (6 Turing, 7 Ampere, 8 Ada, 9 Hopper, 10 Blackwell).
    pub architecture: u32,
    /// `nvmlBrandType_t`.
    pub brand: u32,
    /// CUDA compute capability.
    pub compute_capability: (u32, u32),
    /// Total memory, in MiB.
    pub memory_mib: u64,
    /// Memory that the driver keeps for itself, in MiB.
    pub reserved_mib: u64,
    /// Size of the BAR1 aperture, in MiB.
    pub bar1_mib: u64,
    /// Streaming multiprocessors.
    pub sm: u32,
    /// CUDA cores per multiprocessor.
    pub cores_per_sm: u32,
    /// Memory bus width in bits.
    pub bus_width: u32,
    /// PCI device id.
    pub device_id: u32,
    /// PCI subsystem device id (the subsystem vendor is NVIDIA).
    pub subsystem_id: u32,
    /// Default and highest power limit, in watts.
    pub power_limit_w: u32,
    /// Power draw without work, in watts.
    pub idle_w: u32,
    /// Highest SM clock, in MHz.
    pub sm_clock: u32,
    /// Highest memory clock, in MHz.
    pub memory_clock: u32,
    /// 1 if faulty rows are remapped, 0 if faulty pages are retired.
    pub row_remapping: u32,
    /// 1 if the driver runs on the GPU's system processor.
    pub gsp: u32,
    /// The MIG half, `None` if the product has no MIG.
    pub mig: Option<MigModel>,
}

/// MIG facts of a product.
#[derive(Debug)]
pub struct MigModel {
    /// Memory slices: 8, 4 on A30, 12 on RTX PRO 6000.
    pub grid_slots: u32,
    /// Compute slices.
    pub compute_slices: u32,
    /// Largest number of GPU instances, and of MIG devices.
    pub max_gpu_instances: u32,
    /// Ampere: a mode change is pending until a reset or reboot.
    pub mode_change_needs_reset: bool,
    /// Ampere: the mode is stored on the board.
    pub mode_persists_reboot: bool,
    /// GPU-instance profiles in the order of nvidia-smi.
    pub gi_profiles: &'static [GiProfile],
}

/// A GPU-instance profile.
#[derive(Debug)]
pub struct GiProfile {
    /// Name without the "MIG " of NVML's structs: `1g.10gb+me`.
    pub name: &'static str,
    /// Argument of `nvmlDeviceGetGpuInstanceProfileInfo`.
    pub nvml_enum: u32,
    /// Argument of every other call.
    pub id: u32,
    /// Compute slices.
    pub compute_slices: u32,
    /// Memory slices.
    pub memory_slices: u32,
    /// Most instances of this profile on one GPU.
    pub max_instances: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub sm: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical-flow engines.
    pub ofa: u32,
    /// Peer to peer.
    pub p2p: bool,
    /// Graphics.
    pub gfx: bool,
    /// Legal placements, ascending.
    pub placements: &'static [Placement],
    /// Starts in the order that the driver tries when the caller passes no placement.
    pub driver_order: &'static [u32],
    /// Compute-instance profiles inside such an instance.
    pub ci_profiles: &'static [CiProfile],
}

impl GiProfile {
    /// The compute-instance profile with this id.
    pub fn ci_profile(&self, id: u32) -> Option<&'static CiProfile> {
        self.ci_profiles.iter().find(|profile| profile.id == id)
    }

    /// The creatable compute-instance profile that takes the whole instance (most multiprocessors first).
    pub fn full_ci_profile(&self) -> Option<&'static CiProfile> {
        self.ci_profiles
            .iter()
            .filter(|profile| profile.creatable && profile.slices == self.compute_slices)
            .max_by_key(|profile| profile.sm)
    }
}

/// A compute-instance profile.
#[derive(Debug)]
pub struct CiProfile {
    /// Name without "MIG ": `1c.3g.40gb`, `3g.40gb`.
    pub name: &'static str,
    /// Argument of `nvmlGpuInstanceGetComputeInstanceProfileInfo`.
    pub nvml_enum: u32,
    /// Argument of every other call.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// Most instances in one GPU instance.
    pub max_instances: u32,
    /// Streaming multiprocessors.
    pub sm: u32,
    /// False if the driver lists the profile and then answers NOT_SUPPORTED to a create.
    pub creatable: bool,
}

impl CiProfile {
    /// Legal placements inside the GPU instance, in compute slices, ascending.
    pub fn placements(&self) -> impl Iterator<Item = Placement> + use<> {
        // Three-slice compute instances lie on the halves of the GPU, all others at multiples of their size.
        let step = if self.slices == 3 { 4 } else { self.slices };
        let size = self.slices;
        (0..self.max_instances).map(move |i| Placement {
            start: i * step,
            size,
        })
    }
}

impl GpuModel {
    /// Every model.
    pub fn all() -> &'static [Self] {
        MODELS
    }

    /// The model at this position of [`Self::all`].
    pub fn get(position: u32) -> Option<&'static Self> {
        MODELS.get(position as usize)
    }

    /// The position of the model whose key is `key`, or the only one whose key begins with it followed by `-`
    /// (`b200` for `b200-180gb`). Upper and lower case are the same.
    pub fn find(key: &str) -> Option<u32> {
        let key = key.to_ascii_lowercase();
        let position = MODELS
            .iter()
            .position(|model| model.key == key)
            .or_else(|| {
                let prefix = format!("{key}-");
                let mut matching = MODELS
                    .iter()
                    .enumerate()
                    .filter(|(_, m)| m.key.starts_with(&prefix));
                match (matching.next(), matching.next()) {
                    (Some((position, _)), None) => Some(position),
                    _ => None,
                }
            });
        position.and_then(|position| u32::try_from(position).ok())
    }
}

impl MigModel {
    /// The profile with this id.
    pub fn gi_profile(&self, id: u32) -> Option<&'static GiProfile> {
        self.gi_profiles.iter().find(|profile| profile.id == id)
    }

    /// The profile with this value of the profile enum.
    pub fn gi_profile_by_enum(&self, value: u32) -> Option<&'static GiProfile> {
        self.gi_profiles
            .iter()
            .find(|profile| profile.nvml_enum == value)
    }
}

include!(concat!(env!("OUT_DIR"), "/models.rs"));

#[cfg(test)]
mod tests;
