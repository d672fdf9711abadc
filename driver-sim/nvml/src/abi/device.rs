//! Structs of device queries: memory, PCI, attributes, utilisation, counters, fabric, fields.

use super::{Return, assert_layout, plain};

/// `nvmlMemory_t`: reserved memory is folded into `used`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

/// `nvmlMemory_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct MemoryV2 {
    pub(crate) version: u32,
    pub(crate) total: u64,
    pub(crate) reserved: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

/// `nvmlBAR1Memory_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Bar1Memory {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

/// `nvmlSetMemoryLimits_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SetMemoryLimitsV1 {
    pub(crate) name_space: *const i8,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// `nvmlGetMemoryLimits_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct GetMemoryLimitsV1 {
    pub(crate) name_space: *const i8,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
    pub(crate) used: u64,
}

/// The PCI struct of the first interface: no subsystem, short address, four reserved words.
///
/// The v1 and v2 symbols were born with a 16-byte address and (v2) the subsystem id; both end in
/// four reserved words, which the library left alone. Writing only the common head is right for
/// both and for callers that hand the current 68-byte struct.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PciInfoHead {
    pub(crate) bus_id_legacy: [u8; 16],
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
    pub(crate) pci_device_id: u32,
}

/// `nvmlPciInfo_t` as `_v2` wrote it: with the subsystem id, without the long address.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PciInfoV2 {
    pub(crate) head: PciInfoHead,
    pub(crate) pci_sub_system_id: u32,
}

/// `nvmlPciInfo_t` of `_v3`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PciInfo {
    pub(crate) head: PciInfoHead,
    pub(crate) pci_sub_system_id: u32,
    pub(crate) bus_id: [u8; 32],
}

/// `nvmlPciInfoExt_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PciInfoExtV1 {
    pub(crate) version: u32,
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
    pub(crate) pci_device_id: u32,
    pub(crate) pci_sub_system_id: u32,
    pub(crate) base_class: u32,
    pub(crate) sub_class: u32,
    pub(crate) bus_id: [u8; 32],
}

/// `nvmlDeviceAttributes_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Attributes {
    pub(crate) multiprocessors: u32,
    pub(crate) copy_engines: u32,
    pub(crate) decoders: u32,
    pub(crate) encoders: u32,
    pub(crate) jpeg: u32,
    pub(crate) ofa: u32,
    pub(crate) gpu_instance_slices: u32,
    pub(crate) compute_instance_slices: u32,
    pub(crate) memory_mib: u64,
}

/// `nvmlUtilization_t`, percent.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Utilization {
    pub(crate) gpu: u32,
    pub(crate) memory: u32,
}

/// `nvmlTemperature_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TemperatureV1 {
    pub(crate) version: u32,
    pub(crate) sensor: u32,
    pub(crate) celsius: i32,
}

/// `nvmlMarginTemperature_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct MarginTemperatureV1 {
    pub(crate) version: u32,
    pub(crate) celsius: i32,
}

/// `nvmlValue_t`; the C union is eight bytes of any number.
pub(crate) type Value = u64;

/// `nvmlFieldValue_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FieldValue {
    pub(crate) field: u32,
    pub(crate) scope: u32,
    pub(crate) timestamp: i64,
    pub(crate) latency_us: i64,
    pub(crate) value_type: u32,
    pub(crate) status: Return,
    pub(crate) value: Value,
}

/// `nvmlSample_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Sample {
    pub(crate) timestamp_us: u64,
    pub(crate) value: Value,
}

/// `nvmlViolationTime_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ViolationTime {
    pub(crate) reference_us: u64,
    pub(crate) violation_ns: u64,
}

/// `nvmlEccErrorCounts_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct EccErrorCounts {
    pub(crate) l1: u64,
    pub(crate) l2: u64,
    pub(crate) device_memory: u64,
    pub(crate) register_file: u64,
}

/// `nvmlRowRemapperHistogramValues_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RowRemapperHistogram {
    pub(crate) max: u32,
    pub(crate) high: u32,
    pub(crate) partial: u32,
    pub(crate) low: u32,
    pub(crate) none: u32,
}

/// `nvmlRemappedRowsInfo_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RemappedRowsV2 {
    pub(crate) correctable_active: u32,
    pub(crate) correctable_inactive: u32,
    pub(crate) uncorrectable_active: u32,
    pub(crate) uncorrectable_inactive: u32,
    pub(crate) pending: u32,
    pub(crate) failure: u32,
}

/// `nvmlGpuFabricInfo_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FabricInfo {
    pub(crate) cluster: [u8; 16],
    pub(crate) status: Return,
    pub(crate) clique: u32,
    pub(crate) state: u8,
}

/// `nvmlGpuFabricInfo_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FabricInfoV2 {
    pub(crate) version: u32,
    pub(crate) cluster: [u8; 16],
    pub(crate) status: Return,
    pub(crate) clique: u32,
    pub(crate) state: u8,
    pub(crate) health_mask: u32,
}

/// `nvmlGpuFabricInfo_v3_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct FabricInfoV3 {
    pub(crate) version: u32,
    pub(crate) cluster: [u8; 16],
    pub(crate) status: Return,
    pub(crate) clique: u32,
    pub(crate) state: u8,
    pub(crate) health_mask: u32,
    pub(crate) health_summary: u8,
}

/// `nvmlDeviceAddressingMode_v1_t`, `nvmlDeviceCapabilities_v1_t`: a version and one number.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct VersionedNumber {
    pub(crate) version: u32,
    pub(crate) value: u32,
}

/// `nvmlConfComputeMemSizeInfo_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ConfComputeMemory {
    pub(crate) protected_kib: u64,
    pub(crate) unprotected_kib: u64,
}

/// `nvmlUUID_v1_t`; the value is a union of 41 characters and 16 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct UuidV1 {
    pub(crate) version: u32,
    pub(crate) kind: u32,
    pub(crate) value: [u8; 41],
}

/// `nvmlSystemDriverBranchInfo_v1_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct DriverBranchV1 {
    pub(crate) version: u32,
    pub(crate) branch: [u8; 80],
}

/// `nvmlPowerValue_v2_t`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PowerValueV2 {
    pub(crate) version: u32,
    pub(crate) scope: u8,
    pub(crate) milliwatts: u32,
}

assert_layout! {
    Memory = 24, MemoryV2 = 40, Bar1Memory = 24, SetMemoryLimitsV1 = 24, GetMemoryLimitsV1 = 32,
    PciInfoHead = 32, PciInfoV2 = 36, PciInfo = 68, PciInfoExtV1 = 64, Attributes = 40,
    Utilization = 8, TemperatureV1 = 12, MarginTemperatureV1 = 8, FieldValue = 40, Sample = 16,
    ViolationTime = 16, EccErrorCounts = 32, RowRemapperHistogram = 20, RemappedRowsV2 = 24,
    FabricInfo = 28, FabricInfoV2 = 36, FabricInfoV3 = 40, VersionedNumber = 8,
    ConfComputeMemory = 16, UuidV1 = 52, DriverBranchV1 = 84,
    PowerValueV2 = 12,
}
plain! {
    Memory, MemoryV2, Bar1Memory, SetMemoryLimitsV1, GetMemoryLimitsV1, PciInfoHead, PciInfoV2,
    PciInfo, PciInfoExtV1, Attributes, Utilization, TemperatureV1, MarginTemperatureV1, FieldValue,
    Sample, ViolationTime, EccErrorCounts, RowRemapperHistogram, RemappedRowsV2, FabricInfo,
    FabricInfoV2, FabricInfoV3, VersionedNumber, ConfComputeMemory, UuidV1,
    DriverBranchV1, PowerValueV2,
}
