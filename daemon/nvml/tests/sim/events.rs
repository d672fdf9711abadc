//! Events.

use std::time::{Duration, Instant};

use gpushared_domain::ports::{DriverFault, GpuDriver as _, GpuEventKind, GpuEvents as _};
use gpushared_driver_sim::{Code, ComputeInstanceId, FaultSpec, GpuInstanceId};

use crate::node::{ONE_SLICE, Sim, create, first_gpu, may_change, slot, uuid_of};

const SOON: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn an_xid_comes_with_its_gpu_and_its_instances() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let made = create(&mut driver, &gpu, ONE_SLICE, 5);
    let compute = made.compute_instances[0].id;
    let mut events = driver.events().unwrap();
    sim.with(|node| {
        let gi = GpuInstanceId::new(made.id.0);
        let ci = ComputeInstanceId::new(compute.0);
        node.inject_mig_xid(slot(0), gi, Some(ci), 94, 0).unwrap();
        node.inject_xid(slot(0), 79, 0).unwrap();
    });
    let event = events.wait(SOON).unwrap().unwrap();
    assert_eq!(event.gpu, gpu.facts.uuid);
    assert_eq!(event.kind, GpuEventKind::Xid(94));
    assert_eq!(event.gpu_instance, Some(made.id));
    assert_eq!(event.compute_instance, Some(compute));
    let event = events.wait(SOON).unwrap().unwrap();
    assert_eq!(event.kind, GpuEventKind::Xid(79));
    assert_eq!((event.gpu_instance, event.compute_instance), (None, None));
}

#[test]
fn a_wait_without_events_ends_in_time() {
    let sim = Sim::new(&["h100-80gb"]);
    let mut events = sim.open().events().unwrap();
    let start = Instant::now();
    assert_eq!(events.wait(SHORT).unwrap(), None);
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn memory_errors_and_layout_changes_are_told() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let mut events = driver.events().unwrap();
    sim.with(|node| {
        node.inject_corrected_ecc(slot(0), 1, 0).unwrap();
        node.inject_uncorrected_ecc(slot(0), 1, 0).unwrap();
    });
    create(&mut driver, &gpu, ONE_SLICE, 0);
    let kinds: Vec<_> = (0..3)
        .map(|_| events.wait(SOON).unwrap().unwrap().kind)
        .collect();
    assert_eq!(
        kinds,
        [
            GpuEventKind::SingleBitEcc,
            GpuEventKind::DoubleBitEcc,
            GpuEventKind::MigConfigChange
        ]
    );
}

#[test]
fn a_gpu_that_refuses_costs_only_itself() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    sim.with(|node| {
        let mut fault = FaultSpec::new("nvmlDeviceRegisterEvents", Code::NOT_SUPPORTED);
        fault.gpu = Some(slot(0));
        node.set_fault(&fault).unwrap();
    });
    let mut driver = sim.open();
    let second = driver.observe().unwrap().gpus[1].facts.uuid.clone();
    // nvml-wrapper frees the whole set here.
    let mut events = driver.events().unwrap();
    assert!(events.registered().eq([&second]));
    sim.with(|node| node.inject_xid(slot(1), 31, 0).unwrap());
    let event = events.wait(SOON).unwrap().unwrap();
    assert_eq!(event.gpu, second);
}

#[test]
fn a_gpu_without_a_kind_of_event_reports_the_others() {
    // No MIG, so no MIG events; asking for them would refuse the GPU.
    let sim = Sim::new(&["t4-16gb"]);
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    let mut events = driver.events().unwrap();
    sim.with(|node| node.inject_xid(slot(0), 43, 0).unwrap());
    let event = events.wait(SOON).unwrap().unwrap();
    assert_eq!((event.gpu, event.kind), (gpu, GpuEventKind::Xid(43)));
}

#[test]
fn a_failed_wait_is_told_and_the_next_one_works() {
    let sim = Sim::new(&["h100-80gb"]);
    let driver = sim.open();
    let mut events = driver.events().unwrap();
    sim.fault("nvmlEventSetWait_v2", 15, Some(1));
    let error = events.wait(SOON).unwrap_err();
    assert_eq!(error.fault, DriverFault::GpuLost);
    sim.with(|node| node.inject_xid(slot(0), 31, 0).unwrap());
    assert!(events.wait(SOON).unwrap().is_some());
}

#[test]
fn a_lost_gpu_ends_one_wait_and_the_others_are_waited_for() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let mut events = sim.open().events().unwrap();
    sim.with(|node| node.lose_gpu(slot(0), 0).unwrap());
    let event = events.wait(SOON).unwrap().unwrap();
    assert_eq!(event.kind, GpuEventKind::Xid(79));
    let error = events.wait(SOON).unwrap_err();
    assert_eq!(error.fault, DriverFault::GpuLost);
    assert_eq!(events.registered().count(), 1);
    sim.with(|node| node.inject_xid(slot(1), 31, 0).unwrap());
    let event = events.wait(SOON).unwrap().unwrap();
    assert_eq!(event.kind, GpuEventKind::Xid(31));
}

#[test]
fn a_gpu_that_came_back_is_waited_for_again() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    sim.with(|node| node.unplug_gpu(slot(1)).unwrap());
    let driver = sim.open();
    let mut events = driver.events().unwrap();
    assert_eq!(events.registered().count(), 1);
    sim.with(|node| node.heal(None).unwrap());
    events.renew().unwrap();
    assert_eq!(events.registered().count(), 2);
    sim.with(|node| node.inject_xid(slot(1), 31, 0).unwrap());
    assert!(events.wait(SOON).unwrap().is_some());
}

#[test]
fn a_node_without_gpus_waits_quietly() {
    let sim = Sim::new(&[]);
    let mut events = sim.open().events().unwrap();
    assert_eq!(events.wait(SHORT).unwrap(), None);
}

#[test]
fn events_are_waited_for_on_a_thread_of_their_own() {
    let sim = Sim::new(&["h100-80gb"]);
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    let mut events = driver.events().unwrap();
    let waiter = std::thread::spawn(move || events.wait(SOON));
    // The driver is not held up by the wait.
    driver.memory(&gpu, None).unwrap();
    sim.with(|node| node.inject_xid(slot(0), 31, 0).unwrap());
    let event = waiter.join().unwrap().unwrap();
    assert_eq!(event.map(|event| event.gpu), Some(gpu));
}
