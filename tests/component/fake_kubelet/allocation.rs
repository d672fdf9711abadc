//! Which devices a container gets.

use std::collections::BTreeSet;
use std::time::Duration;

use gpushared_tests::{
    ContainerSpec, FakeKubelet, NodeDirs, PodError, PodSpec, Rpc, Violation, wait_until,
};
use tonic::Status;

use super::{GPU, calls, node_with};
use crate::reference_plugin::{ReferencePlugin, devices};

fn message(error: PodError) -> String {
    match error {
        PodError::Rejected { reason, message } => {
            assert_eq!(reason, "UnexpectedAdmissionError");
            message
        }
        other => panic!("a rejection was expected: {other}"),
    }
}

#[tokio::test]
async fn every_container_gets_a_call_of_its_own() {
    let (_node, kubelet, _plugin) = node_with(4).await;
    let pod = PodSpec::new("a")
        .container(ContainerSpec::new("one").limit(GPU, 1))
        .container(ContainerSpec::new("two").limit(GPU, 2));
    let pod = kubelet.run_pod(pod).await.unwrap();
    let sizes: Vec<usize> = calls(&kubelet, Rpc::Allocate)
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(sizes, [1, 2]);
    let two = kubelet.container(&pod, "two").unwrap();
    assert_eq!(
        two.env("REFERENCE_DEVICES").unwrap(),
        two.ids(GPU).join(",")
    );
}

#[tokio::test]
async fn the_choice_depends_on_the_seed_alone() {
    let mut seen = BTreeSet::new();
    for seed in [1, 2, 3, 4, 5, 6, 1] {
        let node = NodeDirs::new();
        let kubelet = FakeKubelet::builder(node.kubelet())
            .seed(seed)
            .start()
            .await;
        let _plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 16));
        kubelet.wait_for_allocatable(GPU, 16).await;
        kubelet.run_pod(PodSpec::one("a", GPU, 4)).await.unwrap();
        seen.insert(calls(&kubelet, Rpc::Allocate).remove(0));
    }
    assert!((4..=6).contains(&seen.len()), "{seen:?}");
}

#[tokio::test]
async fn a_preference_is_cut_to_what_is_available_and_filled_up() {
    let (_node, kubelet, plugin) = preferring(8).await;
    plugin.prefers(|_| Ok(vec!["gpu7".to_owned(), "unknown".to_owned()]));
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 3)).await.unwrap();
    let container = kubelet.container(&pod, "main").unwrap();
    assert_eq!(container.ids(GPU).len(), 3);
    assert!(container.ids(GPU).contains(&"gpu7".to_owned()));
    let asked = calls(&kubelet, Rpc::GetPreferredAllocation);
    assert_eq!(asked[0].len(), 8, "everything free is offered");
}

#[tokio::test]
async fn a_failing_preference_fails_admission() {
    let (_node, kubelet, plugin) = preferring(2).await;
    plugin.prefers(|_| Err(Status::internal("no idea")));
    let error = kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap_err();
    let expected = "Allocate failed due to device plugin GetPreferredAllocation rpc failed with err: \
                    rpc error: code = Internal desc = no idea, which is unexpected";
    assert_eq!(message(error), expected);
}

async fn preferring(count: usize) -> (NodeDirs, FakeKubelet, ReferencePlugin) {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", count));
    let plugin = plugin.with_options(false, true);
    kubelet.wait_for_allocatable(GPU, count).await;
    (node, kubelet, plugin)
}

#[tokio::test]
async fn init_containers_hand_their_devices_on_and_sidecars_do_not() {
    let (_node, kubelet, _plugin) = node_with(2).await;
    let pod = PodSpec::new("a")
        .init(ContainerSpec::new("init").limit(GPU, 1))
        .sidecar(ContainerSpec::new("side").limit(GPU, 1))
        .container(ContainerSpec::new("main").limit(GPU, 1));
    let pod = kubelet.run_pod(pod).await.unwrap();
    let ids = |name| kubelet.container(&pod, name).unwrap().ids(GPU).to_vec();
    assert_eq!(
        ids("init"),
        ids("side"),
        "the sidecar takes over what the init container had"
    );
    assert_ne!(ids("side"), ids("main"), "and keeps it");
    assert_eq!(kubelet.allocated(GPU).len(), 2);
}

#[tokio::test]
async fn too_few_devices_reject_the_pod() {
    let (_node, kubelet, _plugin) = node_with(1).await;
    kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let error = kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap_err();
    let expected = "Allocate failed due to requested number of devices unavailable for \
                    example.com/gpu. Requested: 1, Available: 0, which is unexpected";
    assert_eq!(message(error), expected);
}

#[tokio::test]
async fn a_failed_allocate_gives_the_devices_back_and_an_empty_answer_leaks_them() {
    let (_node, kubelet, plugin) = node_with(2).await;
    plugin.answers(|_| Err(Status::failed_precondition("not today")));
    let error = kubelet
        .run_pod(PodSpec::one("a", GPU, 2))
        .await
        .unwrap_err();
    let expected = "Allocate failed due to rpc error: code = FailedPrecondition desc = not today, \
                    which is unexpected";
    assert_eq!(message(error), expected);
    assert!(kubelet.allocated(GPU).is_empty());
    plugin.answers(|_| Ok(Vec::new()));
    kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap_err();
    assert_eq!(kubelet.allocated(GPU).len(), 1, "leaked");
}

#[tokio::test]
async fn a_resource_that_never_registered_passes_admission() {
    let (_node, kubelet, _plugin) = node_with(1).await;
    let pod = kubelet
        .run_pod(PodSpec::one("a", "example.com/absent", 1))
        .await
        .unwrap();
    assert!(kubelet.container(&pod, "main").unwrap().devices.is_empty());
}

#[tokio::test]
async fn a_device_that_vanishes_during_allocate_crashes_the_kubelet() {
    let (_node, kubelet, plugin) = node_with(1).await;
    plugin.knobs.hold.send_replace(true);
    let vanish = async {
        let pending = &plugin.knobs.pending;
        wait_until("Allocate is pending", || {
            pending.load(std::sync::atomic::Ordering::SeqCst) == 1
        })
        .await;
        plugin.list(Vec::new());
        wait_until("the fault is seen", || !kubelet.violations().is_empty()).await;
        plugin.knobs.hold.send_replace(false);
    };
    let (outcome, ()) = tokio::join!(kubelet.run_pod(PodSpec::one("a", GPU, 1)), vanish);
    assert_eq!(outcome.unwrap_err(), PodError::KubeletDown);
    assert!(!kubelet.is_up());
    let taken = kubelet.take_violations();
    assert!(taken[0].to_string().contains("manager.go:923"), "{taken:?}");
}

#[tokio::test]
async fn a_hung_allocate_blocks_all_admission_and_is_held_against_the_plugin() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet());
    let kubelet = kubelet.hung_after(Duration::from_millis(300)).start().await;
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 1));
    kubelet.wait_for_allocatable(GPU, 1).await;
    plugin.knobs.hold.send_replace(true);
    let other = async {
        let pending = &plugin.knobs.pending;
        wait_until("Allocate is pending", || {
            pending.load(std::sync::atomic::Ordering::SeqCst) == 1
        })
        .await;
        let started = std::time::Instant::now();
        kubelet
            .run_pod(PodSpec::new("plain").container(ContainerSpec::new("main")))
            .await
            .unwrap();
        started.elapsed()
    };
    let (hung, waited) = tokio::join!(kubelet.run_pod(PodSpec::one("a", GPU, 1)), other);
    assert!(
        hung.is_err() && waited > Duration::from_millis(100),
        "{waited:?}"
    );
    let taken = kubelet.take_violations();
    assert!(
        matches!(
            taken[..],
            [Violation::Hung {
                rpc: Rpc::Allocate,
                ..
            }]
        ),
        "{taken:?}"
    );
}
