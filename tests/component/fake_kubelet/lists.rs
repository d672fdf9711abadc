//! Device lists, node counts, and plugins whose lists hurt.

use std::time::Duration;

use gpushared_tests::{Event, FakeKubelet, NodeDirs, PodSpec, Violation, look_within, wait_until};

use super::{GPU, node_with};
use crate::reference_plugin::{Quirk, ReferencePlugin, device, devices};

const FIVE_MINUTES: Duration = Duration::from_secs(5 * 60 + 1);

#[tokio::test]
async fn each_list_replaces_the_one_before() {
    let (_node, kubelet, plugin) = node_with(3).await;
    plugin.list(vec![device("gpu0", true, &[]), device("gpu1", false, &[])]);
    kubelet.wait_for_allocatable(GPU, 1).await;
    assert_eq!(kubelet.capacity(GPU), Some(2));
    let mut odd = device("gpu0", true, &[]);
    "healthy".clone_into(&mut odd.health); // the text is compared, case and all
    plugin.list(vec![odd]);
    kubelet.wait_for_allocatable(GPU, 0).await;
    assert_eq!(kubelet.capacity(GPU), Some(1));
}

#[tokio::test]
async fn a_resource_without_devices_shows_zero_and_an_unknown_one_is_absent() {
    let (_node, kubelet, _plugin) = node_with(0).await;
    assert_eq!(
        (kubelet.capacity(GPU), kubelet.allocatable(GPU)),
        (Some(0), Some(0))
    );
    assert_eq!(kubelet.capacity("example.com/other"), None);
}

#[tokio::test]
async fn a_lost_plugin_leaves_capacity_for_five_minutes_and_then_zero() {
    let (node, kubelet, plugin) = node_with(3).await;
    drop(plugin);
    kubelet.wait_for_allocatable(GPU, 0).await;
    assert_eq!(kubelet.capacity(GPU), Some(3));
    kubelet.clock().advance(FIVE_MINUTES);
    assert_eq!(kubelet.capacity(GPU), Some(0));
    let _back = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 3));
    kubelet.wait_for_allocatable(GPU, 3).await;
}

#[tokio::test]
async fn a_plugin_that_returns_in_time_is_forgiven() {
    let (node, kubelet, plugin) = node_with(3).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    drop(plugin);
    kubelet.wait_for_allocatable(GPU, 0).await;
    kubelet.clock().advance(Duration::from_secs(60));
    let _back = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 3));
    kubelet.wait_for_allocatable(GPU, 3).await;
    assert_eq!(kubelet.allocated(GPU).len(), 1);
    assert!(kubelet.is_running(&pod, "main"));
}

#[tokio::test]
async fn a_plugin_that_does_not_register_again_stays_lost() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let root = node.kubelet();
    let plugin = ReferencePlugin::start_as(
        &root,
        GPU,
        "a.sock",
        devices("gpu", 3),
        Quirk::RegistersOnce,
    );
    kubelet.wait_for_allocatable(GPU, 3).await;
    plugin.end_streams();
    kubelet.wait_for_allocatable(GPU, 0).await;
    let back = || (kubelet.allocatable(GPU) != Some(0)).then_some(());
    assert!(
        look_within(Duration::from_millis(300), back)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn a_good_plugin_registers_again_when_its_stream_ends() {
    let (_node, kubelet, plugin) = node_with(3).await;
    plugin.end_streams();
    wait_until("the plugin registers again", || {
        kubelet.registrations(GPU) == 2
    })
    .await;
    kubelet.wait_for_allocatable(GPU, 3).await;
}

#[tokio::test]
async fn a_list_over_four_mebibytes_ends_the_stream_and_is_held_against_the_plugin() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let long = "x".repeat(1000);
    let many = devices(&long, 5 * 1024);
    let root = node.kubelet();
    let _plugin = ReferencePlugin::start_as(&root, GPU, "a.sock", many, Quirk::RegistersOnce);
    let ended = |event: &Event| matches!(event, Event::StreamEnded { reason, .. } if reason.contains("ResourceExhausted"));
    wait_until("the stream ends", || kubelet.events().iter().any(ended)).await;
    let taken = kubelet.take_violations();
    assert!(
        matches!(taken[..], [Violation::ListTooLong { .. }]),
        "{taken:?}"
    );
}

#[tokio::test]
async fn a_long_id_passes_and_equal_ids_collapse() {
    let (_node, kubelet, plugin) = node_with(1).await;
    let long = "y".repeat(300);
    plugin.list(vec![
        device("gpu0", true, &[]),
        device(&long, true, &[]),
        device(&long, true, &[]),
    ]);
    kubelet.wait_for_allocatable(GPU, 2).await;
}

#[tokio::test]
async fn an_allocated_device_that_vanishes_is_held_against_the_plugin() {
    let (_node, kubelet, plugin) = node_with(1).await;
    kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    plugin.list(Vec::new());
    wait_until("the fault is seen", || !kubelet.violations().is_empty()).await;
    let text = kubelet.take_violations()[0].to_string();
    assert!(text.contains("topology_hints.go:191"), "{text}");
}

#[tokio::test]
async fn a_device_of_a_pod_that_is_gone_may_vanish() {
    let (_node, kubelet, plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    kubelet.remove_pod(&pod);
    plugin.list(Vec::new());
    kubelet.wait_for_allocatable(GPU, 0).await;
    assert_eq!(kubelet.violations(), []);
}

#[tokio::test]
async fn one_id_under_two_resources_is_held_against_the_plugin() {
    let (node, kubelet, _plugin) = node_with(1).await;
    let _other = ReferencePlugin::start(&node.kubelet(), "example.com/other", devices("gpu", 1));
    kubelet.wait_for_allocatable("example.com/other", 1).await;
    let taken = kubelet.take_violations();
    assert!(
        matches!(taken[..], [Violation::SharedId { .. }]),
        "{taken:?}"
    );
}

#[tokio::test]
#[should_panic(expected = "a plugin hurt the kubelet")]
async fn a_violation_makes_its_test_fail() {
    let (_node, kubelet, plugin) = node_with(1).await;
    kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    plugin.list(Vec::new());
    wait_until("the fault is seen", || !kubelet.violations().is_empty()).await;
}

#[tokio::test]
async fn health_in_the_pod_status_has_the_kubelets_quirks() {
    let (_node, kubelet, plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let healthy = || kubelet.allocated_resources(&pod)["main"][GPU]["gpu0"];
    assert!(healthy());
    plugin.list(vec![device("gpu0", false, &[])]);
    wait_until("the pod status shows it", || !healthy()).await;
    let told = Event::HealthUpdate {
        pod: pod.to_string(),
    };
    assert!(kubelet.events().contains(&told));
    plugin.list(Vec::new());
    wait_until("a vanished device counts as healthy", healthy).await;
    assert_eq!(kubelet.take_violations().len(), 1);
    plugin.list(devices("gpu", 1));
    kubelet.wait_for_allocatable(GPU, 1).await;
    drop(plugin);
    kubelet.wait_for_allocatable(GPU, 0).await;
    assert!(healthy(), "a lost plugin changes no status");
    assert_eq!(kubelet.take_violations(), []);
}
