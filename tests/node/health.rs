//! A device breaks, and only that device is taken away.

use std::time::Duration;

use crate::case::case;
use crate::daemon::{Node, Strategy};
use crate::gpus::{GPU, GPU_COUNT, MIG, MIG_COUNT};
use crate::pods::pod;
use crate::wait::{throughout, until_eq};

/// A timeout on the GPU, not the program's fault, cured by time.
const SUSPECT: u32 = 109;
/// An MMU fault: the program's own.
const OF_THE_APPLICATION: u32 = 31;

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn an_xid_on_one_mig_device_takes_only_that_one_away() {
    case(
        "an_xid_on_one_mig_device_takes_only_that_one_away",
        |setting| {
            let mut node = Node::boot(setting, Strategy::Cdi);
            node.machine.run(&pod("p").with(MIG, 1));
            let before = node.machine.incarnation("p");
            let id = before.devices.first().expect("a device").clone();

            node.gpus.raise(&id, SUSPECT);
            node.machine.until_allocatable(MIG, MIG_COUNT - 1);
            assert_eq!(node.machine.capacity(MIG), Some(MIG_COUNT));
            assert_eq!(node.machine.allocatable(GPU), Some(GPU_COUNT));
            until_health(&node, "p", &id, "Unhealthy");
            // The quiet period passes.
            node.until_all_offered();
            until_health(&node, "p", &id, "Healthy");
            // The kubelet neither evicts nor restarts.
            node.machine.goes_on("p", &before);
        },
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn an_xid_of_the_application_takes_nothing_away() {
    case("an_xid_of_the_application_takes_nothing_away", |setting| {
        let node = Node::boot(setting, Strategy::Cdi);
        node.machine.run(&pod("p").with(MIG, 1));
        let id = node.machine.assigned("p").pop_first().expect("a device");
        node.gpus.raise(&id, OF_THE_APPLICATION);
        throughout("all devices offered", Duration::from_secs(4), || {
            let now = node.machine.allocatable(MIG);
            (now != Some(MIG_COUNT)).then(|| format!("{now:?}"))
        });
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_lost_gpu_takes_only_itself_away_until_it_is_back() {
    case(
        "a_lost_gpu_takes_only_itself_away_until_it_is_back",
        |setting| {
            let mut node = Node::boot(setting, Strategy::Cdi);
            node.gpus.sim(&["lose"], &["--gpu", "2"]);
            node.machine.until_allocatable(GPU, GPU_COUNT - 1);
            assert_eq!(node.machine.capacity(GPU), Some(GPU_COUNT));
            assert_eq!(node.machine.allocatable(MIG), Some(MIG_COUNT));
            node.gpus.sim(&["heal"], &["--gpu", "2"]);
            node.until_all_offered();
        },
    );
}

#[track_caller]
fn until_health(node: &Node, pod: &str, id: &str, health: &str) {
    until_eq(
        format_args!("the health of {id}"),
        Duration::from_secs(20),
        &Some(health.to_owned()),
        || node.machine.device_health(pod).get(id).cloned(),
    );
}
