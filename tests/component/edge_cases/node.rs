//! The node around the real daemon: rows 5, 6, 15, 16, 18, 20, and the further cases that apply.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use gpushared_tests::{
    DaemonUnderTest, Frozen, NodeDirs, PodError, PodSpec, SimNode, Start, daemon_config, wait_until,
};

use super::{GPU, Node};

const MIG: &str = "nvidia.com/mig-1g.5gb";

/// Row 5: a surge update starts the new daemon while the old one runs.
#[tokio::test]
async fn a_second_daemon_waits_and_takes_over_when_the_first_ends() {
    for graceful in [false, true] {
        let mut node = Node::new("a100-40gb:1").await;
        let pod = node
            .kubelet
            .run_pod(PodSpec::one("a", GPU, 1))
            .await
            .unwrap();
        let mut second = DaemonUnderTest::start(&node.dirs, &node.config);
        let waits = || second.log().contains("Another gpushared runs on this node");
        wait_until("the second daemon waits", waits).await;
        assert_eq!(node.kubelet.registrations(GPU), 1);
        if graceful {
            node.daemon.term().await;
        } else {
            node.daemon.kill9();
        }
        second.wait_ready().await;
        node.kubelet.wait_for_allocatable(GPU, 1).await;
        node.daemon = second;
        node.kubelet.restart_container(&pod, "main").await.unwrap();
        assert_eq!(node.leased().await, 1);
    }
}

/// Row 6.
#[tokio::test]
async fn a_gpu_that_falls_off_the_bus_stays_listed_as_unhealthy() {
    let node = Node::new("a100-40gb:2").await;
    let pods = [
        node.kubelet
            .run_pod(PodSpec::one("a", GPU, 1))
            .await
            .unwrap(),
        node.kubelet
            .run_pod(PodSpec::one("b", GPU, 1))
            .await
            .unwrap(),
    ];
    let before: BTreeSet<String> = node.kubelet.devices(GPU).into_keys().collect();
    node.gpus.lose(1);
    node.kubelet.wait_for_allocatable(GPU, 1).await;
    let after: BTreeSet<String> = node.kubelet.devices(GPU).into_keys().collect();
    assert_eq!((node.kubelet.capacity(GPU), after), (Some(2), before));
    let unhealthy = pods.iter().filter(|pod| {
        let status = node.kubelet.allocated_resources(pod);
        status["main"][GPU].values().any(|healthy| !healthy)
    });
    assert_eq!(unhealthy.count(), 1, "one pod's status shows it");
}

/// Row 6, with the driver's own bookkeeping gone: the GPU is not even enumerated any more.
#[tokio::test]
async fn a_gpu_that_was_pulled_out_stays_listed_also_by_a_daemon_that_starts_without_it() {
    let mut node = Node::new("a100-40gb:2").await;
    node.kubelet
        .run_pod(PodSpec::one("a", GPU, 2))
        .await
        .unwrap();
    node.until_leased(2).await;
    node.gpus.gpusim(&["unplug"], &["--gpu", "1"]);
    node.kubelet.wait_for_allocatable(GPU, 1).await;
    assert_eq!(node.kubelet.capacity(GPU), Some(2));
    node.daemon.kill9();
    node.start_daemon();
    node.kubelet.wait_for_allocatable(GPU, 0).await;
    node.kubelet.wait_for_allocatable(GPU, 1).await;
    assert_eq!(node.kubelet.capacity(GPU), Some(2));
}

/// Row 15: every driver call takes longer than the kubelet's patience would.
#[tokio::test]
async fn a_hung_driver_does_not_hold_up_admission() {
    let node = Node::new("a100-40gb:1").await;
    node.gpus.delay("*", 60_000);
    let start = Instant::now();
    let outcome = node.kubelet.run_pod(PodSpec::one("a", GPU, 1)).await;
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(node.kubelet.violations(), [], "{outcome:?}");
    let plain = PodSpec::new("b").container(gpushared_tests::ContainerSpec::new("main"));
    node.kubelet.run_pod(plain).await.unwrap();
    node.gpus.heal();
}

/// Row 15, at its worst: the daemon is there and does nothing. The kubelet has no deadline of its own,
/// so admission stands still; it must go on when the daemon does.
#[tokio::test]
async fn a_frozen_daemon_answers_when_it_goes_on() {
    let node = Node::new("a100-40gb:1").await;
    node.daemon.freeze(Frozen::Yes);
    let stat = format!("/proc/{}/stat", node.daemon.pid());
    let stopped = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
    wait_until("the daemon is frozen", stopped).await;
    let pod = node.kubelet.submit(PodSpec::one("a", GPU, 1));
    let thaw = async {
        // What is frozen gives no sign: the tasks of the kubelet's side run until all of them wait for it.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!node.kubelet.is_running(&pod, "main"));
        node.daemon.freeze(Frozen::No);
    };
    let (outcome, ()) = tokio::join!(node.kubelet.admit(&pod), thaw);
    outcome.unwrap();
    node.kubelet.start_containers(&pod).await.unwrap();
}

/// Row 16: a kubelet root that is too deep, said at start with the rule.
#[tokio::test]
async fn a_kubelet_directory_too_deep_for_a_socket_is_a_configuration_mistake() {
    let dirs = NodeDirs::new();
    let gpus = SimNode::new(&dirs.root().join("gpus"), "a100-40gb:1");
    let deep = dirs.root().join("d".repeat(100));
    let config = daemon_config(&dirs, &gpus);
    let kubelet = dirs.kubelet().display().to_string();
    let config = config.replace(&kubelet, &deep.display().to_string());
    let mut daemon = DaemonUnderTest::start(&dirs, &config);
    assert_eq!(
        daemon.wait_exit().await.code(),
        Some(64),
        "{}",
        daemon.log()
    );
    assert!(daemon.log().contains("107"), "{}", daemon.log());
}

/// A resource that was renamed stays registered, with an empty list, beside its successor.
#[tokio::test]
async fn a_resource_may_be_renamed_to_another_domain() {
    let mut node = Node::new("a100-40gb:1").await;
    node.daemon.term().await;
    node.config
        .push_str("resources:\n  gpu:\n    name: example.com/gpu\n");
    node.kubelet.restart_by_kill9().await;
    node.start_daemon();
    node.daemon.wait_ready().await;
    node.kubelet
        .wait_for_allocatable("example.com/gpu", 1)
        .await;
    node.kubelet.wait_for_allocatable(GPU, 0).await;
}

/// Row 18: a directory that cannot be used is said, waited for, and used when it can be.
#[tokio::test]
async fn a_daemon_without_a_kubelet_is_alive_not_ready_and_registers_later() {
    let dirs = NodeDirs::new();
    let gpus = SimNode::new(&dirs.root().join("gpus"), "a100-40gb:1");
    let daemon = DaemonUnderTest::start(&dirs, &daemon_config(&dirs, &gpus));
    let start = Instant::now();
    loop {
        if daemon
            .get("/livez")
            .await
            .is_ok_and(|(status, _)| status == 200)
        {
            break;
        }
        assert!(
            start.elapsed() < gpushared_tests::PATIENCE,
            "{}",
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, waiting) = daemon.get("/readyz").await.unwrap();
    assert_eq!(status, 503, "{waiting}");
    assert!(
        waiting.contains("kubelet") || waiting.contains("nvidia.com/gpu"),
        "{waiting}"
    );
    let kubelet = gpushared_tests::FakeKubelet::builder(dirs.kubelet())
        .start()
        .await;
    kubelet.wait_for_allocatable(GPU, 1).await;
}

/// Row 20: same IDs, the same pods, before and after; the CDI directory was lost with the memory.
#[tokio::test]
async fn after_a_reboot_the_same_ids_are_listed_and_pods_start_again() {
    let mut node = Node::new("a100-40gb:2").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    let before = node.kubelet.devices(GPU);
    node.daemon.kill9();
    node.gpus.reboot();
    node.dirs.lose_volatile();
    node.kubelet.reboot(Start::default()).await;
    node.start_daemon();
    node.kubelet.wait_for_allocatable(GPU, 2).await;
    assert_eq!(node.kubelet.devices(GPU), before);
    assert!(node.kubelet.readmit_pods().await.is_empty());
    node.kubelet.start_containers(&pod).await.unwrap();
    assert_eq!(node.kubelet.starts(&pod, "main"), 2);
    node.until_leased(1).await;
}

/// Row 20: MIG devices do not survive a reboot; their IDs do, without anything behind them.
#[tokio::test]
async fn after_a_reboot_lost_mig_devices_are_listed_as_unhealthy_until_they_are_back() {
    let mut node = Node::before_ready("a100-40gb:1", |gpus| {
        gpus.enable_mig(0);
        gpus.create_mig(0, "1g.5gb", 3);
    })
    .await;
    node.daemon.wait_ready().await;
    node.kubelet.wait_for_allocatable(MIG, 3).await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", MIG, 1))
        .await
        .unwrap();
    let before: BTreeSet<String> = node.kubelet.devices(MIG).into_keys().collect();
    node.until_leased(1).await;
    node.daemon.kill9();
    node.gpus.reboot();
    node.dirs.lose_volatile();
    node.kubelet.reboot(Start::default()).await;
    node.start_daemon();
    wait_until("the held ID is listed again", || {
        let held = node
            .kubelet
            .container(&pod, "main")
            .unwrap()
            .ids(MIG)
            .to_vec();
        held.iter()
            .all(|id| node.kubelet.devices(MIG).contains_key(id))
    })
    .await;
    node.gpus.create_mig(0, "1g.5gb", 3);
    node.kubelet.wait_for_allocatable(MIG, 3).await;
    let after: BTreeSet<String> = node.kubelet.devices(MIG).into_keys().collect();
    assert_eq!(
        after, before,
        "an ID is a place: the same devices have the same IDs"
    );
}

/// A further case: an operator takes MIG devices apart that nobody holds, and makes others.
#[tokio::test]
async fn mig_devices_that_an_operator_removes_stay_listed_as_unhealthy() {
    let node = Node::before_ready("a100-40gb:1", |gpus| {
        gpus.enable_mig(0);
        gpus.create_mig(0, "1g.5gb", 2);
    })
    .await;
    node.kubelet.wait_for_allocatable(MIG, 2).await;
    node.gpus
        .gpusim(&["mig", "destroy"], &["--gpu", "0", "--all"]);
    node.kubelet.wait_for_allocatable(MIG, 0).await;
    assert_eq!(node.kubelet.capacity(MIG), Some(2));
    node.gpus.create_mig(0, "1g.5gb", 1);
    node.kubelet.wait_for_allocatable(MIG, 1).await;
}

/// The driver gives the number of an instance to the next one: a container that starts again must not get that.
#[tokio::test]
async fn a_container_whose_mig_device_is_gone_does_not_start_with_the_next_one() {
    let node = Node::before_ready("a100-40gb:1", |gpus| {
        gpus.enable_mig(0);
        gpus.create_mig(0, "1g.5gb", 1);
    })
    .await;
    node.kubelet.wait_for_allocatable(MIG, 1).await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", MIG, 1))
        .await
        .unwrap();
    node.gpus
        .gpusim(&["mig", "destroy"], &["--gpu", "0", "--all"]);
    node.gpus.create_mig(0, "2g.10gb", 1);
    node.kubelet
        .wait_for_allocatable("nvidia.com/mig-2g.10gb", 1)
        .await;
    node.kubelet
        .restart_container(&pod, "main")
        .await
        .unwrap_err();
    node.gpus
        .gpusim(&["mig", "destroy"], &["--gpu", "0", "--all"]);
    node.gpus.create_mig(0, "1g.5gb", 1);
    node.kubelet.wait_for_allocatable(MIG, 1).await;
    node.kubelet.restart_container(&pod, "main").await.unwrap();
}

/// A further case: the resource is taken out of the configuration while a pod holds a device.
#[tokio::test]
async fn a_resource_that_is_no_longer_offered_leaves_its_pods_alone() {
    let mut node = Node::new("a100-40gb:1").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    node.until_leased(1).await;
    node.daemon.term().await;
    node.config
        .push_str("resources:\n  gpu:\n    offer: false\n");
    node.start_daemon();
    let start = Instant::now();
    while !node
        .daemon
        .get("/livez")
        .await
        .is_ok_and(|(status, _)| status == 200)
    {
        assert!(
            start.elapsed() < gpushared_tests::PATIENCE,
            "{}",
            node.daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.kubelet.wait_for_allocatable(GPU, 0).await;
    let error = node
        .kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap_err();
    assert!(matches!(error, PodError::Rejected { .. }), "{error}");
    assert!(node.kubelet.is_running(&pod, "main"));
    assert_eq!(
        fs::read_dir(node.dirs.cdi()).unwrap().count(),
        1,
        "its CDI spec stays"
    );
}

/// A further case: the configuration is read again on SIGHUP, and a wrong one changes nothing.
#[tokio::test]
async fn a_wrong_configuration_on_reload_changes_nothing() {
    let node = Node::new("a100-40gb:1").await;
    fs::write(node.dirs.etc().join("config.yaml"), "driver: [").unwrap();
    node.daemon.hup();
    let said = |times| {
        node.daemon
            .log()
            .matches("Configuration not reloaded")
            .count()
            == times
    };
    wait_until("the daemon says that it did not reload", || said(1)).await;
    fs::remove_file(node.dirs.etc().join("config.yaml")).unwrap();
    node.daemon.hup();
    wait_until("a file that is gone is no configuration", || said(2)).await;
    node.kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
}

/// Row 17: whole GPUs and MIG devices on one node never share an ID, and the fake would say so.
#[tokio::test]
async fn ids_are_unique_over_all_resources_of_a_mixed_node() {
    let node = Node::before_ready("a100-40gb:2", |gpus| {
        gpus.enable_mig(1);
        gpus.create_mig(1, "1g.5gb", 2);
        gpus.create_mig(1, "2g.10gb", 1);
    })
    .await;
    node.kubelet.wait_for_allocatable(MIG, 2).await;
    node.kubelet
        .wait_for_allocatable("nvidia.com/mig-2g.10gb", 1)
        .await;
    node.kubelet.wait_for_allocatable(GPU, 1).await;
    assert_eq!(node.kubelet.violations(), []);
    let mut all = Vec::new();
    for resource in node.kubelet.resources() {
        all.extend(node.kubelet.devices(&resource).into_keys());
    }
    let unique: BTreeSet<&String> = all.iter().collect();
    assert_eq!(unique.len(), all.len(), "{all:?}");
}

/// A further case: the driver's files are replaced under running pods. The lease and the listed IDs
/// stay, and the daemon offers the node again when driver and library agree.
#[tokio::test]
async fn a_driver_upgrade_under_running_pods_costs_no_lease() {
    let mut node = Node::new("a100-40gb:1").await;
    let pod = node
        .kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap();
    let before = node.kubelet.devices(GPU);
    node.until_leased(1).await;
    node.daemon.term().await;
    node.gpus.gpusim(&["driver"], &["--mismatch"]);
    node.start_daemon();
    let code = node.daemon.wait_exit().await.code();
    assert!(
        matches!(code, Some(69 | 75)),
        "{code:?}: {}",
        node.daemon.log()
    );
    assert!(node.kubelet.is_running(&pod, "main"));
    node.gpus.gpusim(&["driver"], &["--load"]);
    node.start_daemon();
    node.daemon.wait_ready().await;
    node.kubelet.wait_for_allocatable(GPU, 1).await;
    assert_eq!(node.kubelet.devices(GPU), before);
    assert_eq!(node.leased().await, 1);
    node.kubelet.restart_container(&pod, "main").await.unwrap();
}
