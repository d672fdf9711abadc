//! What a user reads when a device cannot be given after all.

use std::time::Duration;

use crate::case::case;
use crate::component::signal;
use crate::daemon::{Node, Strategy};
use crate::gpus::MIG;
use crate::pods::pod;
use crate::wait::{Look, until};

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn the_reason_of_a_refused_allocate_is_in_the_pods_status() {
    case(
        "the_reason_of_a_refused_allocate_is_in_the_pods_status",
        |setting| {
            let node = Node::boot(setting, Strategy::Cdi);
            // The MIG devices go while the daemon cannot look: the kubelet still believes in them.
            let daemon = node.daemon.pid().expect("the daemon runs");
            signal(daemon, "STOP");
            node.gpus.uncut();
            node.machine.create(&pod("late").with(MIG, 1));
            until(
                "the kubelet to ask for a device",
                Duration::from_secs(20),
                || {
                    let log = node.machine.kubelet_log();
                    // The kubelet asks which device we prefer first, and waits for the answer.
                    if log.contains("Issuing a GetPreferredAllocation call") {
                        Look::Found(())
                    } else {
                        Look::NotYet("no call".to_owned())
                    }
                },
            );
            signal(daemon, "CONT");

            let pod = until("the pod to be refused", Duration::from_secs(20), || {
                let pod = node.machine.pod("late");
                if pod["status"]["phase"] == "Failed" {
                    Look::Found(pod)
                } else {
                    Look::NotYet(pod["status"].to_string())
                }
            });
            let message = pod["status"]["message"].as_str().unwrap_or_default();
            assert_eq!(pod["status"]["reason"], "UnexpectedAdmissionError");
            crate::case::figure(message);
            assert!(message.contains("Allocate failed due to"), "{message}");
        },
    );
}
