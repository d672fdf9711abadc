//! NUMA alignment, and the crash that a vanished device causes with it.

use gpushared_tests::{
    FakeKubelet, NodeDirs, PodError, PodSpec, TopologyPolicy, Violation, wait_until,
};

use super::GPU;
use crate::reference_plugin::{ReferencePlugin, device};

async fn two_nodes(policy: TopologyPolicy) -> (NodeDirs, FakeKubelet, ReferencePlugin) {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet())
        .topology(policy, &[0, 1])
        .start()
        .await;
    let at = |n: i64| device(&format!("gpu{n}"), true, &[n / 2]);
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, (0..4).map(at).collect());
    kubelet.wait_for_allocatable(GPU, 4).await;
    (node, kubelet, plugin)
}

#[tokio::test]
async fn aligned_devices_come_from_one_numa_node() {
    let (_node, kubelet, _plugin) = two_nodes(TopologyPolicy::SingleNumaNode).await;
    for name in ["a", "b"] {
        let pod = kubelet.run_pod(PodSpec::one(name, GPU, 2)).await.unwrap();
        let ids = kubelet.container(&pod, "main").unwrap().ids(GPU).to_vec();
        assert!(
            ids == ["gpu0", "gpu1"] || ids == ["gpu2", "gpu3"],
            "{ids:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_aligned_is_rejected_or_scattered_by_policy() {
    for (policy, admitted) in [
        (TopologyPolicy::SingleNumaNode, false),
        (TopologyPolicy::Restricted, false),
        (TopologyPolicy::BestEffort, true),
        (TopologyPolicy::None, true),
    ] {
        let (_node, kubelet, _plugin) = two_nodes(policy).await;
        // One of each node is gone, so that two devices can only come from both.
        let third = PodSpec::one("third", GPU, 2);
        for (name, wanted) in [("first", "gpu0"), ("second", "gpu2")] {
            take(&kubelet, name, wanted).await;
        }
        let outcome = kubelet.run_pod(third).await;
        assert_eq!(outcome.is_ok(), admitted, "{policy:?}");
        if let Err(PodError::Rejected { reason, message }) = outcome {
            let expected = "Resources cannot be allocated with Topology locality";
            assert_eq!(
                (reason.as_str(), message.as_str()),
                ("TopologyAffinityError", expected)
            );
        }
    }
}

/// Runs pods of one device until one holds `wanted`, and ends the others.
async fn take(kubelet: &FakeKubelet, name: &str, wanted: &str) {
    let mut others = Vec::new();
    loop {
        let pod = kubelet.run_pod(PodSpec::one(name, GPU, 1)).await.unwrap();
        if kubelet.container(&pod, "main").unwrap().ids(GPU) == [wanted] {
            break;
        }
        others.push(pod);
    }
    others.iter().for_each(|pod| kubelet.remove_pod(pod));
}

#[tokio::test]
async fn admitting_a_pod_again_whose_device_vanished_crashes_the_kubelet() {
    let (_node, kubelet, plugin) = two_nodes(TopologyPolicy::Restricted).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 2)).await.unwrap();
    let held = kubelet.container(&pod, "main").unwrap().ids(GPU).to_vec();
    let left = (0..4)
        .map(|n| format!("gpu{n}"))
        .filter(|id| *id != held[0]);
    plugin.list(left.map(|id| device(&id, true, &[0])).collect());
    wait_until("the fault is seen", || !kubelet.violations().is_empty()).await;
    kubelet.restart_by_kill9().await;
    kubelet.wait_for_allocatable(GPU, 3).await;
    assert_eq!(kubelet.readmit_pods().await, [pod]);
    assert!(!kubelet.is_up());
    let crashed = |violation: &Violation| matches!(violation, Violation::CrashedInTopologyHints { device, .. } if *device == held[0]);
    assert!(kubelet.take_violations().iter().any(crashed));
}
