//! A profile's name.
//!
//! Drivers from R470 say it. Older ones say slices and memory only, and names come by the rule of NVIDIA's own tools
//! of that time (go-nvlib): memory as eighths of the GPU's, rounded up, in whole GB of the GPU's. Later drivers' names
//! do not follow any such rule (`1g.24gb` and `1g.23gb` on one board), so a name that the driver says is never
//! computed.

/// `NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1`: one slice with the media engines.
const MEDIA_ENUM: u32 = 7;

/// The name without the `MIG ` that some drivers put in front.
pub(crate) fn said(name: &str) -> String {
    name.strip_prefix("MIG ").unwrap_or(name).to_owned()
}

/// The name that a driver before R470 would have: `profile` is the enum, memory in MiB, the GPU's in bytes.
pub(crate) fn derived(profile: u32, slices: u32, memory_mib: u64, gpu_bytes: u64) -> String {
    let gpu_mib = (gpu_bytes >> 20).max(1);
    let gpu_gb = gpu_bytes.div_ceil(1 << 30);
    let eighths = (memory_mib * 8).div_ceil(gpu_mib);
    // Half a GB rounds up.
    let gb = (eighths * gpu_gb + 4) / 8;
    let media = if profile == MEDIA_ENUM { "+me" } else { "" };
    format!("{slices}g.{gb}gb{media}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nvidias_tools_on_the_first_mig_boards() {
        // A100-SXM4-40GB and A100-SXM4-80GB, numbers of `nvidia-smi mig -lgip`.
        let small = 42_505_273_344;
        let large = 85_899_345_920;
        for (profile, slices, mib, gpu, name) in [
            (0, 1, 4_864, small, "1g.5gb"),
            (7, 1, 4_864, small, "1g.5gb+me"),
            (1, 2, 9_856, small, "2g.10gb"),
            (2, 3, 19_968, small, "3g.20gb"),
            (4, 7, 40_192, small, "7g.40gb"),
            (0, 1, 9_728, large, "1g.10gb"),
            (2, 3, 40_192, large, "3g.40gb"),
            (4, 7, 80_640, large, "7g.80gb"),
        ] {
            assert_eq!(derived(profile, slices, mib, gpu), name);
        }
    }

    #[test]
    fn the_drivers_own_name_is_taken_as_it_is() {
        assert_eq!(said("MIG 1g.10gb+me"), "1g.10gb+me");
        assert_eq!(said("1g.24gb"), "1g.24gb");
    }
}
