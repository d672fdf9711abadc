//! One test for each thing that nvml-wrapper 0.13.0 lacks or breaks (and that no other file here covers).

use gpushared_domain::ports::{DriverFault, GpuDriver as _};

use crate::node::{Sim, first_gpu, may_change, uuid_of};

const VERSION_MISMATCH: u32 = 25;

#[test]
fn placements_are_listed_where_the_wrapper_says_none() {
    let sim = Sim::new(&["a100-40gb"]);
    let gpu = first_gpu(&mut sim.open());
    let starts = |id: u32| -> Vec<u32> {
        let profile = gpu.profiles.iter().find(|p| p.id.0 == id).unwrap();
        profile.placements.iter().map(|p| p.start).collect()
    };
    assert_eq!(starts(19), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(starts(14), [0, 2, 4]);
    assert_eq!(starts(9), [0, 4]);
    assert_eq!(starts(0), [0]);
}

#[test]
fn a_library_without_shutdown_is_refused_and_nothing_panics() {
    let sim = Sim::new(&["h100-80gb"]).without(&["nvmlShutdown"]);
    let error = sim.try_open().unwrap_err();
    assert_eq!(error.fault, DriverFault::FunctionMissing);
    assert!(error.doing.contains("nvmlShutdown"), "{error}");
}

#[test]
fn an_event_set_that_cannot_be_freed_is_dropped_without_a_panic() {
    let sim = Sim::new(&["h100-80gb"]).without(&["nvmlEventSetFree"]);
    drop(sim.open().events().unwrap());
}

#[test]
fn memory_is_read_in_its_first_layout_where_the_second_is_not_known() {
    let whole = Sim::new(&["h100-80gb"]);
    let mut driver = whole.open();
    let gpu = uuid_of(&mut driver);
    let second = driver.memory(&gpu, None).unwrap();
    assert!(second.reserved.is_some_and(|reserved| reserved > 0));
    let old = Sim::new(&["h100-80gb"]).without(&["nvmlDeviceGetMemoryInfo_v2"]);
    let mut driver = old.open();
    let gpu = uuid_of(&mut driver);
    let first = driver.memory(&gpu, None).unwrap();
    assert_eq!((first.total, first.reserved), (second.total, None));
    // There what the driver keeps counts as used.
    assert_eq!(first.used, second.used + second.reserved.unwrap());
    // The function is there, its structure is not known.
    whole.fault("nvmlDeviceGetMemoryInfo_v2", VERSION_MISMATCH, None);
    let mut driver = whole.open();
    let gpu = uuid_of(&mut driver);
    assert_eq!(driver.memory(&gpu, None).unwrap(), first);
}

#[test]
fn profiles_are_read_in_every_version_of_their_structure() {
    let newest = first_gpu(&mut Sim::new(&["a100-40gb"]).open()).profiles;
    // A driver that knows no third version refuses each first question about a profile.
    let second = Sim::new(&["a100-40gb"]);
    let mut driver = second.open();
    second.fault(
        "nvmlDeviceGetGpuInstanceProfileInfoV",
        VERSION_MISMATCH,
        Some(1),
    );
    assert_eq!(first_gpu(&mut driver).profiles, newest);
    // One before R470 knows the first version only, without names.
    let first = Sim::new(&["a100-40gb"]).without(&["nvmlDeviceGetGpuInstanceProfileInfoV"]);
    let first = first_gpu(&mut first.open()).profiles;
    assert_eq!(first.len(), newest.len());
    for (old, new) in first.iter().zip(&newest) {
        assert_eq!((old.id, &old.placements), (new.id, &new.placements));
    }
    let name = |id: u32| {
        let profile = first.iter().find(|profile| profile.id.0 == id);
        profile.unwrap().name.as_str()
    };
    assert_eq!(name(19), "1g.5gb");
    assert_eq!(name(20), "1g.5gb+me");
    assert_eq!(name(0), "7g.40gb");
}

#[test]
fn compute_profiles_are_read_in_every_version_of_their_structure() {
    if !may_change() {
        return;
    }
    use crate::node::{ONE_SLICE, create};
    let name = "nvmlGpuInstanceGetComputeInstanceProfileInfoV";
    let second = Sim::new(&["h100-80gb"]).mig_on();
    second.fault(name, VERSION_MISMATCH, Some(1));
    let first = Sim::new(&["h100-80gb"]).without(&[name]).mig_on();
    for sim in [second, first] {
        let mut driver = sim.open();
        let gpu = first_gpu(&mut driver);
        create(&mut driver, &gpu, ONE_SLICE, 0);
        let [instance] = <[_; 1]>::try_from(first_gpu(&mut driver).instances).unwrap();
        assert_eq!(instance.compute_instances.len(), 1);
    }
}

#[test]
fn process_lists_of_drivers_before_r510_are_read() {
    let sim = Sim::new(&["h100-80gb"]).without(&[
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    ]);
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    assert!(driver.processes(&gpu).unwrap().is_empty());
    let sim = Sim::new(&["h100-80gb"]).without(&[
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    ]);
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    assert!(driver.processes(&gpu).unwrap().is_empty());
}

#[test]
fn what_only_mig_needs_is_missed_only_with_mig() {
    let sim = Sim::new(&["l4-24gb", "h100-80gb"])
        .without(&["nvmlDeviceGetGpuInstancePossiblePlacements_v2"]);
    let inventory = sim.open().observe().unwrap();
    assert_eq!(inventory.gpus.len(), 1);
    let (_, why) = &inventory.unreadable[0];
    assert!(
        why.contains("nvmlDeviceGetGpuInstancePossiblePlacements_v2"),
        "{why}"
    );
}
