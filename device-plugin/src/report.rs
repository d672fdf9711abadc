//! What the rest of the daemon may know of registration: for readiness, metrics and `gpusharectl`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gpushared_domain::resource::ResourceName;
use tokio::sync::watch;

/// Where every resource stands with the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// One entry for each resource that was ever listed.
    pub resources: BTreeMap<ResourceName, ResourceRegistration>,
}

impl RegistrationStatus {
    /// Something is listed, and the kubelet knows all of it.
    #[must_use]
    pub fn all_registered(&self) -> bool {
        !self.resources.is_empty()
            && self
                .resources
                .values()
                .all(|resource| matches!(resource.state, RegistrationState::Registered { .. }))
    }
}

/// Where one resource stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRegistration {
    /// The state.
    pub state: RegistrationState,
    /// Successful registrations in the life of the process.
    pub registrations: u64,
    /// Of the last one: from the sight of its cause (a `kubelet.sock`, or the end of a stream) to the kubelet's answer.
    pub last_took: Option<Duration>,
}

/// The states of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationState {
    /// There is nothing to register with.
    WaitingForKubelet {
        /// What is missing, with its path.
        why: String,
    },
    /// The kubelet is being asked.
    Registering,
    /// The kubelet said yes.
    Registered {
        /// When.
        since: SystemTime,
    },
    /// The last try failed; it is repeated with backoff.
    Failed {
        /// The whole chain of the error.
        error: String,
    },
}

/// The one writer of a [`RegistrationStatus`], shared by all resources.
#[derive(Debug, Clone)]
pub(crate) struct Report(Arc<watch::Sender<Arc<RegistrationStatus>>>);

impl Report {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<RegistrationStatus>> {
        self.0.subscribe()
    }

    /// Publishes a state, if it is another than the last one.
    pub(crate) fn state(&self, resource: &ResourceName, state: RegistrationState) {
        self.update(resource, |entry| entry.state = state);
    }

    /// Publishes a successful registration.
    pub(crate) fn registered(&self, resource: &ResourceName, took: Duration) {
        self.update(resource, |entry| {
            entry.state = RegistrationState::Registered {
                since: SystemTime::now(),
            };
            entry.registrations += 1;
            entry.last_took = Some(took);
        });
    }

    fn update(&self, resource: &ResourceName, change: impl FnOnce(&mut ResourceRegistration)) {
        self.0.send_if_modified(|status| {
            let known = status.resources.get(resource);
            let mut entry = known.cloned().unwrap_or(ResourceRegistration {
                state: RegistrationState::Registering,
                registrations: 0,
                last_took: None,
            });
            change(&mut entry);
            if known == Some(&entry) {
                return false;
            }
            Arc::make_mut(status)
                .resources
                .insert(resource.clone(), entry);
            true
        });
    }
}
