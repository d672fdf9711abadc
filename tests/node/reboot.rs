//! The node loses its power and comes back: nothing runs, the kubelet's checkpoint is all that is
//! left, and the operator's MIG layout is made anew.

use std::time::Duration;

use crate::case::{case, figure};
use crate::daemon::{Node, Strategy};
use crate::gpus::{MIG, MIG_COUNT};
use crate::pods::{main_status, pod};
use crate::wait::{Look, until};

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_pod_outlives_a_reboot_with_its_device() {
    case("a_pod_outlives_a_reboot_with_its_device", |setting| {
        let mut node = Node::boot(setting, Strategy::Cdi);
        node.machine.run(&pod("p").with(MIG, 1));
        let before = node.machine.incarnation("p");
        let shown = node.machine.inside("p");
        let ids = offered();

        reboot(&mut node);
        node.daemon.start();
        node.machine.start_kubelet();

        // The kubelet finds the resource registered when it looks at its pods, and replays its old
        // answer: the same device, by the same CDI name.
        let decision = until_decided(&node, "p", &before.container);
        assert_eq!(decision, Ok(()), "the kubelet rejected the pod");
        assert_eq!(node.machine.assigned("p"), before.devices);
        node.until_all_offered();
        assert_eq!(offered(), ids, "the IDs that the kubelet knows");
        assert_eq!(node.machine.inside("p").devices, shown.devices);
        node.machine.run(&pod("later").with(MIG, 1));
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_daemon_that_is_late_after_a_reboot_finds_its_devices_free() {
    case(
        "a_daemon_that_is_late_after_a_reboot_finds_its_devices_free",
        |setting| {
            let mut node = Node::boot(setting, Strategy::Cdi);
            node.machine.run(&pod("p").with(MIG, 1));
            let before = node.machine.incarnation("p");
            let ids = offered();

            reboot(&mut node);
            node.machine.start_kubelet();
            // Nobody has registered: the kubelet rejects the pod for good (kubernetes #125579, open).
            match until_decided(&node, "p", &before.container) {
                Ok(()) => panic!("the kubelet admitted a pod without its device"),
                Err(message) => figure(&format!("the kubelet says: {message}")),
            }
            node.daemon.start();
            node.until_all_offered();
            assert_eq!(offered(), ids, "the IDs that the kubelet knows");
            // All of them can be had, the dead pod's among them.
            let all: Vec<String> = (0..MIG_COUNT).map(|n| format!("later-{n}")).collect();
            for name in &all {
                node.machine.create(&pod(name).with(MIG, 1));
            }
            for name in &all {
                node.machine.until_running(name);
            }
        },
    );
}

/// Power off and on, as far as the operator's layout and the runtime.
fn reboot(node: &mut Node) {
    node.daemon.kill_9();
    node.machine.power_off();
    node.gpus.power_cycle();
    node.gpus.cut();
    node.machine.start_containerd();
}

/// Waits until the kubelet has started a pod's container anew, or rejected the pod and said why.
#[track_caller]
fn until_decided(node: &Node, name: &str, old_container: &str) -> Result<(), String> {
    until(
        format_args!("{name} to be decided upon"),
        Duration::from_secs(40),
        || {
            let pod = node.machine.pod(name);
            if pod["status"]["phase"] == "Failed" {
                return Look::Found(Err(pod["status"]["message"].to_string()));
            }
            let main = main_status(&pod);
            let new = main["containerID"]
                .as_str()
                .is_some_and(|id| id != old_container);
            if new && main["state"]["running"].is_object() {
                Look::Found(Ok(()))
            } else {
                Look::NotYet(main.to_string())
            }
        },
    )
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
