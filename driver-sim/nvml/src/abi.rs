//! The C types of NVML, by hand: names, order and sizes are facts of the published interface.
//!
//! Only what an implemented function reads or writes is here. Sizes are asserted at compile time
//! (`assert_layout!`) and compared with `data/nvml_struct_sizes.tsv` and nvml-wrapper-sys in
//! `layout.rs`. Types that exist in several versions are separate types: an unversioned symbol
//! keeps the layout it was born with (facts: Mokka's aliasing overwrote guard words).

pub(crate) mod device;
pub(crate) mod event;
pub(crate) mod gpm;
#[cfg(test)]
mod layout;
pub(crate) mod mig;
pub(crate) mod process;

/// What every NVML function returns.
pub(crate) type Return = u32;
/// `nvmlDevice_t`: a number in pointer clothing, see `handle.rs`.
pub(crate) type DeviceHandle = usize;
/// `nvmlGpuInstance_t`.
pub(crate) type GpuInstanceHandle = usize;
/// `nvmlComputeInstance_t`.
pub(crate) type ComputeInstanceHandle = usize;
/// `nvmlEventSet_t`.
pub(crate) type EventSetHandle = usize;
/// `nvmlGpmSample_t`.
pub(crate) type GpmSampleHandle = usize;

/// `NVML_VALUE_NOT_AVAILABLE` in a 64-bit field.
pub(crate) const NOT_AVAILABLE_64: u64 = u64::MAX;
/// The value a caller puts in `version`: version in the top byte, size below.
pub(crate) const fn version_of<T>(version: u32) -> u32 {
    let size = size_of::<T>();
    assert!(size < 1 << 24, "the size shares a word with the version");
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size as u32;
    (version << 24) | size
}

/// Refuses to compile when a struct does not have the size the interface gives it.
macro_rules! assert_layout {
    ($($ty:ty = $size:literal),* $(,)?) => {
        $(const _: () = assert!(size_of::<$ty>() == $size, stringify!($ty));)*
    };
}
pub(crate) use assert_layout;

/// Plain C data: a type whose every bit pattern is valid and that may be copied byte by byte.
///
/// # Safety
/// The type is `#[repr(C)]`, made of integers, floats and raw pointers (or arrays of them) only.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($ty:ty),* $(,)?) => {
        // SAFETY: each listed type is repr(C) or primitive and made of numbers and raw pointers only.
        $(unsafe impl crate::abi::Plain for $ty {})*
    };
}
pub(crate) use plain;

plain!(u8, i8, u32, i32, u64, i64, usize, f64);
