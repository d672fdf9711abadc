//! A fake kubelet over real unix sockets, modelled on Kubernetes 1.36, faults included.
//!
//! It is one process life of a device manager ([`restart`]) on a node that outlives it: registration
//! and client map ([`registration`]), endpoint states ([`endpoint`]), device tables ([`devices`]),
//! admission ([`admission`], [`allocation`], [`topology`]), container start with CDI ([`containers`],
//! [`cdi`]), `PodResources` ([`podresources`]) and the checkpoint file ([`checkpoint`]).
//!
//! What a plugin may never do is a [`Violation`]: it is recorded when it happens and makes the test
//! fail when the fake is dropped, unless the test took it by [`FakeKubelet::take_violations`].
//!
//! ```no_run
//! # async fn demo() -> Result<(), gpushared_tests::PodError> {
//! use gpushared_tests::{FakeKubelet, NodeDirs, PodSpec};
//!
//! let node = NodeDirs::new();
//! let kubelet = FakeKubelet::builder(node.kubelet()).cdi_dir(node.cdi()).start().await;
//! // … the plugin starts and registers …
//! kubelet.wait_for_allocatable("nvidia.com/mig-1g.10gb", 7).await;
//! let pod = kubelet.run_pod(PodSpec::one("notebook", "nvidia.com/mig-1g.10gb", 1)).await?;
//! let main = kubelet.container(&pod, "main").unwrap();
//! println!("{:?} sees {:?}", main.ids("nvidia.com/mig-1g.10gb"), main.device_nodes);
//! kubelet.remove_pod(&pod);
//! # Ok(()) }
//! ```
//!
//! Not modelled: DRA and the plugin watcher, CPU and memory managers, image pulls, probes, cgroups.

mod admission;
mod allocate_call;
mod allocation;
mod authority;
mod cdi;
mod checkpoint;
mod clock;
mod container_config;
mod containers;
mod devices;
mod endpoint;
mod event;
mod names;
mod node;
mod podresources;
mod pods;
mod process;
mod registration;
mod restart;
mod status;
mod topology;
mod transport;
mod workload;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use admission::PodError;
pub use checkpoint::CHECKPOINT_FILE;
pub use clock::Clock;
pub use containers::{Container, DeviceNode, Mount};
pub use event::{Event, Rpc, Violation};
pub use pods::{ContainerSpec, Phase, PodSpec, PodStatus, PodUid};
pub use process::{DuplicateRegistration, PodResourcesMode};
pub use restart::{Checkpoint, SocketStart, Start};
pub use status::AllocatedResources;
pub use topology::TopologyPolicy;

use clock::Chance;
use process::{Process, Settings, World, WorldState};

/// A node's kubelet. Every method takes `&self`, so that it can be shared in an [`Arc`].
#[derive(Debug)]
pub struct FakeKubelet {
    world: Arc<World>,
    /// The running process, if one runs.
    process: Mutex<Option<Arc<Process>>>,
    /// The registration socket of a start that is held back.
    bound: Mutex<Option<OwnedFd>>,
}

/// Settings of a [`FakeKubelet`] before its first start.
#[derive(Debug)]
pub struct Builder {
    settings: Settings,
    seed: u64,
}

impl Builder {
    /// Adds a directory of CDI specs; later ones have priority. None by default.
    #[must_use]
    pub fn cdi_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.settings.cdi_dirs.push(dir.into());
        self
    }

    /// The Topology Manager's policy and the machine's NUMA nodes. Default: none, one node 0.
    #[must_use]
    pub fn topology(mut self, policy: TopologyPolicy, numa_nodes: &[i64]) -> Self {
        self.settings.policy = policy;
        self.settings.numa_nodes = numa_nodes.iter().copied().collect();
        self
    }

    /// What a second registration does. Default: as upstream.
    #[must_use]
    pub fn duplicates(mut self, duplicates: DuplicateRegistration) -> Self {
        self.settings.duplicates = duplicates;
        self
    }

    /// Seed of every order that is random in the real kubelet.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long the dial back may take: 10 s in the real kubelet and by default.
    #[must_use]
    pub fn dial_timeout(mut self, limit: Duration) -> Self {
        self.settings.dial_timeout = limit;
        self
    }

    /// How long `PreStartContainer` may take: 30 s in the real kubelet and by default.
    #[must_use]
    pub fn pre_start_timeout(mut self, limit: Duration) -> Self {
        self.settings.pre_start_timeout = limit;
        self
    }

    /// After which time a call without a deadline counts as hung. Default 20 s.
    #[must_use]
    pub fn hung_after(mut self, limit: Duration) -> Self {
        self.settings.hung_after = limit;
        self
    }

    /// How long [`FakeKubelet::run_pod`] tries to start a container again. Default 15 s.
    #[must_use]
    pub fn start_patience(mut self, limit: Duration) -> Self {
        self.settings.start_patience = limit;
        self
    }

    /// Lets regular files stand in for device nodes, on a simulated node.
    #[must_use]
    pub fn stand_in_devices(mut self) -> Self {
        self.settings.stand_in_devices = true;
        self
    }

    /// `PodResources` as before Kubernetes 1.34: no `Get`, and `List` shows finished pods, too.
    #[must_use]
    pub fn before_1_34(mut self) -> Self {
        self.settings.before_1_34 = true;
        self
    }

    /// Makes the kubelet without starting it.
    #[must_use]
    pub fn build(self) -> FakeKubelet {
        let state = WorldState {
            pods: Vec::new(),
            next_uid: 1,
            node: std::collections::BTreeMap::new(),
            events: Vec::new(),
            violations: Vec::new(),
            chance: Chance::new(self.seed),
            cdi_seen: std::collections::BTreeMap::new(),
        };
        let world = World {
            settings: self.settings,
            clock: Clock::new(),
            state: Mutex::new(state),
            pod_resources: tokio::sync::watch::Sender::new(PodResourcesMode::Serving),
        };
        FakeKubelet {
            world: Arc::new(world),
            process: Mutex::default(),
            bound: Mutex::default(),
        }
    }

    /// Makes the kubelet and starts it.
    pub async fn start(self) -> FakeKubelet {
        let kubelet = self.build();
        kubelet.start(Start::default()).await;
        kubelet
    }
}

impl FakeKubelet {
    /// A kubelet with `root` as its root directory (`/var/lib/kubelet` on a real node).
    #[must_use]
    pub fn builder(root: impl Into<PathBuf>) -> Builder {
        Builder {
            settings: Settings {
                root: root.into(),
                cdi_dirs: Vec::new(),
                policy: TopologyPolicy::None,
                numa_nodes: BTreeSet::from([0]),
                duplicates: DuplicateRegistration::AsUpstream,
                dial_timeout: Duration::from_secs(10),
                pre_start_timeout: Duration::from_secs(30),
                hung_after: Duration::from_secs(20),
                start_patience: Duration::from_secs(15),
                stand_in_devices: false,
                before_1_34: false,
            },
            seed: 1,
        }
    }

    /// The kubelet's root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.world.settings.root
    }

    /// The clock: five minutes pass by `clock().advance(…)`.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.world.clock
    }

    /// Whether a kubelet process runs; it does not after a crash.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process()
            .is_some_and(|process| !process.gone.is_cancelled())
    }

    /// Everything that happened, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.world.lock().events.clone()
    }

    /// How often a plugin registered `resource` with success.
    #[must_use]
    pub fn registrations(&self, wanted: &str) -> usize {
        let of = |event: &&Event| matches!(event, Event::Registered { resource, .. } if resource == wanted);
        self.world.lock().events.iter().filter(of).count()
    }

    /// What plugins did that hurts a real node, so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.world.lock().violations.clone()
    }

    /// Takes the violations, so that they do not make the test fail.
    #[must_use]
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.world.lock().violations)
    }

    /// Changes how `PodResources` answers.
    pub fn set_pod_resources(&self, mode: PodResourcesMode) {
        self.world.pod_resources.send_replace(mode);
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.process.lock().unwrap().clone()
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.kill9();
        let violations = self.violations();
        if violations.is_empty() || std::thread::panicking() {
            return;
        }
        let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
        panic!("a plugin hurt the kubelet:\n  {}", texts.join("\n  "));
    }
}
