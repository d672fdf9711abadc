//! The life of a pod: rejection, restarts of its containers, its end.

use gpushared_tests::{ContainerSpec, FakeKubelet, NodeDirs, Phase, PodError, PodSpec, Rpc};
use tonic::Status;

use super::{GPU, calls, node_with};
use crate::reference_plugin::{ReferencePlugin, devices};

#[tokio::test]
async fn a_rejected_pod_is_failed_with_the_kubelets_message() {
    let (_node, kubelet, plugin) = node_with(1).await;
    plugin.answers(|_| Err(Status::unavailable("the GPU is on fire")));
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    kubelet.admit(&pod).await.unwrap_err();
    let status = kubelet.status(&pod);
    assert_eq!(
        (status.phase, status.reason.as_str()),
        (Phase::Failed, "UnexpectedAdmissionError")
    );
    let expected = "Pod was rejected: Allocate failed due to rpc error: code = Unavailable desc = \
                    the GPU is on fire, which is unexpected";
    assert_eq!(status.message, expected);
}

#[tokio::test]
async fn a_pod_that_a_later_step_rejects_has_been_allocated() {
    let (_node, kubelet, _plugin) = node_with(1).await;
    let doomed =
        PodSpec::one("a", GPU, 1).rejected_after_allocate("OutOfcpu", "Node didn't have cpu");
    let error = kubelet.run_pod(doomed).await.unwrap_err();
    assert!(matches!(error, PodError::Rejected { reason, .. } if reason == "OutOfcpu"));
    assert_eq!(calls(&kubelet, Rpc::Allocate).len(), 1);
    assert_eq!(kubelet.allocated(GPU).len(), 1, "freed lazily");
    kubelet.run_pod(PodSpec::one("b", GPU, 1)).await.unwrap();
}

#[tokio::test]
async fn a_container_restart_replays_the_answer_without_asking() {
    let (_node, kubelet, plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let before = kubelet.container(&pod, "main").unwrap();
    drop(plugin);
    kubelet.wait_for_allocatable(GPU, 0).await;
    let after = kubelet.restart_container(&pod, "main").await.unwrap();
    assert_eq!((calls(&kubelet, Rpc::Allocate).len(), after), (1, before));
}

async fn with_pre_start() -> (NodeDirs, FakeKubelet, ReferencePlugin) {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 1));
    let plugin = plugin.with_options(true, false);
    kubelet.wait_for_allocatable(GPU, 1).await;
    (node, kubelet, plugin)
}

#[tokio::test]
async fn pre_start_delays_a_container_until_it_succeeds() {
    let (_node, kubelet, plugin) = with_pre_start().await;
    plugin.pre_start(Err(Status::unavailable("not built yet")));
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    kubelet.admit(&pod).await.unwrap();
    let error = kubelet
        .start_container(&pod, "main")
        .await
        .unwrap_err()
        .to_string();
    let expected = "container main does not start: device plugin PreStartContainer rpc failed with err: \
                    rpc error: code = Unavailable desc = not built yet";
    assert_eq!(error, expected);
    plugin.pre_start(Ok(()));
    kubelet.start_containers(&pod).await.unwrap();
    kubelet.restart_container(&pod, "main").await.unwrap();
    assert_eq!(calls(&kubelet, Rpc::PreStartContainer).len(), 3);
}

/// With `PreStartContainer` asked for, a stored answer is not enough while the plugin is away: the
/// stopped endpoint refuses the call, and the container waits.
#[tokio::test]
async fn pre_start_keeps_a_restart_waiting_while_the_plugin_is_away() {
    let (_node, kubelet, plugin) = with_pre_start().await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    drop(plugin);
    kubelet.wait_for_allocatable(GPU, 0).await;
    let error = kubelet
        .restart_container(&pod, "main")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("has been stopped"), "{error}");
}

#[tokio::test]
async fn pre_start_is_skipped_between_a_kubelet_restart_and_registration() {
    let (_node, kubelet, plugin) = with_pre_start().await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    plugin.silence();
    kubelet.restart_by_kill9().await;
    assert!(kubelet.readmit_pods().await.is_empty());
    kubelet.restart_container(&pod, "main").await.unwrap();
    assert_eq!(calls(&kubelet, Rpc::PreStartContainer).len(), 1);
}

#[tokio::test]
async fn a_deleted_pod_keeps_its_devices_until_it_is_known_to_be_gone() {
    let (_node, kubelet, _plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    kubelet.delete_pod(&pod);
    kubelet
        .run_pod(PodSpec::one("b", GPU, 1))
        .await
        .unwrap_err();
    kubelet.finish_termination(&pod);
    assert_eq!(kubelet.allocated(GPU).len(), 1, "freed lazily");
    kubelet.run_pod(PodSpec::one("c", GPU, 1)).await.unwrap();
}

#[tokio::test]
async fn a_completed_pod_frees_its_devices() {
    let (_node, kubelet, _plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    kubelet.complete_pod(&pod);
    assert_eq!(kubelet.status(&pod).phase, Phase::Succeeded);
    kubelet.run_pod(PodSpec::one("b", GPU, 1)).await.unwrap();
}

#[tokio::test]
async fn a_pod_without_devices_runs_without_a_plugin() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let plain = PodSpec::new("a")
        .namespace("ops")
        .container(ContainerSpec::new("main").env("A", "b"));
    let pod = kubelet.run_pod(plain).await.unwrap();
    assert_eq!(kubelet.container(&pod, "main").unwrap().env("A"), Some("b"));
    assert_eq!(
        (
            kubelet.status(&pod).name.as_str(),
            kubelet.starts(&pod, "main")
        ),
        ("ops/a", 1)
    );
}
