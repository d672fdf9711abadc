//! The pod table: what was asked for, in which order it came, and what became of it.
//!
//! A pod is active from its arrival until it is known to have ended. A pod that is being deleted stays
//! active until [`FakeKubelet::finish_termination`](super::FakeKubelet::finish_termination), and so
//! does its claim on devices.

use std::collections::BTreeMap;
use std::fmt;

use super::containers::Container;

/// What tells two pods of the same name apart. `PodResources` does not show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(String);

impl From<String> for PodUid {
    fn from(uid: String) -> Self {
        Self(uid)
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One container of a pod's spec.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) limits: BTreeMap<String, usize>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<(String, String)>,
    pub(crate) kind: ContainerKind,
}

/// How a container runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ContainerKind {
    #[default]
    App,
    /// Runs to its end before the next one starts; its devices are reused.
    Init,
    /// A restartable init container: keeps its devices.
    Sidecar,
}

impl ContainerSpec {
    /// A container that asks for nothing.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a resource limit.
    #[must_use]
    pub fn limit(mut self, resource: &str, count: usize) -> Self {
        self.limits.insert(resource.to_owned(), count);
        self
    }

    /// Adds an environment variable of the pod's spec.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a volume mount of the pod's spec.
    #[must_use]
    pub fn mount(mut self, host_path: &str, container_path: &str) -> Self {
        self.mounts
            .push((host_path.to_owned(), container_path.to_owned()));
        self
    }
}

/// A pod as it is submitted.
#[derive(Debug, Clone)]
pub struct PodSpec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Init containers first, as the kubelet walks them.
    pub(crate) containers: Vec<ContainerSpec>,
    pub(crate) rejected_after_allocate: Option<(String, String)>,
}

impl PodSpec {
    /// A pod of namespace `default` without containers.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            containers: Vec::new(),
            rejected_after_allocate: None,
        }
    }

    /// A pod with one container, `main`, that asks for `count` of `resource`.
    #[must_use]
    pub fn one(name: &str, resource: &str, count: usize) -> Self {
        Self::new(name).container(ContainerSpec::new("main").limit(resource, count))
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Adds an app container.
    #[must_use]
    pub fn container(mut self, container: ContainerSpec) -> Self {
        self.containers.push(container);
        self
    }

    /// Adds an init container; before the app containers.
    #[must_use]
    pub fn init(self, container: ContainerSpec) -> Self {
        self.before_app_containers(ContainerSpec {
            kind: ContainerKind::Init,
            ..container
        })
    }

    /// Adds a restartable init container; before the app containers.
    #[must_use]
    pub fn sidecar(self, container: ContainerSpec) -> Self {
        self.before_app_containers(ContainerSpec {
            kind: ContainerKind::Sidecar,
            ..container
        })
    }

    fn before_app_containers(mut self, container: ContainerSpec) -> Self {
        let place = self
            .containers
            .iter()
            .take_while(|c| c.kind != ContainerKind::App)
            .count();
        self.containers.insert(place, container);
        self
    }

    /// Lets a later admission step (CPU manager, predicates) reject the pod after its devices were
    /// allocated.
    #[must_use]
    pub fn rejected_after_allocate(mut self, reason: &str, message: &str) -> Self {
        self.rejected_after_allocate = Some((reason.to_owned(), message.to_owned()));
        self
    }
}

/// Phase of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not admitted yet, or not all containers started.
    Pending,
    /// All app containers started.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, or rejected. Final.
    Failed,
}

/// A pod's status as its owner sees it.
#[derive(Debug, Clone)]
pub struct PodStatus {
    /// Namespace and name.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it failed, in one word.
    pub reason: String,
    /// Why it failed, in a sentence.
    pub message: String,
}

/// What the runtime knows of a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerState {
    pub(crate) running: bool,
    pub(crate) starts: usize,
    /// As it was last started.
    pub(crate) last: Option<Container>,
}

/// A pod and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) uid: PodUid,
    pub(crate) spec: PodSpec,
    pub(crate) phase: Phase,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Deletion was asked for.
    pub(crate) terminating: bool,
    /// Nothing of it is left.
    pub(crate) terminated: bool,
    pub(crate) containers: BTreeMap<String, ContainerState>,
}

impl Pod {
    pub(crate) fn new(uid: PodUid, spec: PodSpec) -> Self {
        Self {
            uid,
            spec,
            phase: Phase::Pending,
            reason: String::new(),
            message: String::new(),
            terminating: false,
            terminated: false,
            containers: BTreeMap::new(),
        }
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.spec.namespace, self.spec.name)
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether the kubelet counts it: terminal pods do not count unless they are still terminating.
    pub(crate) fn is_active(&self) -> bool {
        !self.terminated && (!self.is_finished() || self.terminating)
    }

    pub(crate) fn status(&self) -> PodStatus {
        PodStatus {
            name: self.full_name(),
            phase: self.phase,
            reason: self.reason.clone(),
            message: self.message.clone(),
        }
    }
}
