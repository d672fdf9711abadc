//! Registration of the real front end: rows 1 to 3, 5, 7, 16, 17, 18.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use gpushared_device_plugin::{
    ListedDevice, MAX_DEVICES_PER_RESOURCE, PluginError, PluginSettings, RegistrationState,
};
use gpushared_tests::{
    Event, FakeKubelet, NodeDirs, PodSpec, SocketStart, Start, look_within, wait_until,
};

use super::GPU;
use crate::plugin_under_test::{PluginUnderTest, gpu_id, listed, lists, mig_id, settings};
use crate::reference_plugin::{Quirk, ReferencePlugin, device};

const MIG: &str = "nvidia.com/mig-1g.5gb";

fn gpus(count: u32) -> Vec<ListedDevice> {
    listed(&(0..count).map(gpu_id).collect::<Vec<_>>(), true)
}

async fn node_with(count: u32) -> (NodeDirs, FakeKubelet, PluginUnderTest) {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let plugin = PluginUnderTest::start(&node.kubelet(), lists(&[(GPU, gpus(count))]));
    kubelet.wait_for_allocatable(GPU, count as usize).await;
    (node, kubelet, plugin)
}

/// Row 1. The best of several restarts is held to the limit: a busy machine may spoil some.
#[tokio::test]
async fn plugin_registers_within_100_ms_of_the_kubelets_socket_appearing() {
    let (_node, kubelet, plugin) = node_with(2).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let mut best = Duration::MAX;
    for restart in 1..=5 {
        kubelet.kill9();
        let start = std::time::Instant::now();
        kubelet.start(Start::default()).await;
        wait_until("the plugin registers", || {
            kubelet.registrations(GPU) == restart + 1
        })
        .await;
        best = best.min(start.elapsed());
        kubelet.wait_for_allocatable(GPU, 2).await;
        assert!(kubelet.readmit_pods().await.is_empty());
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
    assert!(
        plugin
            .last_took(GPU)
            .is_some_and(|took| took < Duration::from_secs(5))
    );
    assert!(kubelet.is_running(&pod, "main"));
}

/// Row 1: the socket appears before it is served.
#[tokio::test]
async fn plugin_keeps_trying_while_the_kubelets_socket_is_not_served() {
    for socket in [SocketStart::NotAccepting, SocketStart::NotAnswering] {
        let (_node, kubelet, _plugin) = node_with(1).await;
        kubelet.kill9();
        kubelet
            .start(Start {
                socket,
                ..Start::default()
            })
            .await;
        let registered = || (kubelet.registrations(GPU) > 1).then_some(());
        assert!(
            look_within(Duration::from_millis(200), registered)
                .await
                .is_none()
        );
        kubelet.serve();
        kubelet.wait_for_allocatable(GPU, 1).await;
    }
}

/// Row 2: no stream is cancelled and a stale `kubelet.sock` stays behind.
#[tokio::test]
async fn plugin_notices_a_killed_kubelet_and_its_successor() {
    let (node, kubelet, plugin) = node_with(1).await;
    kubelet.kill9();
    assert!(node.kubelet().join("device-plugins/kubelet.sock").exists());
    let registered = || {
        matches!(
            plugin.state(GPU),
            Some(RegistrationState::Registered { .. })
        )
    };
    wait_until("the plugin notices the end of the kubelet", || {
        !registered()
    })
    .await;
    kubelet.start(Start::default()).await;
    kubelet.wait_for_allocatable(GPU, 1).await;
    wait_until("the plugin knows that it is registered", registered).await;
}

/// Rows 3 and 5, kubernetes/kubernetes#92958: the end of another instance takes our stream along.
#[tokio::test]
async fn plugin_registers_again_when_its_stream_ends_under_a_running_kubelet() {
    let (node, kubelet, _plugin) = node_with(1).await;
    let root = node.kubelet();
    let same = vec![device(&gpu_id(0), true, &[])];
    let other = ReferencePlugin::start_as(&root, GPU, "other.sock", same, Quirk::RegistersOnce);
    wait_until("the other instance is registered", || {
        kubelet.registrations(GPU) == 2
    })
    .await;
    drop(other);
    kubelet.wait_for_allocatable(GPU, 1).await;
    let before = kubelet.registrations(GPU);
    assert!(before >= 2);
    kubelet.restart().await;
    kubelet.wait_for_allocatable(GPU, 1).await;
}

/// Row 7, as far as the front end goes: whatever the daemon publishes, an ID in flight stays listed.
#[tokio::test]
async fn an_id_that_the_daemon_drops_during_allocate_stays_listed_as_unhealthy() {
    let (_node, kubelet, plugin) = node_with(2).await;
    plugin.daemon.hold.send_replace(true);
    let change = async {
        let waiting = plugin.daemon.waiting.subscribe();
        wait_until("Allocate is pending", || *waiting.borrow() == 1).await;
        plugin.publish(lists(&[(GPU, Vec::new())]));
        kubelet.wait_for_allocatable(GPU, 0).await;
        plugin.daemon.hold.send_replace(false);
    };
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    let (admitted, ()) = tokio::join!(kubelet.admit(&pod), change);
    admitted.unwrap();
    assert_eq!(kubelet.capacity(GPU), Some(2));
    assert_eq!(kubelet.violations(), []);
}

/// Row 16: the kubelet would dial such a socket in vain for 10 s.
#[tokio::test]
async fn a_socket_path_over_107_bytes_is_refused_at_start() {
    let long = format!("/{}", "d".repeat(100));
    let refused = PluginUnderTest::start_with(PluginSettings::new(&long), lists(&[(GPU, gpus(1))]));
    let error = refused.err().unwrap();
    assert!(
        matches!(error, PluginError::SocketPathTooLong { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("107"), "{error}");
}

/// Row 17: the longest list that the front end sends is taken, a longer one is refused at start.
#[tokio::test]
async fn the_longest_list_fits_into_a_message_and_a_longer_one_is_refused() {
    let many = |count: usize| {
        let ids: Vec<String> = (0..count)
            .map(|n| format!("{}/mig/19@{n}", gpu_id(0)))
            .collect();
        listed(&ids, true)
    };
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let longest = lists(&[(MIG, many(MAX_DEVICES_PER_RESOURCE))]);
    let plugin = PluginUnderTest::start(&node.kubelet(), longest);
    kubelet
        .wait_for_allocatable(MIG, MAX_DEVICES_PER_RESOURCE)
        .await;
    plugin.stop().await;
    let longer = lists(&[(MIG, many(MAX_DEVICES_PER_RESOURCE + 1))]);
    let error = PluginUnderTest::start_with(settings(&node.kubelet()), longer)
        .err()
        .unwrap();
    assert!(
        matches!(error, PluginError::TooManyDevices { .. }),
        "{error}"
    );
}

/// Row 17: one socket cannot serve two resources.
#[tokio::test]
async fn two_resources_on_one_socket_are_refused_at_start() {
    let both = lists(&[
        ("example.com/gpu", gpus(1)),
        ("nvidia.com/example.com_gpu", Vec::new()),
    ]);
    let node = NodeDirs::new();
    let error = PluginUnderTest::start_with(settings(&node.kubelet()), both)
        .err()
        .unwrap();
    assert!(
        matches!(error, PluginError::EndpointTaken { .. }),
        "{error}"
    );
}

/// Row 18: the directory comes later, as on a node where the daemon starts first.
#[tokio::test]
async fn plugin_waits_for_a_kubelet_directory_that_is_not_there_and_says_so() {
    let node = NodeDirs::new();
    let plugin = PluginUnderTest::start(&node.kubelet(), lists(&[(GPU, gpus(1))]));
    let mut why = String::new();
    wait_until("the plugin says what it waits for", || {
        match plugin.state(GPU) {
            Some(RegistrationState::WaitingForKubelet { why: text }) => {
                why = text;
                true
            }
            _ => false,
        }
    })
    .await;
    assert!(why.contains("device-plugins"), "{why}");
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    kubelet.wait_for_allocatable(GPU, 1).await;
}

/// Row 18: what an earlier life left behind does not matter, and sockets lie where the kubelet's
/// clean-up does not reach.
#[tokio::test]
async fn plugin_replaces_its_stale_sockets_and_keeps_them_in_a_subdirectory() {
    let node = NodeDirs::new();
    let dir = node.kubelet().join("device-plugins/gpushared");
    fs::create_dir_all(&dir).unwrap();
    drop(UnixListener::bind(dir.join("gpu.sock")).unwrap());
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let _plugin = PluginUnderTest::start(&node.kubelet(), lists(&[(GPU, gpus(1))]));
    kubelet.wait_for_allocatable(GPU, 1).await;
    let endpoint = Event::Registered {
        resource: GPU.to_owned(),
        endpoint: "gpushared/gpu.sock".to_owned(),
    };
    assert!(kubelet.events().contains(&endpoint));
}

/// Row 18: somebody wipes the directory under a running plugin.
#[tokio::test]
async fn plugin_makes_its_socket_again_when_it_was_removed() {
    let (node, kubelet, _plugin) = node_with(1).await;
    let dir = node.kubelet().join("device-plugins/gpushared");
    fs::remove_dir_all(&dir).unwrap();
    wait_until("the socket is there again", || {
        dir.join("gpu.sock").exists()
    })
    .await;
    kubelet.restart_by_kill9().await;
    kubelet.wait_for_allocatable(GPU, 1).await;
}

/// A further case: nothing to offer is capacity 0, not an absent resource.
#[tokio::test]
async fn a_resource_without_devices_registers_with_capacity_zero() {
    let (_node, kubelet, plugin) = node_with(0).await;
    assert_eq!(kubelet.capacity(GPU), Some(0));
    plugin.publish(lists(&[(GPU, gpus(1))]));
    kubelet.wait_for_allocatable(GPU, 1).await;
}

/// A further case: a resource that is listed later is registered then.
#[tokio::test]
async fn a_resource_that_comes_later_is_registered_then() {
    let (_node, kubelet, plugin) = node_with(1).await;
    let ids = [mig_id(0), mig_id(1)];
    plugin.publish(lists(&[(GPU, gpus(1)), (MIG, listed(&ids, true))]));
    kubelet.wait_for_allocatable(MIG, 2).await;
    assert_eq!(
        kubelet.registrations(GPU),
        1,
        "the other resource is left alone"
    );
}

/// A further case: five minutes without the plugin, and then it returns.
#[tokio::test]
async fn plugin_that_was_away_for_longer_than_the_kubelets_patience_is_back_at_once() {
    let (node, kubelet, plugin) = node_with(1).await;
    plugin.stop().await;
    kubelet.wait_for_allocatable(GPU, 0).await;
    kubelet.clock().advance(Duration::from_secs(301));
    assert_eq!(kubelet.capacity(GPU), Some(0));
    let _plugin = PluginUnderTest::start(&node.kubelet(), lists(&[(GPU, gpus(1))]));
    kubelet.wait_for_allocatable(GPU, 1).await;
}

/// Coalescing must not hide the last of many changes.
#[tokio::test]
async fn the_last_of_many_list_changes_arrives() {
    let (_node, kubelet, plugin) = node_with(4).await;
    let ids: Vec<String> = (0..4).map(gpu_id).collect();
    for round in 0..50 {
        plugin.publish(lists(&[(GPU, listed(&ids, round % 2 == 1))]));
    }
    plugin.publish(lists(&[(GPU, listed(&ids[..1], true))]));
    kubelet.wait_for_allocatable(GPU, 1).await;
    let sent = kubelet
        .events()
        .iter()
        .filter(|e| matches!(e, Event::Listed { .. }))
        .count();
    assert!(sent < 50, "{sent} lists for 52 changes");
}
