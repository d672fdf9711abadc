//! The client that the daemon uses, nvml-wrapper, on the simulated library, with its known defects showing.

use gpushared_driver_sim::{ClientKind, ClientSpec, Code, FaultSpec, GpuSlot, Process};
use gpushared_driver_sim_state::process_start_time;
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;

use crate::harness::*;

fn open(sim: &Sim) -> Nvml {
    Nvml::builder()
        .lib_path(sim.library_path().as_os_str())
        .init()
        .unwrap()
}

#[test]
fn the_safe_layer_reads_the_whole_inventory() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let nvml = open(&sim);
    assert_eq!(nvml.device_count().unwrap(), 2);
    assert_eq!(nvml.sys_driver_version().unwrap(), "570.124.06");
    assert_eq!(nvml.sys_cuda_driver_version().unwrap(), 12080);
    for index in 0..2 {
        let device = nvml.device_by_index(index).unwrap();
        assert_eq!(device.name().unwrap(), "NVIDIA H100 80GB HBM3");
        assert_eq!(
            nvml.device_by_uuid(device.uuid().unwrap())
                .unwrap()
                .index()
                .unwrap(),
            index
        );
        assert_eq!(device.minor_number().unwrap(), index);
        assert_eq!(device.memory_info().unwrap().total, 81559 << 20);
        assert_eq!(device.utilization_rates().unwrap().gpu, 0);
        assert_eq!(device.power_usage().unwrap(), 70_000);
        assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 30);
        assert_eq!(device.running_compute_processes().unwrap().len(), 0);
        assert_eq!(device.mig_device_count().unwrap(), 0);
        assert!(device.pci_info().unwrap().bus_id.starts_with("00000000:"));
        assert!(device.gpm_support().unwrap());
        device.total_energy_consumption().unwrap();
        assert!(!device.is_multi_gpu_board().unwrap());
        device.current_throttle_reasons().unwrap();
    }
}

#[test]
fn processes_come_with_their_memory() {
    let sim = Sim::new(&["h100-80gb"]);
    let pid = std::process::id();
    let process = Process {
        pid,
        start_time: process_start_time(pid).unwrap(),
    };
    let spec = ClientSpec {
        process,
        kind: ClientKind::Compute,
        gpu: GpuSlot::new(0),
        mig: None,
        memory: 3 << 30,
        busy_permille: 500,
        name: "trainer",
    };
    sim.with(|node| node.register_client(&spec, 1)).unwrap();
    let nvml = open(&sim);
    let device = nvml.device_by_index(0).unwrap();
    let processes = device.running_compute_processes().unwrap();
    assert_eq!(processes.len(), 1);
    assert_eq!(processes[0].pid, pid);
    assert_eq!(nvml.sys_process_name(pid, 64).unwrap(), "trainer");
    let samples = device.process_utilization_stats(None).unwrap();
    assert_eq!((samples[0].pid, samples[0].sm_util), (pid, 50));
}

#[test]
fn a_pending_mode_is_a_success_with_a_status() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    let pid = std::process::id();
    let spec = ClientSpec {
        process: Process {
            pid,
            start_time: process_start_time(pid).unwrap(),
        },
        kind: ClientKind::Holder,
        gpu: GpuSlot::new(0),
        mig: None,
        memory: 0,
        busy_permille: 0,
        name: "monitor",
    };
    sim.with(|node| node.register_client(&spec, 1)).unwrap();
    let nvml = open(&sim);
    let device = nvml.device_by_index(0).unwrap();
    assert_eq!(device.set_mig_mode(true).unwrap(), IN_USE);
    let mode = device.mig_mode().unwrap();
    assert_eq!((mode.current, mode.pending), (0, 1));
}

#[test]
fn events_arrive_without_their_instances() {
    let sim = Sim::new(&["h100-80gb"]);
    let nvml = open(&sim);
    let set = nvml.create_event_set().unwrap();
    let device = nvml.device_by_index(0).unwrap();
    assert!(
        device
            .supported_event_types()
            .unwrap()
            .contains(EventTypes::CRITICAL_XID_ERROR)
    );
    let set = device
        .register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .unwrap();
    sim.with(|node| node.inject_xid(GpuSlot::new(0), 63, 1))
        .unwrap();
    let event = set.wait(1000).unwrap();
    assert_eq!(event.event_data, Some(XidError::Value(63)));
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)));
}

/// The vector's length is never set, so the safe call answers an empty list (see facts on nvml-wrapper 0.13.0).
#[test]
fn possible_placements_of_the_wrapper_are_empty() {
    let sim = Sim::new(&["h100-80gb"]);
    let nvml = open(&sim);
    assert_eq!(
        nvml.device_by_index(0)
            .unwrap()
            .possible_placements(19)
            .unwrap()
            .len(),
        0
    );
}

/// The wrapper's error type ends at 22.
#[test]
fn newer_codes_are_unexpected_variants() {
    let sim = Sim::new(&["h100-80gb"]);
    let nvml = open(&sim);
    let spec = FaultSpec::new("nvmlDeviceGetCount_v2", Code::INSUFFICIENT_RESOURCES);
    sim.with(|node| node.set_fault(&spec)).unwrap();
    assert!(matches!(
        nvml.device_count(),
        Err(NvmlError::UnexpectedVariant(23))
    ));
}
