//! Clients as NVML shows them: lists by kind, on GPUs and MIG devices, utilisation, memory.

use std::ptr::null_mut;

use gpushared_driver_sim::{
    ClientKind, ClientSpec, ComputeInstanceId, GpuInstanceId, GpuSlot, Process,
};
use gpushared_driver_sim_state::process_start_time;
use nvml_wrapper_sys::bindings as sys;

use crate::harness::*;

fn this_process() -> Process {
    let pid = std::process::id();
    Process {
        pid,
        start_time: process_start_time(pid).unwrap(),
    }
}

fn register(sim: &Sim, kind: ClientKind, mig: Option<(GpuInstanceId, ComputeInstanceId)>) {
    let spec = ClientSpec {
        process: this_process(),
        kind,
        gpu: GpuSlot::new(0),
        mig,
        memory: 1 << 30,
        busy_permille: 400,
        name: "worker",
    };
    sim.with(|node| node.register_client(&spec, 1)).unwrap();
}

fn list(
    lib: &sys::NvmlLib,
    call: impl Fn(&sys::NvmlLib, *mut u32, *mut sys::nvmlProcessInfo_t) -> u32,
) -> (u32, Vec<sys::nvmlProcessInfo_t>) {
    // SAFETY: plain C data; all zeroes is a value.
    let mut infos: [sys::nvmlProcessInfo_t; 8] = unsafe { std::mem::zeroed() };
    let mut count = 8;
    let answer = call(lib, &raw mut count, infos.as_mut_ptr());
    (
        answer,
        infos[..if answer == SUCCESS { count as usize } else { 0 }].to_vec(),
    )
}

#[test]
fn mps_clients_are_in_both_lists_and_holders_in_none() {
    let sim = Sim::new(&["h100-80gb"]);
    for kind in [
        ClientKind::Compute,
        ClientKind::Mps,
        ClientKind::Graphics,
        ClientKind::Holder,
    ] {
        register(&sim, kind, None);
    }
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let lengths = [
        list(&lib, |lib, count, infos| {
            nvml!(
                lib,
                nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos)
            )
        }),
        list(&lib, |lib, count, infos| {
            nvml!(
                lib,
                nvmlDeviceGetMPSComputeRunningProcesses_v3(device, count, infos)
            )
        }),
        list(&lib, |lib, count, infos| {
            nvml!(
                lib,
                nvmlDeviceGetGraphicsRunningProcesses_v3(device, count, infos)
            )
        }),
    ]
    .map(|(answer, infos)| (answer, infos.len()));
    assert_eq!(lengths, [(SUCCESS, 2), (SUCCESS, 1), (SUCCESS, 1)]);
    let mut rates = sys::nvmlUtilization_t { gpu: 0, memory: 0 };
    assert_eq!(
        nvml!(lib, nvmlDeviceGetUtilizationRates(device, &raw mut rates)),
        SUCCESS
    );
    assert_eq!(rates.gpu, 100);
}

#[test]
fn a_client_whose_process_is_gone_disappears() {
    let sim = Sim::new(&["h100-80gb"]);
    let process = Process {
        pid: std::process::id(),
        start_time: 1,
    };
    let spec = ClientSpec {
        process,
        kind: ClientKind::Compute,
        gpu: GpuSlot::new(0),
        mig: None,
        memory: 1 << 30,
        busy_permille: 0,
        name: "",
    };
    sim.with(|node| node.register_client(&spec, 1)).unwrap();
    let lib = sim.open();
    let mut memory = sys::nvmlMemory_v2_t {
        version: 0x0200_0028,
        total: 0,
        reserved: 0,
        free: 0,
        used: 0,
    };
    assert_eq!(
        nvml!(
            lib,
            nvmlDeviceGetMemoryInfo_v2(gpu(&lib, 0), &raw mut memory)
        ),
        SUCCESS
    );
    assert_eq!(memory.used, 0);
}

/// A number of another PID namespace may be nobody's here, or somebody else's.
#[test]
fn clients_of_another_pid_namespace_are_judged_as_the_node_judges_them() {
    let sim = Sim::new(&["h100-80gb"]);
    let pid = std::process::id();
    for start_time in [this_process().start_time, 1] {
        let spec = ClientSpec {
            process: Process { pid, start_time },
            kind: ClientKind::Compute,
            gpu: GpuSlot::new(0),
            mig: None,
            memory: 1 << 30,
            busy_permille: 0,
            name: "",
        };
        sim.with(|node| {
            let id = node.register_client(&spec, 1).unwrap();
            node.set_client_namespace(id, 1).unwrap();
        });
    }
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let (answer, infos) = list(&lib, |lib, count, infos| {
        nvml!(
            lib,
            nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos)
        )
    });
    // The initial namespace sees all processes, so it knows that there is no such one; any other cannot tell.
    let initial = gpushared_driver_sim_state::pid_namespace() == 0xEFFF_FFFC;
    let expected = if initial { 0 } else { 2 };
    assert_eq!((answer, infos.len()), (SUCCESS, expected));
}

#[test]
fn mig_devices_show_their_own_processes_and_no_utilisation() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]);
    let slot = GpuSlot::new(0);
    let places = sim.with(|node| {
        node.set_mig_mode(slot, 1, 1).unwrap();
        [0, 4].map(|start| {
            let place = gpushared_driver_sim::Placement { start, size: 4 };
            let gi = node.create_gi(slot, 9, Some(place), 1).unwrap();
            (gi, node.create_ci(slot, gi, 2, None, 1).unwrap())
        })
    });
    register(&sim, ClientKind::Compute, Some(places[1]));
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut found = Vec::new();
    for index in 0..2 {
        let mut mig = null_mut();
        assert_eq!(
            nvml!(
                lib,
                nvmlDeviceGetMigDeviceHandleByIndex(device, index, &raw mut mig)
            ),
            SUCCESS
        );
        let (answer, infos) = list(&lib, |lib, count, infos| {
            nvml!(
                lib,
                nvmlDeviceGetComputeRunningProcesses_v3(mig, count, infos)
            )
        });
        assert_eq!(answer, SUCCESS);
        found.push(infos.len());
        let mut rates = sys::nvmlUtilization_t { gpu: 0, memory: 0 };
        assert_eq!(
            nvml!(lib, nvmlDeviceGetUtilizationRates(mig, &raw mut rates)),
            NOT_SUPPORTED
        );
    }
    assert_eq!(found, [0, 1]);
    let (_, infos) = list(&lib, |lib, count, infos| {
        nvml!(
            lib,
            nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos)
        )
    });
    assert_eq!(infos.len(), 1);
    assert_eq!(
        (infos[0].gpuInstanceId, infos[0].computeInstanceId),
        (places[1].0.get(), places[1].1.get())
    );
    let mut rates = sys::nvmlUtilization_t { gpu: 0, memory: 0 };
    assert_eq!(
        nvml!(lib, nvmlDeviceGetUtilizationRates(device, &raw mut rates)),
        NOT_SUPPORTED
    );
}

#[test]
fn energy_only_grows() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let read = || {
        let mut energy = 0;
        assert_eq!(
            nvml!(
                lib,
                nvmlDeviceGetTotalEnergyConsumption(device, &raw mut energy)
            ),
            SUCCESS
        );
        energy
    };
    sim.step_clock(1000);
    let first = read();
    sim.step_clock(1000);
    let second = read();
    // One second without work.
    let idle_mw = sim.with(|node| node.power_mw(GpuSlot::new(0), 0)).unwrap();
    assert_eq!(second - first, u64::from(idle_mw));
    assert_eq!(read(), second);
}
