//! A node that changes from NVIDIA's device plugin to this daemon while pods go on.

use gpushared_tests::{DaemonUnderTest, FakeKubelet, NodeDirs, PodSpec, SimNode, daemon_config};

use super::{GPU, Node};
use crate::reference_plugin::{ReferencePlugin, device};

/// NVIDIA's plugin with time-slicing names a GPU once for each share, and one that has a share has the GPU.
#[tokio::test]
async fn what_nvidias_plugin_gave_out_stays_taken_while_its_pod_lives() {
    let dirs = NodeDirs::new();
    let gpus = SimNode::new(&dirs.root().join("gpus"), "a100-40gb:2");
    let kubelet = FakeKubelet::builder(dirs.kubelet())
        .cdi_dir(dirs.cdi())
        .stand_in_devices()
        .start()
        .await;
    let config = daemon_config(&dirs, &gpus);
    let mut daemon = DaemonUnderTest::start(&dirs, &config);
    daemon.wait_ready().await;
    kubelet.wait_for_allocatable(GPU, 2).await;
    let uuid = kubelet.devices(GPU).into_keys().next().unwrap();
    daemon.kill9();
    std::fs::remove_dir_all(dirs.run()).unwrap();
    std::fs::remove_dir_all(dirs.lib()).unwrap();
    kubelet.restart_by_kill9().await;

    let share = device(&format!("{uuid}::1"), true, &[0]);
    let nvidias = ReferencePlugin::start(&dirs.kubelet(), GPU, vec![share]);
    kubelet.wait_for_allocatable(GPU, 1).await;
    let pod = kubelet.run_pod(PodSpec::one("old", GPU, 1)).await.unwrap();
    drop(nvidias);

    std::fs::create_dir_all(dirs.run()).unwrap();
    let daemon = DaemonUnderTest::start(&dirs, &config);
    let mut node = Node {
        daemon,
        kubelet,
        gpus,
        dirs,
        config,
    };
    node.daemon.wait_ready().await;
    node.until_leased(1).await;
    node.stays_leased(1).await;
    let status = node.daemon.status().await;
    assert!(status.to_string().contains(&uuid), "{status}");
    drop(node.kubelet.take_violations());
    node.kubelet.remove_pod(&pod);
    node.until_leased(0).await;
}
