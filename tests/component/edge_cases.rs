//! The edge cases of the kubelet fact sheet (section 14), each as a test with the claim as its name.
//!
//! Rows that the front end alone decides run against the real device-plugin crate with a scripted
//! daemon ([`registration`], [`requests`]); the others against the real daemon as a process on a
//! simulated node ([`node`]). Not here: row 7's reshape and rows 13 and 14, which need dynamic MIG
//! and MPS.

mod answers;
mod leases;
mod migration;
mod node;
mod registration;
mod requests;

use std::time::{Duration, Instant};

use gpushared_tests::{DaemonUnderTest, FakeKubelet, NodeDirs, SimNode, daemon_config, wait_until};

const GPU: &str = "nvidia.com/gpu";

/// More than the grace period and two polls of the daemon's test configuration.
const LONGER_THAN_THE_GRACE: Duration = Duration::from_millis(1500);

/// A node with a kubelet, simulated GPUs and the daemon, ready.
struct Node {
    // Dropped in this order: the daemon before the kubelet, the directories last.
    daemon: DaemonUnderTest,
    kubelet: FakeKubelet,
    gpus: SimNode,
    dirs: NodeDirs,
    config: String,
}

impl Node {
    /// `gpus` as the simulator names them, e.g. `a100-40gb:2`. The kubelet has the list of whole GPUs:
    /// a pod that comes before a resource was ever listed passes without a device.
    async fn new(gpus: &str) -> Self {
        let mut node = Self::before_ready(gpus, |_| {}).await;
        node.daemon.wait_ready().await;
        wait_until("the kubelet has a list", || {
            !node.kubelet.devices(GPU).is_empty()
        })
        .await;
        node
    }

    /// As [`Node::new`], with a word on the GPUs first and without waiting for the daemon.
    async fn before_ready(gpus: &str, prepare: impl FnOnce(&SimNode)) -> Self {
        let dirs = NodeDirs::new();
        let gpus = SimNode::new(&dirs.root().join("gpus"), gpus);
        prepare(&gpus);
        let kubelet = FakeKubelet::builder(dirs.kubelet())
            .cdi_dir(dirs.cdi())
            .stand_in_devices()
            .start()
            .await;
        let config = daemon_config(&dirs, &gpus);
        let daemon = DaemonUnderTest::start(&dirs, &config);
        Self {
            daemon,
            kubelet,
            gpus,
            dirs,
            config,
        }
    }

    /// Starts a daemon in place of the one that ended, with the same configuration.
    fn start_daemon(&mut self) {
        self.daemon = DaemonUnderTest::start(&self.dirs, &self.config);
    }

    /// Leased places of all resources, by the daemon's account.
    async fn leased(&self) -> u64 {
        let status = self.daemon.status().await;
        let resources = status["resources"].as_array().unwrap().clone();
        resources
            .iter()
            .map(|resource| resource["leased"].as_u64().unwrap())
            .sum()
    }

    /// Waits until `count` places are leased.
    async fn until_leased(&self, count: u64) {
        let start = Instant::now();
        while self.leased().await != count {
            assert!(
                start.elapsed() < gpushared_tests::PATIENCE,
                "waited in vain for {count} leases"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Looks for longer than the grace period and two polls: `count` places are leased all the time.
    async fn stays_leased(&self, count: u64) {
        let start = Instant::now();
        while start.elapsed() < LONGER_THAN_THE_GRACE {
            assert_eq!(self.leased().await, count, "after {:?}", start.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
