//! MIG through the C interface: mode, profiles, placements, life cycle, stale handles, refusals.

use std::ptr::null_mut;

use gpushared_driver_sim::Code;
use nvml_wrapper_sys::bindings as sys;

use crate::harness::*;

pub(crate) fn enable(lib: &sys::NvmlLib, device: sys::nvmlDevice_t) -> u32 {
    let mut activation = u32::MAX;
    assert_eq!(
        nvml!(lib, nvmlDeviceSetMigMode(device, 1, &raw mut activation)),
        SUCCESS
    );
    activation
}

pub(crate) fn create_gi(
    lib: &sys::NvmlLib,
    device: sys::nvmlDevice_t,
    profile: u32,
    start: u32,
    size: u32,
) -> Result<sys::nvmlGpuInstance_t, u32> {
    let place = sys::nvmlGpuInstancePlacement_t { start, size };
    let mut gi = null_mut();
    let answer = nvml!(
        lib,
        nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, &raw const place, &raw mut gi)
    );
    if answer == SUCCESS {
        Ok(gi)
    } else {
        Err(answer)
    }
}

pub(crate) fn create_ci(
    lib: &sys::NvmlLib,
    gi: sys::nvmlGpuInstance_t,
    profile: u32,
) -> sys::nvmlComputeInstance_t {
    let mut ci = null_mut();
    assert_eq!(
        nvml!(
            lib,
            nvmlGpuInstanceCreateComputeInstance(gi, profile, &raw mut ci)
        ),
        SUCCESS
    );
    ci
}

pub(crate) fn ci_info(
    lib: &sys::NvmlLib,
    ci: sys::nvmlComputeInstance_t,
) -> sys::nvmlComputeInstanceInfo_t {
    // SAFETY: plain C data; all zeroes is a value.
    let mut info: sys::nvmlComputeInstanceInfo_t = unsafe { std::mem::zeroed() };
    assert_eq!(
        nvml!(lib, nvmlComputeInstanceGetInfo_v2(ci, &raw mut info)),
        SUCCESS
    );
    info
}

#[test]
fn a_mode_change_is_at_once_on_hopper_and_pending_on_ampere() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb", "a100-40gb", "t4-16gb"]);
    let lib = sim.open();
    let mode = |index| {
        let (mut current, mut pending) = (9, 9);
        let answer = nvml!(
            lib,
            nvmlDeviceGetMigMode(gpu(&lib, index), &raw mut current, &raw mut pending)
        );
        (answer, current, pending)
    };
    assert_eq!(enable(&lib, gpu(&lib, 0)), SUCCESS);
    assert_eq!(mode(0), (SUCCESS, 1, 1));
    assert_eq!(enable(&lib, gpu(&lib, 1)), Code::RESET_REQUIRED.get());
    assert_eq!(mode(1), (SUCCESS, 0, 1));
    assert_eq!(mode(2).0, NOT_SUPPORTED);
}

#[test]
fn profiles_are_found_by_enum_and_by_id_and_end_with_invalid_argument() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut ids = Vec::new();
    let mut number = 0;
    loop {
        // SAFETY: plain C data; all zeroes is a value.
        let mut info: sys::nvmlGpuInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
        match nvml!(
            lib,
            nvmlDeviceGetGpuInstanceProfileInfo(device, number, &raw mut info)
        ) {
            SUCCESS => ids.push(info.id),
            NOT_SUPPORTED => {}
            INVALID_ARGUMENT => break,
            other => panic!("{other}"),
        }
        number += 1;
    }
    assert_eq!(number, 0x12);
    ids.sort_unstable();
    assert_eq!(ids, [0, 5, 9, 14, 15, 19, 20]);
}

#[test]
fn placements_are_counted_with_null_and_bounded_by_the_buffer() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut count = 0;
    let answer = nvml!(
        lib,
        nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, 19, null_mut(), &raw mut count)
    );
    assert_eq!((answer, count), (SUCCESS, 7));
    let mut places = [sys::nvmlGpuInstancePlacement_t {
        start: 99,
        size: 99,
    }; 8];
    let list = places.as_mut_ptr();
    let answer = nvml!(
        lib,
        nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, 19, list, &raw mut count)
    );
    assert_eq!((answer, count), (SUCCESS, 7));
    assert_eq!(
        (places[6].start, places[6].size, places[7].start),
        (6, 1, 99)
    );
    let mut count = 3;
    let answer = nvml!(
        lib,
        nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, 19, list, &raw mut count)
    );
    assert_eq!((answer, count), (INSUFFICIENT_SIZE, 7));
    let answer = nvml!(
        lib,
        nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, 99, null_mut(), &raw mut count)
    );
    assert_eq!(answer, INVALID_ARGUMENT);
}

#[test]
fn an_instance_lives_from_create_to_destroy() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    assert_eq!(create_gi(&lib, device, 9, 4, 4), Err(NOT_SUPPORTED));
    assert_eq!(enable(&lib, device), SUCCESS);
    let gi = create_gi(&lib, device, 9, 4, 4).unwrap();
    assert_eq!(
        create_gi(&lib, device, 9, 4, 4),
        Err(INSUFFICIENT_RESOURCES)
    );
    assert_eq!(create_gi(&lib, device, 9, 2, 4), Err(INVALID_ARGUMENT));
    assert_eq!(create_gi(&lib, device, 77, 0, 1), Err(INVALID_ARGUMENT));

    let ci = create_ci(&lib, gi, 2);
    let info = ci_info(&lib, ci);
    assert_eq!((info.gpuInstance, info.id, info.profileId), (gi, 0, 2));
    // The device of a compute instance is the MIG device.
    let mig = info.device;
    let mut is_mig = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceIsMigDeviceHandle(mig, &raw mut is_mig)),
        SUCCESS
    );
    assert_eq!(is_mig, 1);
    let mut same = null_mut();
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetMigDeviceHandleByIndex(device, 0, &raw mut same)
        ),
        SUCCESS
    );
    assert_eq!(same, mig);
    let name = text(|buffer, length| nvml!(lib, nvmlDeviceGetName(mig, buffer, length)));
    assert_eq!(name, "NVIDIA H100 80GB HBM3 MIG 3g.40gb");
    let uuid = text(|buffer, length| nvml!(lib, nvmlDeviceGetUUID(mig, buffer, length)));
    let parent = text(|buffer, length| nvml!(lib, nvmlDeviceGetUUID(device, buffer, length)));
    // SAFETY: plain C data; all zeroes is a value.
    let mut gi_info: sys::nvmlGpuInstanceInfo_t = unsafe { std::mem::zeroed() };
    assert_eq!(
        nvml!(lib, nvmlGpuInstanceGetInfo(gi, &raw mut gi_info)),
        SUCCESS
    );
    assert_eq!((gi_info.placement.start, gi_info.placement.size), (4, 4));
    for name in [uuid.clone(), format!("MIG-{parent}/{}/0", gi_info.id)] {
        let name = std::ffi::CString::new(name).unwrap();
        assert_eq!(
            nvml!(lib, nvmlDeviceGetHandleByUUID(name.as_ptr(), &raw mut same)),
            SUCCESS
        );
        assert_eq!(same, mig);
    }
    // SAFETY: plain C data; all zeroes is a value.
    let mut attributes: sys::nvmlDeviceAttributes_t = unsafe { std::mem::zeroed() };
    assert_eq!(
        nvml!(lib, nvmlDeviceGetAttributes_v2(mig, &raw mut attributes)),
        SUCCESS
    );
    assert_eq!(
        (
            attributes.gpuInstanceSliceCount,
            attributes.computeInstanceSliceCount
        ),
        (3, 3)
    );
    assert_eq!(
        nvml!(lib, nvmlDeviceGetAttributes_v2(device, &raw mut attributes)),
        NOT_SUPPORTED
    );

    // Mode off and the GPU instance are held by what lives inside.
    let mut activation = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceSetMigMode(device, 0, &raw mut activation)),
        IN_USE
    );
    assert_eq!(nvml!(lib, nvmlGpuInstanceDestroy(gi)), IN_USE);
    assert_eq!(nvml!(lib, nvmlComputeInstanceDestroy(ci)), SUCCESS);
    assert_eq!(nvml!(lib, nvmlGpuInstanceDestroy(gi)), SUCCESS);

    // What is gone stays gone, also when the same place is used again and gets the same ids and uuid.
    let again = create_gi(&lib, device, 9, 4, 4).unwrap();
    let new_mig = ci_info(&lib, create_ci(&lib, again, 2)).device;
    let new_uuid = text(|buffer, length| nvml!(lib, nvmlDeviceGetUUID(new_mig, buffer, length)));
    assert_eq!(new_uuid, uuid);
    assert_ne!(new_mig, mig);
    let mut id = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceGetGpuInstanceId(mig, &raw mut id)),
        INVALID_ARGUMENT
    );
    assert_eq!(
        nvml!(lib, nvmlGpuInstanceGetInfo(gi, &raw mut gi_info)),
        INVALID_ARGUMENT
    );
    assert_eq!(nvml!(lib, nvmlComputeInstanceDestroy(ci)), NOT_FOUND);
    assert_eq!(nvml!(lib, nvmlGpuInstanceDestroy(gi)), NOT_FOUND);
    assert_eq!(
        nvml!(lib, nvmlGpuInstanceDestroy(null_mut())),
        INVALID_ARGUMENT
    );
}

#[test]
fn the_first_compute_instance_info_ends_before_the_placement() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    enable(&lib, device);
    let ci = create_ci(&lib, create_gi(&lib, device, 19, 6, 1).unwrap(), 0);
    let mut buffer = [0xA5u8; 32];
    assert_eq!(
        nvml!(
            lib,
            nvmlComputeInstanceGetInfo(ci, buffer.as_mut_ptr().cast())
        ),
        SUCCESS
    );
    assert_eq!(buffer[24..], [0xA5; 8]);
}

#[test]
fn capacity_follows_what_exists() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let capacity = |profile| {
        let mut count = 0;
        let answer = nvml!(
            lib,
            nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile, &raw mut count)
        );
        (answer, count)
    };
    assert_eq!(capacity(19).0, NOT_SUPPORTED);
    enable(&lib, device);
    assert_eq!(capacity(19), (SUCCESS, 7));
    create_gi(&lib, device, 9, 0, 4).unwrap();
    assert_eq!(capacity(19), (SUCCESS, 3));
    let mut gis = [null_mut(); 7];
    let mut count = 0;
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetGpuInstances(device, 9, gis.as_mut_ptr(), &raw mut count)
        ),
        SUCCESS
    );
    assert_eq!(count, 1);
}

#[test]
fn a_listed_profile_may_refuse_creation() {
    if !may_change() {
        return;
    }
    // Ampere lists 7_SLICE_NVL (CI profile 8) of the whole-GPU instance, and refuses it.
    let sim = Sim::new(&["a100-40gb"]);
    sim.with(|node| {
        let slot = gpushared_driver_sim::GpuSlot::new(0);
        node.set_mig_mode(slot, 1, 1).unwrap();
        node.reset_gpu(slot, 2).unwrap();
    });
    let lib = sim.open();
    let gi = create_gi(&lib, gpu(&lib, 0), 0, 0, 8).unwrap();
    // SAFETY: plain C data; all zeroes is a value.
    let mut info: sys::nvmlComputeInstanceProfileInfo_t = unsafe { std::mem::zeroed() };
    assert_eq!(
        nvml!(
            lib,
            nvmlGpuInstanceGetComputeInstanceProfileInfo(gi, 8, 0, &raw mut info)
        ),
        SUCCESS
    );
    let mut ci = null_mut();
    let answer = nvml!(
        lib,
        nvmlGpuInstanceCreateComputeInstance(gi, info.id, &raw mut ci)
    );
    assert_eq!(answer, NOT_SUPPORTED);
    create_ci(&lib, gi, 4);
}
