//! Injected errors and delays, and the call log.

use std::time::{Duration, Instant};

use gpushared_driver_sim::{Code, FaultSpec, Function, GpuSlot};

use crate::harness::*;

#[test]
fn an_injected_error_is_answered_as_often_as_it_was_asked_for() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let spec = FaultSpec {
        count: Some(2),
        skip: 1,
        ..FaultSpec::new("nvmlDeviceGetCount_v2", Code::UNKNOWN)
    };
    sim.with(|node| node.set_fault(&spec)).unwrap();
    let mut count = 0;
    let answers: Vec<u32> = (0..4)
        .map(|_| nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)))
        .collect();
    assert_eq!(answers, [SUCCESS, 999, 999, SUCCESS]);
}

#[test]
fn a_fault_of_one_gpu_spares_the_other_and_reaches_stubs() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let lib = sim.open();
    let (first, second) = (gpu(&lib, 0), gpu(&lib, 1));
    let spec = FaultSpec {
        gpu: Some(GpuSlot::new(1)),
        ..FaultSpec::new("*", Code::GPU_IS_LOST)
    };
    sim.with(|node| node.set_fault(&spec)).unwrap();
    let mut power = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceGetPowerUsage(first, &raw mut power)),
        SUCCESS
    );
    assert_eq!(
        nvml!(lib, nvmlDeviceGetPowerUsage(second, &raw mut power)),
        GPU_IS_LOST
    );
    let spec = FaultSpec::new("nvmlDeviceResetApplicationsClocks", Code::NO_PERMISSION);
    sim.with(|node| node.set_fault(&spec)).unwrap();
    assert_eq!(
        nvml!(lib, nvmlDeviceResetApplicationsClocks(first)),
        NO_PERMISSION
    );
}

#[test]
fn initialisation_fails_when_told_to() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.load();
    let spec = FaultSpec {
        count: Some(1),
        ..FaultSpec::new("nvmlInit_v2", Code::LIB_RM_VERSION_MISMATCH)
    };
    sim.with(|node| node.set_fault(&spec)).unwrap();
    assert_eq!(
        nvml!(lib, nvmlInit_v2()),
        Code::LIB_RM_VERSION_MISMATCH.get()
    );
    let mut count = 0;
    assert_eq!(
        nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)),
        UNINITIALIZED
    );
    assert_eq!(nvml!(lib, nvmlInit_v2()), SUCCESS);
}

#[test]
fn a_driver_that_was_unloaded_answers_nobody_until_it_is_back() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut set = std::ptr::null_mut();
    assert_eq!(nvml!(lib, nvmlEventSetCreate(&raw mut set)), SUCCESS);
    let ask = || {
        let mut minor = 0;
        // SAFETY: plain C data; all zeroes is a value.
        let mut event = unsafe { std::mem::zeroed() };
        [
            nvml!(lib, nvmlDeviceGetMinorNumber(device, &raw mut minor)),
            nvml!(lib, nvmlEventSetWait_v2(set, &raw mut event, 0)),
        ]
    };
    assert_eq!(ask(), [SUCCESS, TIMEOUT]);
    sim.with(|node| node.unload_driver()).unwrap();
    assert_eq!(ask(), [DRIVER_NOT_LOADED; 2]);
    sim.with(|node| node.load_driver());
    assert_eq!(ask(), [SUCCESS, TIMEOUT]);
    // The library's upgrade alone stops nobody who is at work.
    sim.with(|node| node.mismatch_driver());
    assert_eq!(ask(), [SUCCESS, TIMEOUT]);
}

#[test]
fn a_delay_holds_nobody_else_up() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    const DELAY: Duration = Duration::from_millis(400);
    let spec = FaultSpec {
        delay_ms: 400,
        ..FaultSpec::new("nvmlDeviceGetCount_v2", Code::SUCCESS)
    };
    sim.with(|node| node.set_fault(&spec)).unwrap();
    let device = gpu(&lib, 0).addr();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let start = Instant::now();
            let mut count = 0;
            assert_eq!(nvml!(lib, nvmlDeviceGetCount_v2(&raw mut count)), SUCCESS);
            start.elapsed()
        });
        sim.wait_for_call("nvmlDeviceGetCount_v2");
        let mut minor = 0;
        let device = std::ptr::without_provenance_mut(device);
        assert_eq!(
            nvml!(lib, nvmlDeviceGetMinorNumber(device, &raw mut minor)),
            SUCCESS
        );
        assert!(slow.join().unwrap() >= DELAY);
    });
    // The log is in the order of the answers.
    let counted = Function::id_of("nvmlDeviceGetCount_v2");
    let last = sim.with(|node| node.calls.recent(1).next().copied());
    assert_eq!(last.map(|call| call.function), Some(counted));
}

#[test]
fn calls_are_counted_and_logged_with_their_answers() {
    let sim = Sim::new(&["h100-80gb"]);
    let lib = sim.open();
    let device = gpu(&lib, 0);
    let mut minor = 0;
    for _ in 0..3 {
        assert_eq!(
            nvml!(lib, nvmlDeviceGetMinorNumber(device, &raw mut minor)),
            SUCCESS
        );
    }
    assert_eq!(
        nvml!(lib, nvmlDeviceGetMinorNumber(device, std::ptr::null_mut())),
        INVALID_ARGUMENT
    );
    sim.with(|node| {
        assert_eq!(node.calls.calls_of("nvmlDeviceGetMinorNumber"), 4);
        assert_eq!(node.calls.calls_of("nvmlInit_v2"), 1);
        let last = node.calls.recent(1).next().copied().unwrap();
        assert_eq!(last.code, INVALID_ARGUMENT);
        assert_eq!(last.gpu, 0);
        assert_eq!(last.pid, std::process::id());
    });
}
