//! Process lists.

use gpushared_domain::ids::HostPid;
use gpushared_domain::ports::GpuDriver as _;
use gpushared_driver_sim::{ClientKind, ClientSpec, ComputeInstanceId, GpuInstanceId};

use crate::node::{ONE_SLICE, Sim, create, first_gpu, may_change, process, slot, uuid_of};

fn client(pid: u32, kind: ClientKind, memory: u64) -> ClientSpec<'static> {
    ClientSpec {
        process: process(pid),
        kind,
        gpu: slot(0),
        mig: None,
        memory,
        busy_permille: 0,
        name: "training",
    }
}

#[test]
fn compute_processes_and_mps_clients_are_listed_together() {
    let sim = Sim::new(&["h100-80gb"]);
    let own = std::process::id();
    let parent = std::os::unix::process::parent_id();
    sim.with(|node| {
        node.register_client(&client(own, ClientKind::Compute, 1 << 30), 0)
            .unwrap();
        node.register_client(&client(parent, ClientKind::Mps, 2 << 30), 0)
            .unwrap();
    });
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    let mut found: Vec<_> = driver
        .processes(&gpu)
        .unwrap()
        .into_iter()
        .map(|process| (process.pid, process.gpu_instance))
        .collect();
    found.sort();
    let mut expected = [(HostPid(own), None), (HostPid(parent), None)];
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn more_processes_than_were_expected_are_all_listed() {
    let sim = Sim::new(&["h100-80gb"]);
    // Processes of this machine that live as long as this test, whose end ends their input: the list leaves out dead
    // ones.
    let mut sleepers: Vec<_> = (0..40)
        .map(|_| {
            std::process::Command::new("cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    sim.with(|node| {
        for sleeper in &sleepers {
            node.register_client(&client(sleeper.id(), ClientKind::Compute, 0), 0)
                .unwrap();
        }
    });
    let mut driver = sim.open();
    let gpu = uuid_of(&mut driver);
    let listed = driver.processes(&gpu).unwrap().len();
    for sleeper in &mut sleepers {
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
    assert_eq!(listed, 40);
}

#[test]
fn a_process_on_a_mig_device_comes_with_its_instances() {
    if !may_change() {
        return;
    }
    let sim = Sim::new(&["h100-80gb"]).mig_on();
    let mut driver = sim.open();
    let gpu = first_gpu(&mut driver);
    let made = create(&mut driver, &gpu, ONE_SLICE, 2);
    let compute = made.compute_instances[0].id;
    let mig = (
        GpuInstanceId::new(made.id.0),
        ComputeInstanceId::new(compute.0),
    );
    let spec = ClientSpec {
        mig: Some(mig),
        ..client(std::process::id(), ClientKind::Compute, 1 << 30)
    };
    sim.with(|node| node.register_client(&spec, 0).unwrap());
    let listed = driver.processes(&gpu.facts.uuid).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].gpu_instance, Some(made.id));
    assert_eq!(listed[0].compute_instance, Some(compute));
    assert!(listed[0].used_memory.unwrap() >= 1 << 30);
}
