//! A device breaks, and only that device is taken away.

use std::time::Duration;

use crate::case::case;
use crate::daemon::{Node, Strategy};
use crate::gpus::{GPU, GPU_COUNT, MIG, MIG_COUNT};
use crate::pods::pod;
use crate::wait::until_eq;

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

            node.gpus.fault(&id);
            node.machine.until_allocatable(MIG, MIG_COUNT - 1);
            assert_eq!(node.machine.capacity(MIG), Some(MIG_COUNT));
            assert_eq!(node.machine.allocatable(GPU), Some(GPU_COUNT));
            until_eq(
                "the health of the pod's device",
                Duration::from_secs(20),
                &Some("Unhealthy".to_owned()),
                || node.machine.device_health("p").get(&id).cloned(),
            );
            // The kubelet neither evicts nor restarts.
            node.machine.goes_on("p", &before);

            node.gpus.heal(&id);
            node.until_all_offered();
            until_eq(
                "the health of the pod's device",
                Duration::from_secs(20),
                &Some("Healthy".to_owned()),
                || node.machine.device_health("p").get(&id).cloned(),
            );
        },
    );
}
