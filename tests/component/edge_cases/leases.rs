//! Leases of the real daemon: rows 4, 8, 10, 11, 12, 19.

use std::collections::BTreeSet;

use gpushared_proto::deviceplugin::HEALTHY;
use gpushared_tests::{ContainerSpec, Event, PodResourcesMode, PodSpec};
use tonic::Code;

use super::{GPU, Node};
use crate::plugin_under_test::{allocate, dial};

/// The whole way of one pod, as the other tests presume it.
#[tokio::test]
async fn a_pod_gets_a_gpu_through_cdi_and_gives_it_back() {
    let node = Node::new("a100-40gb:2").await;
    node.kubelet.wait_for_allocatable(GPU, 2).await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    let container = node.kubelet.container(&pod, "main").unwrap();
    assert_eq!(container.cdi_devices.len(), 1, "{container:?}");
    // without root the simulated nodes are plain files, which are mounted
    let nodes = container
        .device_nodes
        .iter()
        .map(|node| &node.container_path);
    let stand_ins = container.mounts.iter().map(|mount| &mount.container_path);
    let gpus: Vec<_> = nodes.chain(stand_ins).filter(|path| is_gpu(path)).collect();
    assert_eq!(gpus.len(), 1, "one GPU and no other: {gpus:?}");
    node.until_leased(1).await;
    node.kubelet.remove_pod(&pod);
    node.until_leased(0).await;
}

/// The same for nodes whose runtime has no CDI: device nodes and mounts in the answer itself.
#[tokio::test]
async fn a_pod_gets_a_gpu_by_device_nodes_where_there_is_no_cdi() {
    let mut node = Node::new("a100-40gb:2").await;
    node.daemon.term().await;
    node.config = node.config.replace(
        "deviceListStrategy: cdi",
        "deviceListStrategy: device-nodes",
    );
    node.start_daemon();
    node.daemon.wait_ready().await;
    node.kubelet.wait_for_allocatable(GPU, 2).await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    let container = node.kubelet.container(&pod, "main").unwrap();
    assert!(container.cdi_devices.is_empty(), "{container:?}");
    let gpus = container
        .device_nodes
        .iter()
        .filter(|node| is_gpu(&node.container_path))
        .count();
    assert_eq!(gpus, 1, "{:?}", container.device_nodes);
    node.kubelet.restart_container(&pod, "main").await.unwrap();
    assert_eq!(std::fs::read_dir(node.dirs.cdi()).unwrap().count(), 0);
}

/// The kubelet keeps the first of two values for one name and says nothing, so there must not be two.
#[tokio::test]
async fn two_resources_of_one_container_do_not_contradict_each_other() {
    const MIG: [&str; 2] = ["nvidia.com/mig-1g.5gb", "nvidia.com/mig-2g.10gb"];
    for strategy in ["cdi", "device-nodes"] {
        let mut node = Node::before_ready("a100-40gb:2", |gpus| {
            gpus.enable_mig(1);
            gpus.create_mig(1, "1g.5gb", 1);
            gpus.create_mig(1, "2g.10gb", 1);
        })
        .await;
        node.daemon.term().await;
        node.config = node.config.replace(
            "deviceListStrategy: cdi",
            &format!("deviceListStrategy: {strategy}"),
        );
        node.start_daemon();
        node.daemon.wait_ready().await;
        for resource in [GPU, MIG[0], MIG[1]] {
            node.kubelet.wait_for_allocatable(resource, 1).await;
        }
        let main = ContainerSpec::new("main")
            .limit(GPU, 1)
            .limit(MIG[0], 1)
            .limit(MIG[1], 1);
        let pod = PodSpec::new("a").container(main);
        let pod = node.kubelet.run_pod(pod).await.unwrap();
        let container = node.kubelet.container(&pod, "main").unwrap();
        assert_eq!(container.env["NVIDIA_VISIBLE_DEVICES"], "void");
        assert!(!container.env.contains_key("CUDA_VISIBLE_DEVICES"));
        let conflicts = |event: &Event| matches!(event, Event::Conflict { .. });
        assert!(!node.kubelet.events().iter().any(conflicts), "{strategy}");
    }
}

/// `/dev/nvidia0`, not `/dev/nvidiactl`.
fn is_gpu(path: &str) -> bool {
    let number = path.strip_prefix("/dev/nvidia");
    number.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// Row 4: leases are known before the first list; the IDs are the same, and none is missing.
#[tokio::test]
async fn a_restarted_daemon_knows_its_leases_and_never_offers_less() {
    for graceful in [false, true] {
        let mut node = Node::new("a100-40gb:2").await;
        let pod = node
            .kubelet
            .run_pod(PodSpec::one("a", GPU, 1))
            .await
            .unwrap();
        node.until_leased(1).await;
        let before: BTreeSet<String> = node.kubelet.devices(GPU).into_keys().collect();
        let lists = lists_of(&node).len();
        if graceful {
            assert_eq!(node.daemon.term().await.code(), Some(0));
        } else {
            node.daemon.kill9();
        }
        node.start_daemon();
        node.daemon.wait_ready().await;
        node.kubelet.wait_for_allocatable(GPU, 2).await;
        assert_eq!(node.leased().await, 1);
        for list in &lists_of(&node)[lists..] {
            let ids: BTreeSet<String> = list.iter().map(|(id, _)| id.clone()).collect();
            assert_eq!(ids, before);
            assert!(list.iter().all(|(_, health)| health == HEALTHY), "{list:?}");
        }
        assert!(node.kubelet.is_running(&pod, "main"));
        let other = node
            .kubelet
            .run_pod(PodSpec::one("b", GPU, 1))
            .await
            .unwrap();
        let ids = |pod| {
            node.kubelet
                .container(pod, "main")
                .unwrap()
                .ids(GPU)
                .to_vec()
        };
        assert_ne!(ids(&pod), ids(&other));
    }
}

fn lists_of(node: &Node) -> Vec<Vec<(String, String)>> {
    let events = node.kubelet.events().into_iter();
    let list = |event| match event {
        Event::Listed { resource, devices } if resource == GPU => Some(devices),
        _ => None,
    };
    events.filter_map(list).collect()
}

/// Row 4: daemon and kubelet end together, and come back in either order.
#[tokio::test]
async fn a_pod_survives_the_end_of_daemon_and_kubelet_together() {
    for daemon_first in [false, true] {
        let mut node = Node::new("a100-40gb:1").await;
        let pod = node
            .kubelet
            .run_pod(PodSpec::one("a", GPU, 1))
            .await
            .unwrap();
        node.daemon.kill9();
        node.kubelet.kill9();
        if daemon_first {
            node.start_daemon();
        }
        node.kubelet.start(gpushared_tests::Start::default()).await;
        if !daemon_first {
            node.start_daemon();
        }
        node.kubelet.wait_for_allocatable(GPU, 1).await;
        assert!(node.kubelet.readmit_pods().await.is_empty());
        node.kubelet.restart_container(&pod, "main").await.unwrap();
        node.until_leased(1).await;
    }
}

/// Row 8.
#[tokio::test]
async fn allocate_of_an_unhealthy_id_is_refused_without_a_lease() {
    let node = Node::new("a100-40gb:1").await;
    let id = node.kubelet.devices(GPU).into_keys().next().unwrap();
    node.gpus.lose(0);
    node.kubelet.wait_for_allocatable(GPU, 0).await;
    let socket = node
        .dirs
        .kubelet()
        .join("device-plugins/gpushared/gpu.sock");
    let refusal = allocate(&mut dial(&socket).await, &[&id])
        .await
        .unwrap_err();
    assert_ne!(refusal.code(), Code::Unknown, "{refusal}");
    assert!(refusal.message().contains(&id), "{refusal}");
    assert_eq!(node.leased().await, 0);
}

/// Row 10: no release is ever announced; the kubelet knows better, also while `PodResources` is away.
#[tokio::test]
async fn allocate_of_a_leased_id_for_a_new_pod_is_granted_under_a_new_cdi_name() {
    let node = Node::new("a100-40gb:1").await;
    let first = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    node.until_leased(1).await;
    node.kubelet
        .set_pod_resources(PodResourcesMode::Unavailable);
    node.kubelet.remove_pod(&first);
    let second = node
        .kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap();
    let container = |pod| node.kubelet.container(pod, "main").unwrap();
    assert_eq!(container(&first).ids(GPU), container(&second).ids(GPU));
    assert_ne!(
        container(&first).cdi_devices,
        container(&second).cdi_devices
    );
    node.kubelet.set_pod_resources(PodResourcesMode::Serving);
    node.stays_leased(1).await;
    node.kubelet
        .restart_container(&second, "main")
        .await
        .unwrap();
}

/// Row 11: the CPU manager rejects a pod that has been allocated already.
#[tokio::test]
async fn the_lease_of_a_pod_rejected_after_allocate_is_reclaimed() {
    let node = Node::new("a100-40gb:1").await;
    let doomed = PodSpec::one("a", GPU, 1);
    let doomed =
        doomed.rejected_after_allocate("OutOfcpu", "Node didn't have enough resource: cpu");
    node.kubelet.run_pod(doomed).await.unwrap_err();
    assert_eq!(node.leased().await, 1, "not before the grace is over");
    node.until_leased(0).await;
    node.kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap();
}

/// Row 12: a container restarts with its old answer after the daemon was replaced.
#[tokio::test]
async fn a_container_restarts_with_its_old_answer_after_the_daemon_was_replaced() {
    let mut node = Node::new("a100-40gb:1").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    let before = node.kubelet.container(&pod, "main").unwrap();
    for _ in 0..2 {
        node.daemon.kill9();
        node.start_daemon();
        node.daemon.wait_ready().await;
        node.kubelet.wait_for_allocatable(GPU, 1).await;
        let after = node.kubelet.restart_container(&pod, "main").await.unwrap();
        assert_eq!(after, before);
    }
}

/// Row 12: the CDI file of an ended pod goes away, others stay.
#[tokio::test]
async fn a_cdi_spec_lives_as_long_as_its_lease() {
    let node = Node::new("a100-40gb:2").await;
    let specs = || std::fs::read_dir(node.dirs.cdi()).unwrap().count();
    let first = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    let second = node
        .kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap();
    node.until_leased(2).await;
    assert_eq!(specs(), 2);
    node.kubelet.remove_pod(&first);
    node.until_leased(1).await;
    gpushared_tests::wait_until("the first spec is gone", || specs() == 1).await;
    node.kubelet
        .restart_container(&second, "main")
        .await
        .unwrap();
}

/// Row 19.
#[tokio::test]
async fn nothing_is_released_while_pod_resources_does_not_answer() {
    for mode in [PodResourcesMode::Unavailable, PodResourcesMode::Hanging] {
        let node = Node::new("a100-40gb:1").await;
        let pod = node
            .kubelet
            .run_pod(PodSpec::one("a", GPU, 1))
            .await
            .unwrap();
        node.until_leased(1).await;
        node.kubelet.set_pod_resources(mode);
        node.stays_leased(1).await;
        node.kubelet.set_pod_resources(PodResourcesMode::Serving);
        node.kubelet.restart_container(&pod, "main").await.unwrap();
        node.kubelet.remove_pod(&pod);
        node.until_leased(0).await;
    }
}

/// A kubelet that was just started lists no pod until it has heard of them, which takes as long as its API server does.
#[tokio::test]
async fn nothing_is_released_while_a_restarted_kubelet_does_not_know_its_pods_yet() {
    let node = Node::new("a100-40gb:1").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    node.until_leased(1).await;
    node.kubelet.set_pod_resources(PodResourcesMode::BeforePods);
    node.kubelet.restart_by_kill9().await;
    node.stays_leased(1).await;
    node.kubelet.wait_for_allocatable(GPU, 1).await;
    assert!(node.kubelet.readmit_pods().await.is_empty());
    node.kubelet.set_pod_resources(PodResourcesMode::Serving);
    node.kubelet.restart_container(&pod, "main").await.unwrap();
    node.kubelet.remove_pod(&pod);
    node.until_leased(0).await;
}

/// PodResources never shows ordinary init containers, and the kubelet keeps their devices for the life of the pod.
#[tokio::test]
async fn the_gpu_of_an_init_container_stays_leased_as_long_as_its_pod_lives() {
    let node = Node::new("a100-40gb:1").await;
    let spec = PodSpec::new("a")
        .init(ContainerSpec::new("prepare").limit(GPU, 1))
        .container(ContainerSpec::new("main"));
    let pod = node.kubelet.run_pod(spec).await.unwrap();
    node.stays_leased(1).await;
    node.kubelet
        .restart_container(&pod, "prepare")
        .await
        .unwrap();
    node.kubelet.remove_pod(&pod);
    node.until_leased(0).await;
}

/// The journal is lost while the kubelet does not answer either: its checkpoint still has the answer that it replays.
#[tokio::test]
async fn a_lost_journal_costs_no_running_pod_its_cdi_file() {
    let mut node = Node::new("a100-40gb:1").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    node.until_leased(1).await;
    node.kubelet
        .set_pod_resources(PodResourcesMode::Unavailable);
    node.daemon.kill9();
    std::fs::remove_dir_all(node.dirs.lib()).unwrap();
    for _ in 0..2 {
        node.start_daemon();
        node.daemon.wait_ready().await;
        assert_eq!(node.leased().await, 1);
        node.kubelet.restart_container(&pod, "main").await.unwrap();
        node.daemon.kill9();
    }
    node.kubelet.set_pod_resources(PodResourcesMode::Serving);
    node.start_daemon();
    node.daemon.wait_ready().await;
    node.stays_leased(1).await;
    node.kubelet.remove_pod(&pod);
    node.until_leased(0).await;
    assert_eq!(std::fs::read_dir(node.dirs.cdi()).unwrap().count(), 0);
}

/// Row 19: a StatefulSet's pod comes back under its old name, without a UID to tell them apart.
#[tokio::test]
async fn a_pod_of_the_same_name_keeps_its_lease_and_the_old_one_is_released() {
    let node = Node::new("a100-40gb:2").await;
    let first = node
        .kubelet
        .run_pod(PodSpec::one("db-0", GPU, 1))
        .await
        .unwrap();
    node.until_leased(1).await;
    node.kubelet.delete_pod(&first);
    let second = node
        .kubelet
        .run_pod(PodSpec::one("db-0", GPU, 1))
        .await
        .unwrap();
    node.until_leased(2).await;
    node.kubelet.finish_termination(&first);
    node.until_leased(1).await;
    node.stays_leased(1).await;
    node.kubelet
        .restart_container(&second, "main")
        .await
        .unwrap();
}

/// A pod that is being deleted holds its device until the kubelet knows that nothing of it is left.
#[tokio::test]
async fn a_terminating_pod_keeps_its_lease() {
    let node = Node::new("a100-40gb:1").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    node.until_leased(1).await;
    node.kubelet.delete_pod(&pod);
    node.stays_leased(1).await;
    node.kubelet.finish_termination(&pod);
    node.until_leased(0).await;
}
