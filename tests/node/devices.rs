//! What a container sees of the GPUs: its own devices and no other.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::case::{Setting, case};
use crate::daemon::{Node, Strategy};
use crate::gpus::{GPU, MIG};
use crate::pods::{Inside, pod};
use crate::wait::{Look, until, until_eq};

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn pods_see_their_own_devices_through_cdi() {
    case("pods_see_their_own_devices_through_cdi", |setting| {
        pods_see_their_own_devices(setting, Strategy::Cdi);
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn pods_see_their_own_devices_through_device_nodes() {
    case(
        "pods_see_their_own_devices_through_device_nodes",
        |setting| {
            pods_see_their_own_devices(setting, Strategy::DeviceNodes);
        },
    );
}

/// Two pods with a MIG device each, two with a whole GPU each, all at once.
fn pods_see_their_own_devices(setting: &Setting, strategy: Strategy) {
    let node = Node::boot(setting, strategy);
    let machine = &node.machine;

    let mig = [("mig-a", MIG), ("mig-b", MIG)].map(|(name, r)| machine.run(&pod(name).with(r, 1)));
    let gpu = [("gpu-a", GPU), ("gpu-b", GPU)].map(|(name, r)| machine.run(&pod(name).with(r, 1)));

    for inside in &mig {
        assert_eq!(
            gpu_nodes(inside),
            ["/dev/nvidia0".to_owned()].into(),
            "{inside:?}"
        );
        // One node for the GPU instance and one for the compute instance in it.
        assert_eq!(cap_nodes(inside).len(), 2, "{:?}", inside.devices);
    }
    for inside in &gpu {
        assert_eq!(gpu_nodes(inside).len(), 1, "{:?}", inside.devices);
        assert!(cap_nodes(inside).is_empty(), "{:?}", inside.devices);
    }
    for inside in mig.iter().chain(&gpu) {
        assert!(
            inside.devices.contains_key("/dev/nvidiactl"),
            "{:?}",
            inside.devices
        );
        assert!(
            inside.devices.contains_key("/dev/nvidia-uvm"),
            "{:?}",
            inside.devices
        );
    }
    assert!(cap_nodes(&mig[0]).is_disjoint(&cap_nodes(&mig[1])));
    assert!(gpu_nodes(&gpu[0]).is_disjoint(&gpu_nodes(&gpu[1])));
    assert!(
        !gpu_nodes(&gpu[0]).contains("/dev/nvidia0"),
        "the GPU that is cut up is nobody's"
    );

    let all: BTreeSet<String> = ["mig-a", "mig-b", "gpu-a", "gpu-b"]
        .iter()
        .flat_map(|name| machine.assigned(name))
        .collect();
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_freed_device_is_given_out_again() {
    case("a_freed_device_is_given_out_again", |setting| {
        let node = Node::boot(setting, Strategy::Cdi);
        let machine = &node.machine;
        for name in ["a", "b"] {
            machine.run(&pod(name).with(GPU, 1));
        }
        // The third one waits in the scheduler until a GPU is free.
        machine.create(&pod("c").with(GPU, 1));
        let freed = machine.assigned("a");
        machine.delete("a");
        machine.until_running("c");
        assert_eq!(machine.assigned("c"), freed);
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_cdi_file_lives_as_long_as_the_pod_needs_it() {
    case("a_cdi_file_lives_as_long_as_the_pod_needs_it", |setting| {
        let node = Node::boot(setting, Strategy::Cdi);
        let machine = &node.machine;
        let before = machine.run(&pod("p").with(MIG, 1));
        let first = machine.incarnation("p");

        // The container ends; the kubelet makes a new one from the old answer to Allocate, and
        // containerd looks the CDI name up again.
        crate::component::signal(first.process, "TERM");
        until_eq("restarts of p", Duration::from_secs(30), &1, || {
            machine.restarts("p")
        });
        machine.until_running("p");
        let again = machine.inside("p");
        assert_ne!(machine.container_id("p"), first.container);
        assert_eq!(again.devices, before.devices);

        machine.delete("p");
        until(
            "the node to offer everything again",
            Duration::from_secs(30),
            || match machine.allocatable(MIG) {
                Some(crate::gpus::MIG_COUNT) => Look::Found(()),
                other => Look::NotYet(format!("{other:?}")),
            },
        );
    });
}

/// `/dev/nvidia<number>`.
fn gpu_nodes(inside: &Inside) -> BTreeSet<String> {
    let is_gpu = |path: &&String| {
        path.strip_prefix("/dev/nvidia")
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    inside.devices.keys().filter(is_gpu).cloned().collect()
}

/// `/dev/nvidia-caps/*`.
fn cap_nodes(inside: &Inside) -> BTreeSet<String> {
    let is_cap = |path: &&String| path.starts_with("/dev/nvidia-caps/");
    inside.devices.keys().filter(is_cap).cloned().collect()
}
