//! Our layouts against two independent lists: the sizes compiled from the vendor's header
//! (`data/nvml_struct_sizes.tsv`) and the bindings of nvml-wrapper-sys.

use std::collections::BTreeMap;
use std::mem::offset_of;

use nvml_wrapper_sys::bindings as sys;

use super::device::*;
use super::event::*;
use super::gpm::*;
use super::mig::*;
use super::process::*;
use super::version_of;

fn recorded() -> BTreeMap<&'static str, usize> {
    include_str!("../../data/nvml_struct_sizes.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut columns = line.split('\t');
            let name = columns.next().expect("a name");
            let value = columns.nth(1).expect("a value");
            let value = value
                .strip_prefix("0x")
                .map_or_else(|| value.parse(), |hex| usize::from_str_radix(hex, 16));
            (name, value.expect("a number"))
        })
        .collect()
}

#[test]
fn sizes_are_those_of_the_header() {
    let recorded = recorded();
    for (name, ours) in [
        ("nvmlMemory_t", size_of::<Memory>()),
        ("nvmlMemory_v2_t", size_of::<MemoryV2>()),
        ("nvmlProcessInfo_v1_t", size_of::<ProcessInfoV1>()),
        ("nvmlProcessInfo_v2_t", size_of::<ProcessInfoV2>()),
        ("nvmlProcessInfo_t", size_of::<ProcessInfoV2>()),
        ("nvmlProcessDetail_v1_t", size_of::<ProcessDetailV1>()),
        (
            "nvmlProcessDetailList_v1_t",
            size_of::<ProcessDetailListV1>(),
        ),
        (
            "nvmlProcessUtilizationSample_t",
            size_of::<ProcessUtilizationSample>(),
        ),
        (
            "nvmlProcessUtilizationInfo_v1_t",
            size_of::<ProcessUtilizationInfoV1>(),
        ),
        (
            "nvmlProcessesUtilizationInfo_v1_t",
            size_of::<ProcessesUtilizationInfoV1>(),
        ),
        ("nvmlPciInfo_t", size_of::<PciInfo>()),
        ("nvmlPciInfoExt_v1_t", size_of::<PciInfoExtV1>()),
        ("nvmlDeviceAttributes_t", size_of::<Attributes>()),
        ("nvmlEventData_t", size_of::<EventDataV2>()),
        ("nvmlUtilization_t", size_of::<Utilization>()),
        ("nvmlGpuInstanceProfileInfo_t", size_of::<GiProfileV1>()),
        ("nvmlGpuInstanceProfileInfo_v2_t", size_of::<GiProfileV2>()),
        ("nvmlGpuInstanceProfileInfo_v3_t", size_of::<GiProfileV3>()),
        ("nvmlGpuInstanceInfo_t", size_of::<GiInfo>()),
        ("nvmlGpuInstancePlacement_t", size_of::<PlacementAbi>()),
        ("nvmlComputeInstanceProfileInfo_t", size_of::<CiProfileV1>()),
        (
            "nvmlComputeInstanceProfileInfo_v2_t",
            size_of::<CiProfileV2>(),
        ),
        (
            "nvmlComputeInstanceProfileInfo_v3_t",
            size_of::<CiProfileV3>(),
        ),
        ("nvmlComputeInstanceInfo_t", size_of::<CiInfoV2>()),
        ("nvmlGpmSupport_t", size_of::<GpmSupport>()),
        ("nvmlGpmMetric_t", size_of::<GpmMetric>()),
        (
            "nvmlGpmMetricsGet_t.metrics",
            size_of::<GpmMetricsGetHead>(),
        ),
        (
            "nvmlGpmMetricsGet_t.sample1",
            offset_of!(GpmMetricsGetHead, sample1),
        ),
        ("nvmlFieldValue_t", size_of::<FieldValue>()),
        ("nvmlTemperature_v1_t", size_of::<TemperatureV1>()),
        ("nvmlSample_t", size_of::<Sample>()),
        ("nvmlMemory_v2", version_of::<MemoryV2>(2) as usize),
        (
            "nvmlProcessDetailList_v1",
            version_of::<ProcessDetailListV1>(1) as usize,
        ),
        (
            "nvmlProcessesUtilizationInfo_v1",
            version_of::<ProcessesUtilizationInfoV1>(1) as usize,
        ),
        ("nvmlPciInfoExt_v1", version_of::<PciInfoExtV1>(1) as usize),
        (
            "nvmlGpuInstanceProfileInfo_v2",
            version_of::<GiProfileV2>(2) as usize,
        ),
        (
            "nvmlGpuInstanceProfileInfo_v3",
            version_of::<GiProfileV3>(3) as usize,
        ),
        (
            "nvmlComputeInstanceProfileInfo_v2",
            version_of::<CiProfileV2>(2) as usize,
        ),
        (
            "nvmlComputeInstanceProfileInfo_v3",
            version_of::<CiProfileV3>(3) as usize,
        ),
        (
            "nvmlTemperature_v1",
            version_of::<TemperatureV1>(1) as usize,
        ),
    ] {
        assert_eq!(recorded.get(name), Some(&ours), "{name}");
    }
}

/// Size of the binding's struct, and the offsets of the fields that are easy to get wrong.
macro_rules! same {
    ($($ours:ty = $theirs:ident { $($our_field:ident = $their_field:ident),* })*) => {$(
        assert_eq!(size_of::<$ours>(), size_of::<sys::$theirs>(), stringify!($theirs));
        $(assert_eq!(
            offset_of!($ours, $our_field),
            offset_of!(sys::$theirs, $their_field),
            "{}.{}", stringify!($theirs), stringify!($their_field)
        );)*
    )*};
}

#[test]
fn layouts_are_those_of_the_bindings() {
    same! {
        Memory = nvmlMemory_st { free = free, used = used }
        MemoryV2 = nvmlMemory_v2_st { reserved = reserved, used = used }
        Bar1Memory = nvmlBAR1Memory_st { total = bar1Total }
        PciInfo = nvmlPciInfo_st { pci_sub_system_id = pciSubSystemId, bus_id = busId }
        PciInfoExtV1 = nvmlPciInfoExt_v1_t { sub_class = subClass, bus_id = busId }
        Attributes = nvmlDeviceAttributes_st { memory_mib = memorySizeMB, ofa = sharedOfaCount }
        FieldValue = nvmlFieldValue_st { latency_us = latencyUsec, status = nvmlReturn, value = value }
        ViolationTime = nvmlViolationTime_st { violation_ns = violationTime }
        EccErrorCounts = nvmlEccErrorCounts_st { device_memory = deviceMemory }
        RowRemapperHistogram = nvmlRowRemapperHistogramValues_st { none = none }
        FabricInfo = nvmlGpuFabricInfo_t { status = status, clique = cliqueId, state = state }
        FabricInfoV2 = nvmlGpuFabricInfo_v2_t { state = state, health_mask = healthMask }
        FabricInfoV3 = nvmlGpuFabricInfo_v3_t { health_mask = healthMask, health_summary = healthSummary }
        ConfComputeMemory = nvmlConfComputeMemSizeInfo_st { unprotected_kib = unprotectedMemSizeKib }
        UuidV1 = nvmlUUID_v1_t { kind = type_, value = value }
        DriverBranchV1 = nvmlSystemDriverBranchInfo_v1_t { branch = branch }
        PowerValueV2 = nvmlPowerValue_v2_t { scope = powerScope, milliwatts = powerValueMw }
        MarginTemperatureV1 = nvmlMarginTemperature_v1_t { celsius = marginTemperature }
        ProcessDetailV1 = nvmlProcessDetail_v1_t { protected_used = usedGpuCcProtectedMemory }
        ProcessDetailListV1 = nvmlProcessDetailList_v1_t { entries = numProcArrayEntries, array = procArray }
        ProcessesUtilizationInfoV1 = nvmlProcessesUtilizationInfo_v1_t { last_seen_us = lastSeenTimeStamp, array = procUtilArray }
        ProcessUtilizationInfoV1 = nvmlProcessUtilizationInfo_v1_t { pid = pid, ofa = ofaUtil }
        ProcessUtilizationSample = nvmlProcessUtilizationSample_st { sm = smUtil, decoder = decUtil }
        GiProfileV1 = nvmlGpuInstanceProfileInfo_st { p2p = isP2pSupported, memory_mib = memorySizeMB }
        GiProfileV2 = nvmlGpuInstanceProfileInfo_v2_st { engines = sliceCount, memory_mib = memorySizeMB, name = name }
        GiProfileV3 = nvmlGpuInstanceProfileInfo_v3_st { engines = sliceCount, name = name, capabilities = capabilities }
        GiInfo = nvmlGpuInstanceInfo_st { profile = profileId, placement = placement }
        CiProfileV1 = nvmlComputeInstanceProfileInfo_st { engines = sliceCount }
        CiProfileV2 = nvmlComputeInstanceProfileInfo_v2_st { name = name }
        CiProfileV3 = nvmlComputeInstanceProfileInfo_v3_st { name = name, capabilities = capabilities }
        CiInfoV2 = nvmlComputeInstanceInfo_st { placement = placement }
        EventDataV2 = nvmlEventData_st { gpu_instance = gpuInstanceId, compute_instance = computeInstanceId }
        GpmMetric = nvmlGpmMetric_t { status = nvmlReturn, value = value, short_name = metricInfo }
        GpmSupport = nvmlGpmSupport_t { supported = isSupportedDevice }
    }
}
