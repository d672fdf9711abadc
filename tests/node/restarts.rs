//! The daemon, the kubelet, or both die without a word while pods run.

use std::time::Duration;

use crate::case::{Setting, case, figure};
use crate::component::signal;
use crate::daemon::{Node, Strategy};
use crate::gpus::{GPU, GPU_COUNT, MIG, MIG_COUNT};
use crate::pods::{main_status, pod};
use crate::wait::{Look, until, until_eq};

/// What the daemon may take from the birth of `kubelet.sock` to the last registration.
const REGISTRATION: Duration = Duration::from_millis(200);

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_killed_daemon_comes_back_to_the_same_assignment() {
    case(
        "a_killed_daemon_comes_back_to_the_same_assignment",
        |setting| {
            survives(setting, |node| {
                node.daemon.kill_9();
                node.machine.until_allocatable(MIG, 0);
                node.daemon.start();
            });
        },
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_stopped_daemon_leaves_the_pods_alone() {
    case("a_stopped_daemon_leaves_the_pods_alone", |setting| {
        survives(setting, |node| {
            let status = node.daemon.stop().expect("the daemon ran");
            assert!(status.success(), "{status}");
            node.machine.until_allocatable(MIG, 0);
            node.daemon.start();
        });
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_killed_kubelet_finds_the_devices_back_at_once() {
    case(
        "a_killed_kubelet_finds_the_devices_back_at_once",
        |setting| {
            survives(setting, |node| {
                node.machine.kubelet.kill_9();
                node.machine.launch_kubelet();
                let delay = node.until_registered();
                figure(&format!(
                    "all resources registered {:.1} ms after kubelet.sock appeared",
                    delay.as_secs_f64() * 1e3
                ));
                assert!(
                    delay < REGISTRATION,
                    "{delay:?} is more than {REGISTRATION:?}"
                );
                node.machine.until_ready();
            });
        },
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn both_killed_and_the_daemon_back_first() {
    case("both_killed_and_the_daemon_back_first", |setting| {
        survives(setting, |node| {
            node.machine.kubelet.kill_9();
            node.daemon.kill_9();
            node.daemon.start();
            node.machine.start_kubelet();
        });
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn both_killed_and_the_kubelet_back_first() {
    case("both_killed_and_the_kubelet_back_first", |setting| {
        survives(setting, |node| {
            node.daemon.kill_9();
            node.machine.kubelet.kill_9();
            node.machine.start_kubelet();
            node.machine.until_allocatable(MIG, 0);
            node.daemon.start();
        });
    });
}

/// Two pods run; whatever `disaster` does, they do not notice, and the node offers everything
/// again afterwards and can give it out.
fn survives(setting: &Setting, disaster: impl FnOnce(&mut Node)) {
    let mut node = Node::boot(setting, Strategy::Cdi);
    let before = [("m", MIG), ("g", GPU)].map(|(name, resource)| {
        node.machine.run(&pod(name).with(resource, 1));
        (name, node.machine.incarnation(name))
    });

    disaster(&mut node);

    node.until_all_offered();
    for (name, incarnation) in &before {
        node.machine.goes_on(name, incarnation);
    }
    node.machine.run(&pod("later").with(MIG, 1));
    let later = node.machine.assigned("later");
    assert!(
        later.is_disjoint(&before[0].1.devices),
        "{later:?} was given out twice"
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_finished_init_container_does_not_cost_the_pod_its_life() {
    case(
        "a_finished_init_container_does_not_cost_the_pod_its_life",
        |setting| {
            // The new kubelet waves running containers through and looks for the devices of all
            // others, the init container's among them (kubernetes #133382).
            let wanted = |name: &str| pod(name).with(MIG, 1).init("true");
            let mut node = Node::boot(setting, Strategy::Cdi);
            node.machine.run(&wanted("p"));
            let before = node.machine.incarnation("p");
            node.machine.kubelet.kill_9();
            node.machine.start_kubelet();
            node.until_all_offered();
            node.machine.goes_on("p", &before);
        },
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_crash_looping_pod_outlives_a_killed_kubelet() {
    case("a_crash_looping_pod_outlives_a_killed_kubelet", |setting| {
        let mut node = Node::boot(setting, Strategy::Cdi);
        let machine = &mut node.machine;
        machine.create(&pod("crash").with(MIG, 1).script("exit 1"));
        until(
            "two restarts of the crashing pod",
            Duration::from_secs(40),
            || match machine.restarts("crash") {
                0 | 1 => Look::NotYet("fewer".to_owned()),
                _ => Look::Found(()),
            },
        );
        let assigned = machine.assigned("crash");

        // The container is not running when the new kubelet looks at its pods: if the resource is
        // not registered by then, the kubelet rejects the pod for good (kubernetes #138446).
        machine.kubelet.kill_9();
        machine.start_kubelet();

        let seen = machine.restarts("crash");
        until(
            "the pod to be restarted further",
            Duration::from_secs(40),
            || {
                let pod = machine.pod("crash");
                assert!(
                    pod["status"]["phase"] != "Failed",
                    "the pod was rejected: {}",
                    pod["status"]["message"]
                );
                match machine.restarts("crash") {
                    more if more > seen + 1 => Look::Found(()),
                    same => Look::NotYet(format!("{same} restarts")),
                }
            },
        );
        assert_eq!(machine.assigned("crash"), assigned);
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_container_that_ends_while_the_daemon_is_down_comes_back() {
    case(
        "a_container_that_ends_while_the_daemon_is_down_comes_back",
        |setting| {
            let mut node = Node::boot(setting, Strategy::Cdi);
            let before = node.machine.run(&pod("p").with(MIG, 1));
            let first = node.machine.incarnation("p");

            node.daemon.kill_9();
            // Only when the kubelet has seen the stream end does it know that the daemon is gone.
            node.machine.until_allocatable(MIG, 0);
            signal(first.process, "TERM");
            let waits = until(
                "the container to be restarted",
                Duration::from_secs(30),
                || {
                    let main = main_status(&node.machine.pod("p"));
                    if main["state"]["running"].is_object() && main["restartCount"] == 1 {
                        Look::Found(None)
                    } else if main["state"]["waiting"]["reason"] == "CreateContainerConfigError" {
                        Look::Found(
                            main["state"]["waiting"]["message"]
                                .as_str()
                                .map(str::to_owned),
                        )
                    } else {
                        Look::NotYet(main["state"].to_string())
                    }
                },
            );
            // A plugin that asks for PreStartContainer makes the container wait for it; without, the
            // kubelet replays the old answer to Allocate at once.
            figure(&match waits {
                None => "the container started again without the daemon".to_owned(),
                Some(message) => format!("the container waits for the daemon: {message}"),
            });

            node.daemon.start();
            node.until_all_offered();
            until_eq("restarts of p", Duration::from_secs(30), &1, || {
                node.machine.restarts("p")
            });
            node.machine.until_running("p");
            assert_eq!(node.machine.inside("p").devices, before.devices);
            assert_eq!(node.machine.assigned("p"), first.devices);
            assert_eq!(node.machine.capacity(MIG), Some(MIG_COUNT));
            assert_eq!(node.machine.capacity(GPU), Some(GPU_COUNT));
        },
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_daemon_without_its_journal_finds_out_who_has_what() {
    case(
        "a_daemon_without_its_journal_finds_out_who_has_what",
        |setting| {
            let mut node = Node::boot(setting, Strategy::Cdi);
            let before = node.machine.run(&pod("p").with(MIG, 1));
            let first = node.machine.incarnation("p");

            node.daemon.kill_9();
            std::fs::remove_dir_all(node.machine.dir.join("state")).expect("the daemon's state");
            node.daemon.start();
            node.until_all_offered();
            node.machine.goes_on("p", &first);

            // The container's CDI name is known to nobody but the kubelet's checkpoint now.
            signal(first.process, "TERM");
            until_eq("restarts of p", Duration::from_secs(30), &1, || {
                node.machine.restarts("p")
            });
            node.machine.until_running("p");
            assert_eq!(node.machine.inside("p").devices, before.devices);
        },
    );
}
