//! Creating and destroying.

use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId};
use gpushared_domain::mig::{MigMode, MigModeActivation, MigProfileId};
use gpushared_domain::ports::{DriverFault, ErrorClass, GpuDriver as _, MigSwitch};
use gpushared_driver_sim::{ClientKind, ClientSpec};

use crate::node::{ONE_SLICE, Sim, create, first_gpu, may_change, placement, process, slot};

#[test]
fn an_instance_lies_where_it_was_wanted_and_is_gone_when_destroyed() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let uuid = &gpu.facts.uuid;
    let made = create(&mut driver, &gpu, ONE_SLICE, 3);
    assert_eq!((made.placement.start, made.placement.size), (3, 1));
    assert_eq!(made.compute_instances[0].slices, 1);
    assert_eq!(
        first_gpu(&mut driver).instances,
        std::slice::from_ref(&made)
    );

    let memory = driver.memory(uuid, Some(made.id)).unwrap();
    assert!(memory.total < gpu.facts.memory_bytes / 6, "{memory:?}");

    let compute = made.compute_instances[0].id;
    let error = driver.destroy_gpu_instance(uuid, made.id).unwrap_err();
    assert_eq!(error.fault, DriverFault::InUse);
    driver
        .destroy_compute_instance(uuid, made.id, compute)
        .unwrap();
    driver.destroy_gpu_instance(uuid, made.id).unwrap();
    assert!(first_gpu(&mut driver).instances.is_empty());
}

#[test]
fn destroying_what_is_gone_is_done_already() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let uuid = first_gpu(&mut driver).facts.uuid;
    let (gone, compute) = (GpuInstanceId(7), ComputeInstanceId(0));
    driver
        .destroy_compute_instance(&uuid, gone, compute)
        .unwrap();
    driver.destroy_gpu_instance(&uuid, gone).unwrap();
    // With MIG mode off there are no instances at all.
    let switched = driver.set_mig_mode(&uuid, MigSwitch::Off).unwrap();
    assert_eq!(switched, MigModeActivation::Active);
    driver.destroy_gpu_instance(&uuid, gone).unwrap();
    driver
        .destroy_compute_instance(&uuid, gone, compute)
        .unwrap();
}

#[test]
fn a_taken_place_is_insufficient_resources() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    create(&mut driver, &gpu, ONE_SLICE, 0);
    let error = driver
        .create_gpu_instance(&gpu.facts.uuid, ONE_SLICE, placement(&gpu, ONE_SLICE, 0))
        .unwrap_err();
    // Code 23, which nvml-wrapper has no word for.
    assert_eq!(error.fault, DriverFault::InsufficientResources);
    assert!(error.doing.contains("19@0"), "{error}");
}

#[test]
fn an_instance_in_use_is_worth_another_try() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let made = create(&mut driver, &gpu, ONE_SLICE, 0);
    sim.fault("nvmlComputeInstanceDestroy", 19, Some(1));
    let compute = made.compute_instances[0].id;
    let mut destroy = || driver.destroy_compute_instance(&gpu.facts.uuid, made.id, compute);
    let error = destroy().unwrap_err();
    assert_eq!(error.fault, DriverFault::InUse);
    assert_eq!(error.class(), ErrorClass::Temporary);
    destroy().unwrap();
}

#[test]
fn a_compute_instance_covers_its_gpu_instance_on_every_model() {
    if !may_change() {
        return;
    }
    for model in [
        "a30-24gb",
        "a100-40gb",
        "h100-80gb",
        "gh200-96gb",
        "b200-180gb",
        "rtx-pro-6000-96gb",
    ] {
        let sim = Sim::new(&[model]).mig_on();
        let mut driver = sim.open();
        let gpu = first_gpu(&mut driver);
        for profile in &gpu.profiles {
            let start = profile.placements[0].start;
            let made = create(&mut driver, &gpu, profile.id, start);
            let compute = &made.compute_instances[0];
            assert_eq!(
                compute.slices, profile.compute_slices,
                "{model} {}",
                profile.name
            );
            let uuid = &gpu.facts.uuid;
            driver
                .destroy_compute_instance(uuid, made.id, compute.id)
                .unwrap();
            driver.destroy_gpu_instance(uuid, made.id).unwrap();
        }
    }
}

#[test]
fn double_memory_slices_get_all_of_their_multiprocessors() {
    if !may_change() {
        return;
    }
    // Hopper: only the second 1-slice profile (id 7) has them all.
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let double = MigProfileId(15);
    let made = create(&mut driver, &gpu, double, 0);
    assert_eq!(made.compute_instances[0].profile, 7);
}

#[test]
fn a_gpu_instance_that_cannot_be_read_back_is_destroyed_again() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    sim.fault("nvmlGpuInstanceGetInfo", 999, Some(1));
    let error = driver
        .create_gpu_instance(&gpu.facts.uuid, ONE_SLICE, placement(&gpu, ONE_SLICE, 0))
        .unwrap_err();
    assert_eq!(error.fault, DriverFault::Other(999));
    assert!(error.doing.contains("destroyed again"), "{error}");
    assert!(first_gpu(&mut driver).instances.is_empty());
}

#[test]
fn a_compute_instance_that_cannot_be_read_back_is_destroyed_again() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let uuid = &gpu.facts.uuid;
    let made = driver
        .create_gpu_instance(uuid, ONE_SLICE, placement(&gpu, ONE_SLICE, 0))
        .unwrap();
    sim.fault("nvmlComputeInstanceGetInfo_v2", 999, Some(1));
    let error = driver.create_compute_instance(uuid, made.id).unwrap_err();
    assert!(error.doing.contains("destroyed again"), "{error}");
    assert!(
        first_gpu(&mut driver).instances[0]
            .compute_instances
            .is_empty()
    );
}

#[test]
fn a_mode_change_says_whether_it_is_in_force() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb", "a100-40gb"]);
    let mut driver = sim.open();
    let [hopper, ampere] = <[_; 2]>::try_from(driver.observe().unwrap().gpus).unwrap();
    let mut switch = |gpu: &gpushared_domain::inventory::GpuState, to| {
        driver.set_mig_mode(&gpu.facts.uuid, to).unwrap()
    };
    assert_eq!(switch(&hopper, MigSwitch::On), MigModeActivation::Active);
    assert_eq!(switch(&hopper, MigSwitch::Off), MigModeActivation::Active);
    assert_eq!(
        switch(&ampere, MigSwitch::On),
        MigModeActivation::ResetRequired
    );
    // The driver answers success and puts 19 beside it.
    let holder = ClientSpec {
        process: process(std::process::id()),
        kind: ClientKind::Holder,
        gpu: slot(0),
        mig: None,
        memory: 0,
        busy_permille: 0,
        name: "nvidia-persistenced",
    };
    sim.with(|node| node.register_client(&holder, 0).unwrap());
    assert_eq!(switch(&hopper, MigSwitch::On), MigModeActivation::InUse);
    assert_ne!(first_gpu(&mut driver).mig_mode, MigMode::Enabled);
}
