//! Event sets: delivery with instance ids, filters, timeouts, wake-up.

use std::ptr::null_mut;
use std::time::{Duration, Instant};

use gpushared_driver_sim::{GpuSlot, NO_INSTANCE};
use nvml_wrapper_sys::bindings as sys;

use crate::harness::*;

const XID: u64 = 0x8;
const MIG_CHANGE: u64 = 0x100;

fn event_set(lib: &sys::NvmlLib, types: u64) -> sys::nvmlEventSet_t {
    let mut set = null_mut();
    assert_eq!(nvml!(lib, nvmlEventSetCreate(&raw mut set)), SUCCESS);
    assert_eq!(
        nvml!(lib, nvmlDeviceRegisterEvents(gpu(lib, 0), types, set)),
        SUCCESS
    );
    set
}

fn wait(
    lib: &sys::NvmlLib,
    set: sys::nvmlEventSet_t,
    timeout_ms: u32,
) -> (u32, sys::nvmlEventData_t) {
    // SAFETY: plain C data; all zeroes is a value.
    let mut data: sys::nvmlEventData_t = unsafe { std::mem::zeroed() };
    let answer = nvml!(lib, nvmlEventSetWait_v2(set, &raw mut data, timeout_ms));
    (answer, data)
}

#[test]
fn an_xid_names_the_instance_that_it_hit_or_none() {
    let sim = Sim::new(&["h100-80gb"]);
    let slot = GpuSlot::new(0);
    let gi = sim.with(|node| {
        node.set_mig_mode(slot, 1, 1).unwrap();
        let gi = node.create_gi(slot, 19, None, 1).unwrap();
        let ci = node.create_ci(slot, gi, 0, None, 1).unwrap();
        assert_eq!(ci.get(), 0);
        gi
    });
    let lib = sim.open();
    let set = event_set(&lib, XID);
    sim.with(|node| {
        node.inject_xid(slot, 79, 2).unwrap();
        node.inject_mig_xid(
            slot,
            gi,
            Some(gpushared_driver_sim::ComputeInstanceId::new(0)),
            13,
            3,
        )
        .unwrap();
    });
    let (answer, event) = wait(&lib, set, 1000);
    assert_eq!(
        (answer, event.eventType, event.eventData),
        (SUCCESS, XID, 79)
    );
    assert_eq!(
        (event.gpuInstanceId, event.computeInstanceId),
        (NO_INSTANCE, NO_INSTANCE)
    );
    assert_eq!(event.device, gpu(&lib, 0));
    let (answer, event) = wait(&lib, set, 1000);
    assert_eq!((answer, event.eventData), (SUCCESS, 13));
    assert_eq!(
        (event.gpuInstanceId, event.computeInstanceId),
        (gi.get(), 0)
    );
    assert_eq!(wait(&lib, set, 0).0, TIMEOUT);
}

#[test]
fn the_first_wait_writes_no_instance_ids() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let set = event_set(&lib, XID);
    sim.with(|node| node.inject_xid(GpuSlot::new(0), 79, 2))
        .unwrap();
    let mut buffer = [0xA5u8; 32];
    assert_eq!(
        nvml!(lib, nvmlEventSetWait(set, buffer.as_mut_ptr().cast(), 1000)),
        SUCCESS
    );
    assert_eq!(buffer[16..24], 79u64.to_ne_bytes());
    assert_eq!(buffer[24..], [0xA5; 8]);
}

#[test]
fn every_set_gets_every_event_and_none_from_before_its_registration() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let lib = sim.open();
    sim.with(|node| node.inject_xid(GpuSlot::new(0), 1, 2))
        .unwrap();
    let sets = [event_set(&lib, XID), event_set(&lib, XID | MIG_CHANGE)];
    sim.with(|node| node.inject_xid(GpuSlot::new(0), 2, 2))
        .unwrap();
    sim.with(|node| node.inject_xid(GpuSlot::new(1), 3, 2))
        .unwrap();
    for set in sets {
        assert_eq!(wait(&lib, set, 1000).1.eventData, 2);
        assert_eq!(wait(&lib, set, 0).0, TIMEOUT);
        assert_eq!(nvml!(lib, nvmlEventSetFree(set)), SUCCESS);
        assert_eq!(wait(&lib, set, 0).0, INVALID_ARGUMENT);
    }
}

#[test]
fn a_gpu_that_lacks_a_type_refuses_and_leaves_the_set_usable() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let set = event_set(&lib, XID);
    let device = gpu(&lib, 0);
    assert_eq!(
        nvml!(lib, nvmlDeviceRegisterEvents(device, 1 << 40, set)),
        NOT_SUPPORTED
    );
    sim.with(|node| node.inject_xid(GpuSlot::new(0), 31, 2))
        .unwrap();
    assert_eq!(wait(&lib, set, 1000).1.eventData, 31);
}

#[test]
fn a_waiting_thread_is_woken_by_the_event() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let set = event_set(&lib, XID).addr();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let start = Instant::now();
            let (answer, event) = wait(&lib, std::ptr::without_provenance_mut(set), 60_000);
            (answer, event.eventData, start.elapsed())
        });
        sim.wait_for_call("nvmlEventSetWait_v2");
        sim.with(|node| node.inject_xid(GpuSlot::new(0), 48, 2))
            .unwrap();
        let (answer, xid, waited) = waiter.join().unwrap();
        assert_eq!((answer, xid), (SUCCESS, 48));
        assert!(waited < Duration::from_secs(30));
    });
}

#[test]
fn a_wait_for_a_lost_gpu_ends_once_its_events_are_delivered() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let lib = sim.open();
    let lost = event_set(&lib, XID);
    let mut other = null_mut();
    assert_eq!(nvml!(lib, nvmlEventSetCreate(&raw mut other)), SUCCESS);
    let answer = nvml!(lib, nvmlDeviceRegisterEvents(gpu(&lib, 1), XID, other));
    assert_eq!(answer, SUCCESS);
    sim.with(|node| node.lose_gpu(GpuSlot::new(0), 2)).unwrap();
    let (answer, event) = wait(&lib, lost, 60_000);
    assert_eq!((answer, event.eventData), (SUCCESS, 79));
    assert_eq!(wait(&lib, lost, 60_000).0, GPU_IS_LOST);
    assert_eq!(wait(&lib, other, 0).0, TIMEOUT);
    sim.with(|node| node.heal(None)).unwrap();
    assert_eq!(wait(&lib, lost, 0).0, TIMEOUT);
}
