//! What the node has, as the driver tells it.

use gpushared_domain::health::Probe;
use gpushared_domain::ids::GpuIndex;
use gpushared_domain::mig::{MigMode, Placement};
use gpushared_domain::ports::{DriverFault, GpuDriver as _};

use crate::node::{ONE_SLICE, Sim, create, first_gpu, may_change, slot, uuid_of};

const LOST: u32 = 15;

#[test]
fn a_gpu_is_described_with_its_place_in_the_machine() {
    let sim = Sim::new(&["h100-80gb", "l4-24gb"]);
    let inventory = sim.open().observe().unwrap();
    let [h100, l4] = inventory.gpus.as_slice() else {
        panic!("{inventory:?}");
    };
    assert_eq!(h100.facts.name, "NVIDIA H100 80GB HBM3");
    assert_eq!(h100.facts.memory_bytes, 81_559 << 20);
    assert_eq!(h100.facts.compute_capability, (9, 0));
    assert_eq!(
        (h100.facts.index, l4.facts.index),
        (GpuIndex(0), GpuIndex(1))
    );
    assert_ne!(h100.facts.minor, l4.facts.minor);
    assert_eq!(h100.mig_mode, MigMode::Disabled);
    assert_eq!(l4.mig_mode, MigMode::Unsupported);
    assert!(l4.profiles.is_empty());
    // The simulated node writes one for each GPU; `numa.rs` has the rest.
    let file = sim
        .path()
        .join("sys/bus/pci/devices")
        .join(h100.facts.pci.as_str())
        .join("numa_node");
    let written = std::fs::read_to_string(file).unwrap();
    assert_eq!(h100.facts.numa_node, written.trim().parse().ok());
}

#[test]
fn profiles_come_with_names_and_numbers_while_mig_is_off() {
    let sim = Sim::new(&["a100-40gb"]);
    let gpu = first_gpu(&mut sim.open());
    let mut named: Vec<(u32, &str)> = gpu
        .profiles
        .iter()
        .map(|profile| (profile.id.0, profile.name.as_str()))
        .collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            (0, "7g.40gb"),
            (5, "4g.20gb"),
            (9, "3g.20gb"),
            (14, "2g.10gb"),
            (15, "1g.10gb"),
            (19, "1g.5gb"),
            (20, "1g.5gb+me"),
        ]
    );
    let media = gpu.profiles.iter().find(|p| p.id.0 == 20).unwrap();
    assert_eq!(media.max_instances, 1);
    assert_eq!(media.compute_slices, 1);
}

#[test]
fn a_gpu_that_cannot_be_described_does_not_hide_the_others() {
    let sim = Sim::new(&["h100-80gb", "h100-80gb"]);
    let mut driver = sim.open();
    assert_eq!(driver.observe().unwrap().gpus.len(), 2);
    sim.with(|node| node.lose_gpu(slot(0), 0).unwrap());
    let inventory = driver.observe().unwrap();
    assert_eq!(inventory.gpus.len(), 1);
    assert_eq!(
        inventory.unreadable,
        [(GpuIndex(0), "GPU is lost".to_owned())]
    );
    sim.with(|node| node.heal(None).unwrap());
    assert_eq!(driver.observe().unwrap().gpus.len(), 2);
}

#[test]
fn a_driver_that_goes_away_is_an_error_and_not_an_empty_node() {
    let sim = Sim::new(&["h100-80gb"]);
    let mut driver = sim.open();
    sim.fault("nvmlDeviceGetCount_v2", 18, None);
    let error = driver.observe().unwrap_err();
    assert_eq!(error.fault, DriverFault::VersionMismatch);
    sim.with(|node| node.clear_faults(None));
    sim.fault("nvmlDeviceGetHandleByIndex_v2", 9, None);
    let error = driver.observe().unwrap_err();
    assert_eq!(error.fault, DriverFault::DriverNotLoaded);
}

#[test]
fn a_mode_change_that_is_outstanding_is_seen_as_such() {
    // Ampere takes the new mode with the next reset.
    let sim = Sim::new(&["a100-40gb"]);
    sim.with(|node| node.set_mig_mode(slot(0), 1, 0).unwrap());
    let mut driver = sim.open();
    assert_eq!(
        first_gpu(&mut driver).mig_mode,
        MigMode::Pending { enabled: true }
    );
    sim.with(|node| node.reset_gpu(slot(0), 0).unwrap());
    assert_eq!(first_gpu(&mut driver).mig_mode, MigMode::Enabled);
}

#[test]
fn a_gpu_instance_without_a_compute_instance_is_seen() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let placement = Placement { start: 4, size: 1 };
    let made = driver
        .create_gpu_instance(&gpu.facts.uuid, ONE_SLICE, placement)
        .unwrap();
    let gpu = first_gpu(&mut driver);
    assert_eq!(gpu.instances, [made]);
    assert!(gpu.instances[0].compute_instances.is_empty());
}

#[test]
fn a_second_look_at_a_full_node_asks_only_for_what_changes() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"; 8]).mig_on();
    let mut driver = sim.open();
    for gpu in driver.observe().unwrap().gpus {
        for start in 0..7 {
            create(&mut driver, &gpu, ONE_SLICE, start);
        }
    }
    sim.with(gpushared_driver_sim::Node::clear_calls);
    let inventory = driver.observe().unwrap();
    assert!(inventory.gpus.iter().all(|gpu| gpu.instances.len() == 7));
    let (calls, profiles) = sim.with(|node| {
        let calls: u64 = node.calls.counts().map(|count| count.calls).sum();
        let profiles = node.calls.calls_of("nvmlDeviceGetGpuInstanceProfileInfoV");
        (calls, profiles)
    });
    assert_eq!(profiles, 0);
    // 4 for a GPU, 1 for each of its profiles, 6 for each instance.
    assert!(calls < 8 * (4 + 12 + 7 * 6), "{calls} calls");
}

#[test]
fn a_probe_goes_to_the_gpu_and_tells_how_it_is() {
    let sim = Sim::new(&["h100-80gb"]);
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    let well = |errors| Probe::Answers {
        volatile_uncorrected: Some(errors),
        remap_failed: false,
    };
    assert_eq!(driver.probe(&gpu), well(0));
    sim.with(|node| node.inject_uncorrected_ecc(slot(0), 3, 0).unwrap());
    assert_eq!(driver.probe(&gpu), well(3));
    sim.with(|node| node.gpu_any_mut(slot(0)).unwrap().remap_failed = 1);
    assert!(matches!(
        driver.probe(&gpu),
        Probe::Answers {
            remap_failed: true,
            ..
        }
    ));
    sim.with(|node| node.lose_gpu(slot(0), 0).unwrap());
    assert_eq!(driver.probe(&gpu), Probe::Lost);
    sim.with(|node| node.heal(None).unwrap());
    sim.with(|node| node.require_reset(slot(0)).unwrap());
    assert_eq!(driver.probe(&gpu), Probe::ResetRequired);
    sim.with(|node| node.heal(None).unwrap());
    assert!(matches!(driver.probe(&gpu), Probe::Answers { .. }));
    sim.with(|node| node.unplug_gpu(slot(0)).unwrap());
    assert_eq!(driver.probe(&gpu), Probe::Lost);
}

#[test]
fn a_gpu_without_error_counters_is_probed_all_the_same() {
    let sim = Sim::new(&["t4-16gb"]);
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    sim.fault("nvmlDeviceGetTotalEccErrors", 3, None);
    sim.fault("nvmlDeviceGetRemappedRows", 3, None);
    assert_eq!(
        driver.probe(&gpu),
        Probe::Answers {
            volatile_uncorrected: None,
            remap_failed: false
        }
    );
    // A handle from before a reset is looked up again before anything is said about the GPU.
    sim.fault("nvmlDeviceGetMemoryInfo_v2", LOST, Some(1));
    assert!(matches!(driver.probe(&gpu), Probe::Answers { .. }));
}
