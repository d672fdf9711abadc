//! Memory limits per cgroup, whose functions the bindings do not have.

use std::ffi::{CStr, c_char};

use gpushared_driver_sim::{ClientKind, ClientSpec, GpuSlot, NodeSpec, Process};
use gpushared_driver_sim_state::process_start_time;

use crate::harness::*;

const GIB: u64 = 1 << 30;

#[repr(C)]
struct SetLimits {
    namespace: *const c_char,
    soft: u64,
    hard: u64,
}

#[repr(C)]
struct GetLimits {
    namespace: *const c_char,
    soft: u64,
    hard: u64,
    used: u64,
}

/// Calls a function of the library at that path with a device and a struct.
fn call<T>(sim: &Sim, name: &CStr, device: usize, argument: &mut T) -> u32 {
    // SAFETY: the library has no initialisers with preconditions.
    let library = unsafe { libloading::Library::new(sim.library_path()) }.unwrap();
    // SAFETY: the signature is the one of NVIDIA's header.
    let function: libloading::Symbol<'_, unsafe extern "C" fn(usize, *mut T) -> u32> =
        unsafe { library.get(name.to_bytes_with_nul()) }.unwrap();
    // SAFETY: the struct is the function's own, names a string that lives on, and lives over the call.
    unsafe { function(device, argument) }
}

fn set(sim: &Sim, device: usize, namespace: &CStr, soft: u64, hard: u64) -> u32 {
    let mut limits = SetLimits {
        namespace: namespace.as_ptr(),
        soft,
        hard,
    };
    call(sim, c"nvmlDeviceSetMemoryLimits_v1", device, &mut limits)
}

fn get(sim: &Sim, device: usize, namespace: &CStr) -> (u32, u64, u64, u64) {
    let mut limits = GetLimits {
        namespace: namespace.as_ptr(),
        soft: 1,
        hard: 1,
        used: 1,
    };
    let answer = call(sim, c"nvmlDeviceGetMemoryLimits_v1", device, &mut limits);
    (answer, limits.soft, limits.hard, limits.used)
}

#[test]
fn a_limit_of_a_cgroup_holds_its_clients() {
    if !may_change() {
        return;
    }
    let sim = Sim::with_spec(&NodeSpec {
        driver_version: "615.10".to_owned(),
        ..NodeSpec::of(&["h100-80gb"], 7).unwrap()
    });
    let lib = sim.open();
    let device = gpu(&lib, 0).addr();
    let folder = c"/sys/fs/cgroup/kubepods/pod1";
    assert_eq!(set(&sim, device, folder, 2, 1), INVALID_ARGUMENT);
    assert_eq!(set(&sim, device, folder, 0, 1 << 50), INVALID_ARGUMENT);
    assert_eq!(set(&sim, device, folder, 0, 4 * GIB), SUCCESS);
    let pid = std::process::id();
    let spec = ClientSpec {
        process: Process {
            pid,
            start_time: process_start_time(pid).unwrap(),
        },
        kind: ClientKind::Compute,
        gpu: GpuSlot::new(0),
        mig: None,
        memory: GIB,
        busy_permille: 0,
        name: "",
    };
    sim.with(|node| {
        let id = node.register_client(&spec, 1).unwrap();
        node.set_client_cgroup(id, "/kubepods/pod1").unwrap();
        node.reserve_memory(id, 4 * GIB).unwrap_err();
        node.reserve_memory(id, 3 * GIB).unwrap();
    });
    let full = (SUCCESS, 0, 4 * GIB, 4 * GIB);
    assert_eq!(get(&sim, device, folder), full);
    assert_eq!(get(&sim, device, c"/kubepods/pod1"), full);
    sim.with(|node| node.header.without_dmem = 1);
    assert_eq!(get(&sim, device, folder), (NOT_FOUND, 1, 1, 1));
}

#[test]
fn drivers_before_r615_have_no_limits() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let answer = get(&sim, gpu(&lib, 0).addr(), c"/kubepods");
    assert_eq!(answer, (NOT_SUPPORTED, 1, 1, 1));
}
