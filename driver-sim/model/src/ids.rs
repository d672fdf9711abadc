//! What names a thing of the node: positions and the numbers that NVML hands out.

use std::fmt;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// From the raw number; operations check its range.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The raw number.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// Where a GPU sits in the node: 0..16, never changes, also while other GPUs are unplugged. A device handle
    /// should hold this, not the NVML index, which counts only the GPUs that are present.
    GpuSlot
}
id! {
    /// Id of a GPU instance on its GPU (NVML's `id`, RM's swizz id: 0 whole, 1–2 halves, 3–6 quarters, 7–14
    /// eighths).
    GpuInstanceId
}
id! {
    /// Id of a compute instance in its GPU instance (0..8).
    ComputeInstanceId
}

/// "No GPU instance" or "no compute instance" in events and clients, as in NVML.
pub const NO_INSTANCE: u32 = 0xFFFF_FFFF;

/// A MIG device: what a compute instance looks like to CUDA and NVML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigDevice {
    /// The GPU.
    pub gpu: GpuSlot,
    /// The GPU instance.
    pub gi: GpuInstanceId,
    /// The compute instance.
    pub ci: ComputeInstanceId,
}

/// A process: its id and its start time in clock ticks (field 22 of `/proc/<pid>/stat`), since ids are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

/// A uuid as `8-4-4-4-12` lower-case hexadecimal digits.
pub(crate) fn format_uuid(prefix: &str, bytes: &[u8; 16]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(prefix.len() + 36);
    text.push_str(prefix);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// SplitMix64's finaliser: the only source of "randomness" of the model, a pure function.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Sixteen bytes from three numbers, with the version and variant bits of a uuid set.
pub(crate) fn derive_uuid(version: u8, a: u64, b: u64, c: u64) -> [u8; 16] {
    let high = mix(mix(mix(a) ^ b) ^ c);
    let low = mix(high ^ 0x6770_7573_6861_7265);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    bytes[6] = (bytes[6] & 0x0F) | (version << 4);
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    bytes
}
