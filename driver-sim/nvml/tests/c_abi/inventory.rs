//! Initialisation, devices, identity.

use std::ptr::null_mut;

use gpushared_driver_sim::{Code, GpuSlot, NodeSpec};
use nvml_wrapper_sys::bindings as sys;

use crate::harness::*;

#[test]
fn calls_before_init_and_after_shutdown_are_refused() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.load();
    let mut count = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)),
        UNINITIALIZED
    );
    // A stub, too.
    assert_eq!(
        nvml!(lib, nvmlDeviceResetApplicationsClocks(null_mut())),
        UNINITIALIZED
    );
    assert_eq!(nvml!(lib, nvmlShutdown()), UNINITIALIZED);
    assert_eq!(nvml!(lib, nvmlInit_v2()), SUCCESS);
    assert_eq!(nvml!(lib, nvmlInitWithFlags(0)), SUCCESS);
    assert_eq!(nvml!(lib, nvmlShutdown()), SUCCESS);
    assert_eq!(nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)), SUCCESS);
    assert_eq!(nvml!(lib, nvmlShutdown()), SUCCESS);
    assert_eq!(
        nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)),
        UNINITIALIZED
    );
}

#[test]
fn a_node_without_a_driver_is_not_loaded() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.load();
    sim.with(|node| node.unload_driver()).unwrap();
    assert_eq!(nvml!(lib, nvmlInit_v2()), DRIVER_NOT_LOADED);
    sim.with(gpushared_driver_sim::Node::mismatch_driver);
    assert_eq!(
        nvml!(lib, nvmlInit_v2()),
        Code::LIB_RM_VERSION_MISMATCH.get()
    );
    sim.with(gpushared_driver_sim::Node::load_driver);
    assert_eq!(nvml!(lib, nvmlInit_v2()), SUCCESS);
    // Without a node there is no driver at all.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("libnvidia-ml.so.1");
    std::fs::copy(built_library(), &copy).unwrap();
    // SAFETY: the library has no initialisers with preconditions.
    let stray = unsafe { sys::NvmlLib::new(copy) }.unwrap();
    assert_eq!(nvml!(stray, nvmlInit_v2()), DRIVER_NOT_LOADED);
}

#[test]
fn every_way_to_a_gpu_leads_to_the_same_handle() {
    let sim = Sim::new(&["h100-80gb", "a30-24gb"]);
    let lib = sim.open();
    let mut count = 0;
    assert_eq!(nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)), SUCCESS);
    assert_eq!(count, 2);
    for index in 0..count {
        let device = gpu(&lib, index);
        let uuid = text(|buffer, length| nvml!(lib, nvmlDeviceGetUUID(device, buffer, length)));
        let serial = text(|buffer, length| nvml!(lib, nvmlDeviceGetSerial(device, buffer, length)));
        // SAFETY: plain C data; all zeroes is a value.
        let mut pci: sys::nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        assert_eq!(
            nvml!(lib, nvmlDeviceGetPciInfo_v3(device, &raw mut pci)),
            SUCCESS
        );
        let mut found = null_mut();
        let uuid = std::ffi::CString::new(uuid).unwrap();
        assert_eq!(
            nvml!(
                lib,
                nvmlDeviceGetHandleByUUID(uuid.as_ptr(), &raw mut found)
            ),
            SUCCESS
        );
        assert_eq!(found, device);
        let serial = std::ffi::CString::new(serial).unwrap();
        assert_eq!(
            nvml!(
                lib,
                nvmlDeviceGetHandleBySerial(serial.as_ptr(), &raw mut found)
            ),
            SUCCESS
        );
        assert_eq!(found, device);
        for bus_id in [pci.busId.as_ptr(), pci.busIdLegacy.as_ptr()] {
            assert_eq!(
                nvml!(
                    lib,
                    nvmlDeviceGetHandleByPciBusId_v2(bus_id, &raw mut found)
                ),
                SUCCESS
            );
            assert_eq!(found, device);
        }
        let mut same = u32::MAX;
        assert_eq!(
            nvml!(lib, nvmlDeviceGetIndex(device, &raw mut same)),
            SUCCESS
        );
        assert_eq!(same, index);
    }
    let mut found = null_mut();
    assert_eq!(
        nvml!(lib, nvmlDeviceGetHandleByIndex_v2(2, &raw mut found)),
        INVALID_ARGUMENT
    );
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetHandleByUUID(c"GPU-0".as_ptr(), &raw mut found)
        ),
        NOT_FOUND
    );
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetHandleByUUID(std::ptr::null(), &raw mut found)
        ),
        INVALID_ARGUMENT
    );
}

#[test]
fn null_pointers_and_numbers_that_are_no_handles_are_invalid() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    assert_eq!(
        nvml!(lib, nvmlDeviceGetCount_v2(null_mut())),
        INVALID_ARGUMENT
    );
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMinorNumber(device, null_mut())),
        INVALID_ARGUMENT
    );
    let mut minor = 0;
    for number in [0usize, 1, 0x7FFF_0000_0000, usize::MAX] {
        let device = std::ptr::without_provenance_mut(number);
        assert_eq!(
            nvml!(lib, nvmlDeviceGetMinorNumber(device, &raw mut minor)),
            INVALID_ARGUMENT
        );
    }
}

#[test]
fn a_buffer_that_is_too_small_is_left_alone() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut name = [0x55u8; 96];
    let answer = nvml!(lib, nvmlDeviceGetName(device, name.as_mut_ptr().cast(), 4));
    assert_eq!(answer, INSUFFICIENT_SIZE);
    assert_eq!(name, [0x55; 96]);
    let name = text(|buffer, length| nvml!(lib, nvmlDeviceGetName(device, buffer, length)));
    assert_eq!(name, "NVIDIA H100 80GB HBM3");
}

#[test]
fn a_lost_gpu_answers_lost_and_an_unplugged_one_is_gone() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let lib = sim.open();
    let (first, second) = (gpu(&lib, 0), gpu(&lib, 1));
    sim.with(|node| node.lose_gpu(GpuSlot::new(0), 1)).unwrap();
    let mut minor = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMinorNumber(first, &raw mut minor)),
        GPU_IS_LOST
    );
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMinorNumber(second, &raw mut minor)),
        SUCCESS
    );
    let mut device = null_mut();
    assert_eq!(
        nvml!(lib, nvmlDeviceGetHandleByIndex_v2(0, &raw mut device)),
        GPU_IS_LOST
    );
    sim.with(|node| node.heal(None)).unwrap();
    sim.with(|node| node.unplug_gpu(GpuSlot::new(0))).unwrap();
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMinorNumber(first, &raw mut minor)),
        NOT_FOUND
    );
    assert_eq!(gpu(&lib, 0), second);
}

#[test]
fn memory_is_reported_in_both_layouts() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut v1 = sys::nvmlMemory_t {
        total: 0,
        free: 0,
        used: 0,
    };
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMemoryInfo(device, &raw mut v1)),
        SUCCESS
    );
    let mut v2 = sys::nvmlMemory_v2_t {
        version: 0x0200_0028,
        total: 0,
        reserved: 0,
        free: 0,
        used: 0,
    };
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMemoryInfo_v2(device, &raw mut v2)),
        SUCCESS
    );
    assert_eq!(v1.total, 81559 << 20);
    assert_eq!(v1.used, v2.used + v2.reserved);
    assert_eq!(v2.free + v2.used + v2.reserved, v2.total);
    v2.version = 0x0100_0028;
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMemoryInfo_v2(device, &raw mut v2)),
        VERSION_MISMATCH
    );
}

#[test]
fn field_ids_follow_the_drivers_version() {
    const SW_THERMAL_OLD: u32 = 251;
    const SW_THERMAL_NEW: u32 = 269;
    for (driver, known, unknown) in [
        ("570.124.06", SW_THERMAL_OLD, SW_THERMAL_NEW),
        ("580.95.05", SW_THERMAL_NEW, SW_THERMAL_OLD),
    ] {
        let mut spec = NodeSpec::of(&["h100-80gb"], 7).unwrap();
        spec.driver_version = driver.to_owned();
        let sim = Sim::with_spec(&spec);
        let lib = sim.open();
        // SAFETY: plain C data; all zeroes is a value.
        let mut values: [sys::nvmlFieldValue_t; 3] = unsafe { std::mem::zeroed() };
        values[0].fieldId = known;
        values[1].fieldId = unknown;
        values[2].fieldId = 186;
        let answer = nvml!(
            lib,
            nvmlDeviceGetFieldValues(gpu(&lib, 0), 3, values.as_mut_ptr())
        );
        assert_eq!(answer, SUCCESS);
        assert_eq!(
            values.map(|value| value.nvmlReturn),
            [SUCCESS, NOT_SUPPORTED, SUCCESS],
            "{driver}"
        );
    }
}

#[test]
fn the_private_table_is_refused() {
    let sim = Sim::new(&["h100-80gb"]);
    // SAFETY: the library has no initialisers with preconditions.
    let library = unsafe { libloading::Library::new(sim.library_path()) }.unwrap();
    // SAFETY: the signature is the one of the driver.
    let table: libloading::Symbol<'_, unsafe extern "C" fn(*mut *const u8, *const u8) -> u32> =
        unsafe { library.get(b"nvmlInternalGetExportTable\0") }.unwrap();
    let _keep = sim.open();
    let mut found = std::ptr::null();
    let id = [0u8; 16];
    // SAFETY: both pointers are valid; the function writes nothing.
    let answer = unsafe { table(&raw mut found, id.as_ptr()) };
    assert_eq!(answer, NOT_SUPPORTED);
    assert!(found.is_null());
}
