//! Requests to the real front end: rows 8, 9, 15, and what no kubelet would ask.

use std::time::{Duration, Instant};

use gpushared_device_plugin::{Refusal, RefusalKind};
use gpushared_proto::deviceplugin::v1beta1::{
    ContainerPreferredAllocationRequest, PreferredAllocationRequest,
};
use gpushared_tests::{FakeKubelet, NodeDirs, PodError, PodSpec};
use tonic::Code;

use super::GPU;
use crate::plugin_under_test::{PluginUnderTest, allocate, dial, gpu_id, listed, lists, mig_id};

const MIG: &str = "nvidia.com/mig-1g.5gb";

async fn node_with_both() -> (NodeDirs, FakeKubelet, PluginUnderTest) {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let gpus = listed(&[gpu_id(1), gpu_id(2)], true);
    let migs = listed(&[mig_id(0), mig_id(1)], true);
    let plugin = PluginUnderTest::start(&node.kubelet(), lists(&[(GPU, gpus), (MIG, migs)]));
    kubelet.wait_for_allocatable(GPU, 2).await;
    kubelet.wait_for_allocatable(MIG, 2).await;
    (node, kubelet, plugin)
}

/// Row 8.
#[tokio::test]
async fn allocate_of_an_unknown_or_foreign_id_is_refused_without_side_effects() {
    let (node, _kubelet, plugin) = node_with_both().await;
    let mut client = dial(&node.kubelet().join("device-plugins/gpushared/gpu.sock")).await;
    for id in ["no-id-of-ours", gpu_id(9).as_str(), mig_id(0).as_str(), ""] {
        let refusal = allocate(&mut client, &[id]).await.unwrap_err();
        assert_ne!(refusal.code(), Code::Unknown, "{refusal}");
        assert!(
            refusal.message().contains(id),
            "the text names the ID: {refusal}"
        );
    }
    let mixed = [gpu_id(1), mig_id(0)];
    allocate(&mut client, &[&mixed[0], &mixed[1]])
        .await
        .unwrap_err();
    assert!(plugin.daemon.allocated.lock().unwrap().is_empty());
}

/// Row 8: the plugin must not fall over what no kubelet sends.
#[tokio::test]
async fn allocate_without_ids_or_with_one_twice_does_no_harm() {
    let (node, _kubelet, plugin) = node_with_both().await;
    let mut client = dial(&node.kubelet().join("device-plugins/gpushared/gpu.sock")).await;
    drop(allocate(&mut client, &[]).await);
    let twice = gpu_id(1);
    drop(allocate(&mut client, &[&twice, &twice]).await);
    for ids in plugin.daemon.allocated.lock().unwrap().iter() {
        assert_eq!(ids, &[gpu_id(1)]);
    }
    allocate(&mut client, &[&gpu_id(2)]).await.unwrap();
}

/// Row 9: the rule that the IDs break is what the pod's owner reads.
#[tokio::test]
async fn the_reason_of_a_refusal_reaches_the_pods_message() {
    let (_node, kubelet, plugin) = node_with_both().await;
    let why = "GPU 1 holds a MIG device of another pod, ask for it when that pod has ended";
    *plugin.daemon.refusal.lock().unwrap() = Some(Refusal::new(RefusalKind::Conflict, why));
    let pod = kubelet.submit(PodSpec::one("a", GPU, 2));
    kubelet.admit(&pod).await.unwrap_err();
    let message = kubelet.status(&pod).message;
    assert!(
        message.contains(why) && !message.contains("code = Unknown"),
        "{message}"
    );
    assert!(kubelet.allocated(GPU).is_empty());
}

/// Row 15.
#[tokio::test]
async fn a_daemon_that_hangs_fails_the_pod_within_our_own_deadline() {
    let (_node, kubelet, plugin) = node_with_both().await;
    plugin.daemon.hold.send_replace(true);
    let start = Instant::now();
    let error = kubelet
        .run_pod(PodSpec::one("a", GPU, 1))
        .await
        .unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(matches!(error, PodError::Rejected { .. }), "{error}");
    assert_eq!(kubelet.violations(), []);
    plugin.daemon.hold.send_replace(false);
    kubelet.run_pod(PodSpec::one("b", GPU, 1)).await.unwrap();
}

/// Row 15: the other resource is served meanwhile.
#[tokio::test]
async fn a_pending_allocate_does_not_hold_up_the_other_resource() {
    let (node, _kubelet, plugin) = node_with_both().await;
    plugin.daemon.hold.send_replace(true);
    let dir = node.kubelet().join("device-plugins/gpushared");
    let (mut gpu, mut mig) = (
        dial(&dir.join("gpu.sock")).await,
        dial(&dir.join("mig-1g.5gb.sock")).await,
    );
    let id = gpu_id(1);
    let ids = [id.as_str()];
    let asked = PreferredAllocationRequest {
        container_requests: vec![ContainerPreferredAllocationRequest {
            available_device_i_ds: vec![mig_id(0), mig_id(1)],
            must_include_device_i_ds: vec![],
            allocation_size: 1,
        }],
    };
    let pending = allocate(&mut gpu, &ids);
    tokio::select! {
        answer = mig.get_preferred_allocation(asked) => drop(answer.unwrap()),
        answer = pending => panic!("the held call was answered first: {answer:?}"),
    }
}

/// A further case.
#[tokio::test]
async fn preferring_more_than_there_is_or_what_is_unknown_is_no_error() {
    let (node, _kubelet, _plugin) = node_with_both().await;
    let mut client = dial(&node.kubelet().join("device-plugins/gpushared/gpu.sock")).await;
    for (available, must, size) in [
        (vec![gpu_id(1)], vec![], 5),
        (
            vec![gpu_id(1), "other".to_owned()],
            vec!["other".to_owned()],
            1,
        ),
        (vec![], vec![], 0),
        (vec![gpu_id(1)], vec![], -1),
    ] {
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_i_ds: available,
                must_include_device_i_ds: must,
                allocation_size: size,
            }],
        };
        client.get_preferred_allocation(request).await.unwrap();
    }
}

/// A seed changes every order that the kubelet leaves to chance; the answer belongs to the request.
#[tokio::test]
async fn pods_get_what_they_were_allocated_in_every_order() {
    for seed in 0..8 {
        let node = NodeDirs::new();
        let kubelet = FakeKubelet::builder(node.kubelet())
            .seed(seed)
            .start()
            .await;
        let ids: Vec<String> = (0..8).map(gpu_id).collect();
        let _plugin = PluginUnderTest::start(&node.kubelet(), lists(&[(GPU, listed(&ids, true))]));
        kubelet.wait_for_allocatable(GPU, 8).await;
        for count in [1, 3, 2] {
            let name = format!("pod-{count}");
            let pod = kubelet
                .run_pod(PodSpec::one(&name, GPU, count))
                .await
                .unwrap();
            let container = kubelet.container(&pod, "main").unwrap();
            assert_eq!(
                container.env("SCRIPTED_DEVICES").unwrap(),
                container.ids(GPU).join(",")
            );
        }
    }
}
