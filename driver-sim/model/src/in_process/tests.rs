//! The port over the model.

use gpushared_domain::mig::MigMode;
use gpushared_domain::ports::GpuEventKind;

use super::*;
use crate::fault::FaultSpec;
use crate::node::NodeSpec;

const NO_WAIT: Duration = Duration::ZERO;

fn driver(keys: &[&str]) -> SimDriver {
    SimDriver::new(OwnedNode::new(&NodeSpec::of(keys, 1).unwrap()).unwrap())
}

fn uuid(driver: &SimDriver, slot: u32) -> GpuUuid {
    driver
        .with(|node| node.gpu_any(GpuSlot::new(slot)).unwrap().uuid())
        .parse()
        .unwrap()
}

#[test]
fn a_mixed_node_is_observed_with_what_each_gpu_has() {
    let mut port = driver(&["h100-80gb", "a30", "t4"]);
    let inventory = port.observe().unwrap();
    assert!(inventory.driver.simulated);
    let seen: Vec<_> = inventory
        .gpus
        .iter()
        .map(|gpu| (gpu.mig_mode, gpu.profiles.len()))
        .collect();
    let expected = [
        (MigMode::Disabled, 7),
        (MigMode::Disabled, 5),
        (MigMode::Unsupported, 0),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_wait_for_a_lost_gpu_fails_once_its_events_are_told() {
    let port = driver(&["t4"]);
    let mut events = port.events();
    port.with(|node| node.lose_gpu(GpuSlot::new(0), 0)).unwrap();
    let told = events.wait(Duration::MAX).unwrap();
    assert_eq!(told.map(|event| event.kind), Some(GpuEventKind::Xid(79)));
    let error = events.wait(Duration::MAX).unwrap_err();
    assert_eq!(error.fault, DriverFault::GpuLost);
    assert_eq!(events.wait(NO_WAIT), Ok(None), "it is waited for no more");
}

#[test]
fn a_lost_gpu_is_unreadable_and_the_others_are_not() {
    let mut port = driver(&["t4", "t4"]);
    let gpu = uuid(&port, 0);
    port.with(|node| node.lose_gpu(GpuSlot::new(0), 0)).unwrap();
    let inventory = port.observe().unwrap();
    assert_eq!(inventory.gpus.len(), 1);
    assert_eq!(inventory.unreadable.len(), 1);
    assert_eq!(inventory.unreadable[0].0, GpuIndex(0));
    assert_eq!(port.probe(&gpu), Probe::Lost);
    let driver_gone = |node: &mut Node| node.header.driver_state = 1;
    port.with(driver_gone);
    assert_eq!(
        port.observe().unwrap_err().fault,
        DriverFault::DriverNotLoaded
    );
}

#[test]
fn an_instance_is_made_at_its_place_observed_and_destroyed() {
    let mut port = driver(&["h100-80gb"]);
    let gpu = uuid(&port, 0);
    assert_eq!(
        port.set_mig_mode(&gpu, MigSwitch::On),
        Ok(MigModeActivation::Active)
    );
    let place = Placement { start: 4, size: 2 };
    let gi = port
        .create_gpu_instance(&gpu, MigProfileId(15), place)
        .unwrap();
    assert_eq!(gi.placement, place);
    let ci = port.create_compute_instance(&gpu, gi.id).unwrap();
    assert_eq!(
        ci.profile, 7,
        "the profile with all multiprocessors of a double-memory instance"
    );
    let observed = port.observe().unwrap();
    assert_eq!(
        observed.gpus[0].instances[0].compute_instances,
        std::slice::from_ref(&ci)
    );
    let refused = port
        .create_gpu_instance(&gpu, MigProfileId(15), place)
        .unwrap_err();
    assert_eq!(refused.fault, DriverFault::InsufficientResources);
    port.destroy_compute_instance(&gpu, gi.id, ci.id).unwrap();
    port.destroy_gpu_instance(&gpu, gi.id).unwrap();
    port.destroy_gpu_instance(&gpu, gi.id).unwrap();
    assert!(port.observe().unwrap().gpus[0].instances.is_empty());
    assert_eq!(
        port.with(|node| node.calls.calls_of("nvmlGpuInstanceDestroy")),
        2
    );
}

#[test]
fn the_next_compute_profile_is_tried_when_the_first_is_refused() {
    let mut port = driver(&["h100-80gb"]);
    let gpu = uuid(&port, 0);
    let _active = port.set_mig_mode(&gpu, MigSwitch::On).unwrap();
    let place = Placement { start: 0, size: 2 };
    let gi = port
        .create_gpu_instance(&gpu, MigProfileId(15), place)
        .unwrap();
    let function = "nvmlGpuInstanceCreateComputeInstance";
    let fault = |code, count| FaultSpec {
        count,
        ..FaultSpec::new(function, code)
    };
    port.with(|node| node.set_fault(&fault(Code::NOT_SUPPORTED, Some(1))))
        .unwrap();
    assert_eq!(
        port.create_compute_instance(&gpu, gi.id).unwrap().profile,
        0
    );
    port.with(|node| node.set_fault(&fault(Code::UNKNOWN, None)))
        .unwrap();
    let error = port.create_compute_instance(&gpu, gi.id).unwrap_err();
    assert_eq!(error.fault, DriverFault::Other(999));
}

#[test]
fn a_delay_moves_the_stepped_clock() {
    let mut port = driver(&["t4"]);
    let spec = FaultSpec {
        delay_ms: 1,
        ..FaultSpec::new("nvmlSystemGetDriverVersion", Code::SUCCESS)
    };
    port.with(|node| node.set_fault(&spec)).unwrap();
    port.info().unwrap();
    assert_eq!(port.with(|node| node.header.clock_ns), 1_000_000);
}

#[test]
fn events_reach_the_port_with_their_instances() {
    let mut port = driver(&["h100-80gb"]);
    let gpu = uuid(&port, 0);
    let _active = port.set_mig_mode(&gpu, MigSwitch::On).unwrap();
    let place = Placement { start: 0, size: 1 };
    let gi = port
        .create_gpu_instance(&gpu, MigProfileId(19), place)
        .unwrap()
        .id;
    let mut events = port.events();
    assert_eq!(events.wait(NO_WAIT), Ok(None));
    port.with(|node| {
        let gi = ids::GpuInstanceId::new(gi.0);
        node.inject_mig_xid(GpuSlot::new(0), gi, None, 43, 0)
    })
    .unwrap();
    let event = events.wait(NO_WAIT).unwrap().unwrap();
    assert_eq!(
        (event.gpu_instance, event.kind),
        (Some(gi), GpuEventKind::Xid(43))
    );
}

#[test]
fn a_waiting_port_wakes_when_another_thread_injects() {
    let port = driver(&["t4"]);
    let mut events = port.events();
    let waiter = thread::spawn(move || events.wait(Duration::from_secs(60)));
    port.with(|node| node.inject_xid(GpuSlot::new(0), 79, 0))
        .unwrap();
    let event = waiter.join().unwrap().unwrap().unwrap();
    assert_eq!(event.kind, GpuEventKind::Xid(79));
}

#[test]
fn processes_and_memory_follow_clients() {
    let mut port = driver(&["t4"]);
    let gpu = uuid(&port, 0);
    let spec = crate::ClientSpec {
        process: crate::Process {
            pid: 4,
            start_time: 0,
        },
        kind: ClientKind::Mps,
        gpu: GpuSlot::new(0),
        mig: None,
        memory: 4096,
        busy_permille: 0,
        name: "",
    };
    port.with(|node| node.register_client(&spec, 0)).unwrap();
    let processes = port.processes(&gpu).unwrap();
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0].used_memory, Some(4096));
    assert_eq!(port.memory(&gpu, None).unwrap().used, 4096);
}
