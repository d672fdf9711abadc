//! Kubelet restarts of every kind, and reboots.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use gpushared_proto::deviceplugin::KUBELET_SOCKET;
use gpushared_tests::{
    CHECKPOINT_FILE, Checkpoint, ContainerSpec, Phase, PodSpec, SocketStart, Start, look_within,
    wait_until,
};

use super::{GPU, node_with};
use crate::reference_plugin::{ReferencePlugin, devices};

#[tokio::test]
async fn a_start_wipes_top_level_sockets_and_nothing_else() {
    let (node, kubelet, plugin) = node_with(1).await;
    let dir = node.kubelet().join("device-plugins");
    let socket = dir.join(KUBELET_SOCKET);
    let identity = || {
        fs::metadata(&socket)
            .map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec()))
            .unwrap()
    };
    let before = identity();
    drop(plugin);
    kubelet.kill9();
    assert!(socket.exists(), "a killed kubelet leaves its socket behind");
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("note"), "kept").unwrap();
    drop(UnixListener::bind(dir.join("sub/kept.sock")).unwrap());
    drop(UnixListener::bind(dir.join("wiped.sock")).unwrap());
    kubelet.start(Start::default()).await;
    assert!(dir.join("sub/kept.sock").exists() && dir.join("note").exists());
    assert!(!dir.join("wiped.sock").exists());
    assert!(dir.join(CHECKPOINT_FILE).exists());
    assert_ne!(identity(), before, "the socket is another one");
}

#[tokio::test]
async fn a_stopped_kubelet_removes_its_socket() {
    let (node, kubelet, _plugin) = node_with(1).await;
    kubelet.stop().await;
    assert!(
        !node
            .kubelet()
            .join("device-plugins")
            .join(KUBELET_SOCKET)
            .exists()
    );
    assert!(!kubelet.is_up());
}

#[tokio::test]
async fn capacity_is_zero_and_not_absent_until_the_plugin_is_back() {
    for graceful in [false, true] {
        let (_node, kubelet, plugin) = node_with(2).await;
        plugin.silence();
        if graceful {
            kubelet.restart().await;
        } else {
            kubelet.restart_by_kill9().await;
        }
        assert_eq!(
            (kubelet.capacity(GPU), kubelet.allocatable(GPU)),
            (Some(0), Some(0))
        );
    }
}

#[tokio::test]
async fn a_good_plugin_is_back_after_a_restart_of_either_kind() {
    let (_node, kubelet, _plugin) = node_with(2).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let held = kubelet.allocated(GPU);
    kubelet.restart().await;
    kubelet.wait_for_allocatable(GPU, 2).await;
    kubelet.restart_by_kill9().await;
    kubelet.wait_for_allocatable(GPU, 2).await;
    assert!(kubelet.readmit_pods().await.is_empty());
    assert_eq!(
        (kubelet.allocated(GPU), kubelet.is_running(&pod, "main")),
        (held, true)
    );
}

/// Open upstream as kubernetes/kubernetes#138446.
#[tokio::test]
async fn running_containers_are_waved_through_and_others_cost_the_pod() {
    let (_node, kubelet, plugin) = node_with(3).await;
    let running = kubelet
        .run_pod(PodSpec::one("running", GPU, 1))
        .await
        .unwrap();
    let crashed = kubelet
        .run_pod(PodSpec::one("crashed", GPU, 1))
        .await
        .unwrap();
    kubelet.exit_container(&crashed, "main");
    let with_init = PodSpec::new("with-init")
        .init(ContainerSpec::new("init").limit(GPU, 1))
        .container(ContainerSpec::new("main").limit(GPU, 1));
    let with_init = kubelet.run_pod(with_init).await.unwrap();
    plugin.silence();
    kubelet.restart_by_kill9().await;
    let rejected = kubelet.readmit_pods().await;
    assert_eq!(rejected, [crashed.clone(), with_init.clone()]);
    assert!(kubelet.is_running(&running, "main"));
    let expected = "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate \
                    unhealthy devices example.com/gpu, which is unexpected";
    for pod in [&crashed, &with_init] {
        assert_eq!(kubelet.status(pod).message, expected);
        assert!(!kubelet.is_running(pod, "main"));
    }
}

#[tokio::test]
async fn a_plugin_that_is_back_first_saves_the_pods() {
    let (_node, kubelet, _plugin) = node_with(2).await;
    let pod = kubelet
        .run_pod(PodSpec::one("crashed", GPU, 1))
        .await
        .unwrap();
    kubelet.exit_container(&pod, "main");
    kubelet.restart_by_kill9().await;
    kubelet.wait_for_allocatable(GPU, 2).await;
    assert!(kubelet.readmit_pods().await.is_empty());
    kubelet.start_containers(&pod).await.unwrap();
    assert_eq!(kubelet.starts(&pod, "main"), 2);
}

#[tokio::test]
async fn nothing_is_freed_before_all_sources_are_ready() {
    let (_node, kubelet, _plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let _other = kubelet
        .run_pod(PodSpec::new("b").container(ContainerSpec::new("main")))
        .await;
    kubelet.kill9();
    kubelet.remove_pod(&pod);
    kubelet.start(Start::default()).await;
    kubelet.wait_for_allocatable(GPU, 1).await;
    kubelet
        .run_pod(PodSpec::one("c", GPU, 1))
        .await
        .unwrap_err();
    kubelet.set_sources_ready();
    kubelet.run_pod(PodSpec::one("d", GPU, 1)).await.unwrap();
}

#[tokio::test]
async fn without_a_checkpoint_the_devices_of_running_pods_look_free() {
    for checkpoint in [Checkpoint::Lost, Checkpoint::Corrupt] {
        let (_node, kubelet, _plugin) = node_with(1).await;
        let first = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
        kubelet.kill9();
        kubelet
            .start(Start {
                checkpoint,
                ..Start::default()
            })
            .await;
        // The node object may still show the count from before, so the kubelet's own table is asked.
        wait_until("the plugin is back", || kubelet.healthy(GPU).len() == 1).await;
        kubelet.set_sources_ready();
        let second = kubelet.run_pod(PodSpec::one("b", GPU, 1)).await.unwrap();
        let ids = |pod| kubelet.container(pod, "main").unwrap().ids(GPU).to_vec();
        assert_eq!(ids(&first), ids(&second), "{checkpoint:?}");
    }
}

#[tokio::test]
async fn a_socket_that_is_not_served_yet_keeps_plugins_trying() {
    for socket in [SocketStart::NotAccepting, SocketStart::NotAnswering] {
        let (node, kubelet, _plugin) = node_with(1).await;
        kubelet.kill9();
        kubelet
            .start(Start {
                socket,
                ..Start::default()
            })
            .await;
        assert!(
            node.kubelet()
                .join("device-plugins")
                .join(KUBELET_SOCKET)
                .exists()
        );
        let registered = || (kubelet.registrations(GPU) > 1).then_some(());
        assert!(
            look_within(Duration::from_millis(100), registered)
                .await
                .is_none()
        );
        kubelet.serve();
        kubelet.wait_for_allocatable(GPU, 1).await;
    }
}

#[tokio::test]
async fn a_kubelet_that_is_down_for_long_forgives_and_a_plugin_that_is_does_not_come_back_for_free()
{
    let (_node, kubelet, plugin) = node_with(1).await;
    kubelet.kill9();
    kubelet.clock().advance(Duration::from_secs(3600));
    plugin.silence();
    kubelet.start(Start::default()).await;
    let pod = PodSpec::one("a", GPU, 1);
    let error = kubelet.run_pod(pod.clone()).await.unwrap_err().to_string();
    assert!(
        error.contains("no healthy devices present"),
        "counted from the kubelet's start: {error}"
    );
    kubelet.clock().advance(Duration::from_secs(301));
    assert_eq!(kubelet.capacity(GPU), Some(0));
    // Forgotten: the resource is unknown, and a pod that was put here by hand starts without it.
    kubelet.run_pod(pod).await.unwrap();
}

#[tokio::test]
async fn a_reboot_costs_pods_that_come_before_the_plugin() {
    let (_node, kubelet, plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    drop(plugin);
    kubelet.reboot(Start::default()).await;
    assert_eq!(kubelet.readmit_pods().await, std::slice::from_ref(&pod));
    assert_eq!(kubelet.status(&pod).phase, Phase::Failed);
}

#[tokio::test]
async fn after_a_reboot_the_same_ids_save_a_pod_and_others_cost_it() {
    for (prefix, saved) in [("gpu", true), ("new", false)] {
        let (node, kubelet, plugin) = node_with(1).await;
        let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
        drop(plugin);
        kubelet.reboot(Start::default()).await;
        let _plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices(prefix, 1));
        kubelet.wait_for_allocatable(GPU, 1).await;
        let rejected = kubelet.readmit_pods().await;
        assert_eq!(rejected.is_empty(), saved);
        if saved {
            kubelet.start_containers(&pod).await.unwrap();
        } else {
            let text = kubelet.status(&pod).message;
            assert!(
                text.contains("previously allocated devices are no longer healthy"),
                "{text}"
            );
            assert_eq!(kubelet.take_violations().len(), 1, "the old ID is missed");
        }
    }
}

#[tokio::test]
async fn a_kill_during_allocate_leaves_the_pod_pending() {
    let (_node, kubelet, plugin) = node_with(1).await;
    plugin.knobs.hold.send_replace(true);
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    let kill = async {
        let pending = &plugin.knobs.pending;
        wait_until("Allocate is pending", || {
            pending.load(std::sync::atomic::Ordering::SeqCst) == 1
        })
        .await;
        kubelet.kill9();
    };
    let (outcome, ()) = tokio::join!(kubelet.admit(&pod), kill);
    outcome.unwrap_err();
    assert_eq!(kubelet.status(&pod).phase, Phase::Pending);
    plugin.knobs.hold.send_replace(false);
    kubelet.start(Start::default()).await;
    kubelet.wait_for_allocatable(GPU, 1).await;
    assert!(kubelet.readmit_pods().await.is_empty());
    kubelet.start_containers(&pod).await.unwrap();
}
