//! The node loses its power and comes back: nothing runs, the kubelet's checkpoint is all that is
//! left, and the operator's MIG layout is made anew.

use std::time::Duration;

use crate::case::{case, figure};
use crate::daemon::{Node, Strategy};
use crate::gpus::MIG;
use crate::pods::{main_status, pod};
use crate::wait::{Look, until};

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn device_ids_are_the_same_after_a_reboot() {
    case("device_ids_are_the_same_after_a_reboot", |setting| {
        let mut node = Node::boot(setting, Strategy::Cdi);
        node.machine.run(&pod("p").with(MIG, 1));
        let before = node.machine.incarnation("p");
        let offered = offered();

        node.daemon.kill_9();
        node.machine.power_off();
        node.gpus.power_cycle();
        // The order of a usual boot: the layout, the runtime, the daemon, the kubelet.
        node.gpus.cut();
        node.machine.start_containerd();
        node.daemon.start();
        node.machine.start_kubelet();
        node.until_all_offered();
        assert_eq!(offered, self::offered());

        // A kubelet that finds the resource registered admits the pod again with its old devices;
        // one that does not rejects it for good (kubernetes #125579).
        let admitted = until(
            "the pod to be decided upon",
            Duration::from_secs(40),
            || {
                let pod = node.machine.pod("p");
                if pod["status"]["phase"] == "Failed" {
                    return Look::Found(Err(pod["status"]["message"].to_string()));
                }
                let main = main_status(&pod);
                let new = main["containerID"]
                    .as_str()
                    .is_some_and(|id| id != before.container);
                if new && main["state"]["running"].is_object() {
                    Look::Found(Ok(()))
                } else {
                    Look::NotYet(main.to_string())
                }
            },
        );
        match admitted {
            Ok(()) => {
                figure("the pod was admitted again with the same devices");
                assert_eq!(node.machine.assigned("p"), before.devices);
            }
            Err(message) => figure(&format!("the kubelet rejected the pod: {message}")),
        }
        node.machine.run(&pod("later").with(MIG, 1));
    });
}

/// The IDs that the kubelet knows of, from its checkpoint.
fn offered() -> Vec<String> {
    let text = std::fs::read_to_string(crate::kubelet::CHECKPOINT).expect("the checkpoint");
    let checkpoint: serde_json::Value =
        serde_json::from_str(&text).expect("the checkpoint is JSON");
    let devices = &checkpoint["Data"]["RegisteredDevices"];
    let mut ids: Vec<String> = devices
        .as_object()
        .into_iter()
        .flat_map(|resources| resources.values())
        .flat_map(|ids| ids.as_array().cloned().unwrap_or_default())
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    ids.sort();
    ids
}
