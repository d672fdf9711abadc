//! One life of the kubelet's process, and the node that outlives it.
//!
//! [`Process`] holds what a kubelet loses when it ends: device lists, clients, the allocation table
//! (but for its checkpoint). [`World`] holds what stays: pods, running containers, the node object,
//! the test's record of events and violations. Locks are taken manager first, world second, and none
//! is held across an await.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clock::{Chance, Clock};
use super::devices::Manager;
use super::event::{Event, Violation};
use super::pods::{Pod, PodUid};
use super::registration::Clients;
use super::topology::TopologyPolicy;
use super::transport::Connections;

/// What a test chooses once.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The kubelet's root directory.
    pub(crate) root: PathBuf,
    /// Where CDI specs are read, lowest priority first.
    pub(crate) cdi_dirs: Vec<PathBuf>,
    pub(crate) policy: TopologyPolicy,
    pub(crate) numa_nodes: BTreeSet<i64>,
    pub(crate) duplicates: DuplicateRegistration,
    pub(crate) dial_timeout: Duration,
    pub(crate) pre_start_timeout: Duration,
    pub(crate) hung_after: Duration,
    pub(crate) start_patience: Duration,
    pub(crate) stand_in_devices: bool,
    pub(crate) before_1_34: bool,
}

impl Settings {
    pub(crate) fn device_plugins(&self) -> PathBuf {
        self.root.join("device-plugins")
    }

    pub(crate) fn registration_socket(&self) -> PathBuf {
        self.device_plugins()
            .join(gpushared_proto::deviceplugin::KUBELET_SOCKET)
    }

    pub(crate) fn pod_resources_socket(&self) -> PathBuf {
        self.root.join("pod-resources").join("kubelet.sock")
    }
}

/// What a second registration of a live resource does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateRegistration {
    /// Kubernetes up to 1.36 at least: both streams feed one list, and the end of either drops the
    /// newest client.
    AsUpstream,
    /// As it should be: the newest client replaces the older one, whose stream counts no more.
    Fixed,
}

/// How `PodResources` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodResourcesMode {
    /// As it should, within its rate limit.
    Serving,
    /// Every call is refused with `Unavailable`.
    Unavailable,
    /// Every call waits until the mode changes.
    Hanging,
    /// As a kubelet that was just started and whose API server is away: no pod is known, nothing is freed.
    BeforePods,
}

/// The node apart from the kubelet's process.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) state: Mutex<WorldState>,
    pub(crate) pod_resources: tokio::sync::watch::Sender<PodResourcesMode>,
}

/// Its parts that change.
#[derive(Debug)]
pub(crate) struct WorldState {
    /// In the order of their creation.
    pub(crate) pods: Vec<Pod>,
    pub(crate) next_uid: u32,
    /// The node object: capacity and allocatable of every resource ever published.
    pub(crate) node: BTreeMap<String, (usize, usize)>,
    pub(crate) events: Vec<Event>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) chance: Chance,
    /// What each CDI name stood for when a container last used it.
    pub(crate) cdi_seen: BTreeMap<String, String>,
}

impl World {
    pub(crate) fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn note(&self, event: Event) {
        self.lock().events.push(event);
    }

    pub(crate) fn violate(&self, violation: Violation) {
        let mut state = self.lock();
        if !state.violations.contains(&violation) {
            state.violations.push(violation);
        }
    }

    pub(crate) fn shuffle<T>(&self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        self.lock().chance.shuffle(&mut items);
        items
    }

    pub(crate) fn active_pods(&self) -> Vec<PodUid> {
        let state = self.lock();
        state
            .pods
            .iter()
            .filter(|pod| pod.is_active())
            .map(|pod| pod.uid.clone())
            .collect()
    }
}

/// One life of the kubelet.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) manager: Mutex<Manager>,
    pub(crate) clients: Clients,
    /// One pod at a time, whatever it asks for.
    pub(crate) admission: tokio::sync::Mutex<()>,
    pub(crate) connections: Arc<Connections>,
    /// Cancelled when the process is no more.
    pub(crate) gone: CancellationToken,
    pub(crate) sources_ready: AtomicBool,
    /// Containers that the runtime reported running when this process began.
    pub(crate) initially_running: BTreeSet<(PodUid, String)>,
}

impl Process {
    pub(crate) fn manager(&self) -> MutexGuard<'_, Manager> {
        self.manager.lock().unwrap()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.world.settings
    }

    pub(crate) fn sources_ready(&self) -> bool {
        self.sources_ready.load(Ordering::SeqCst)
    }

    /// Ends like a process that got SIGKILL or panicked: nobody is told anything.
    pub(crate) fn die(&self) {
        self.connections.cut();
        self.gone.cancel();
    }

    /// Records `violation` and dies of it.
    pub(crate) fn crash(&self, violation: Violation) {
        if !self.gone.is_cancelled() {
            self.world.violate(violation);
            self.die();
        }
    }
}
