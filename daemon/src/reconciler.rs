//! The one task that owns the node's state: observes, decides, journals, acts, publishes.
//!
//! Everyone else sends a [`Message`] or reads what is published. Nothing here waits for the driver or the kubelet:
//! watches do that and send what they saw, so an Allocate is answered whatever hangs elsewhere. Work on files is
//! short and done in place.
//!
//! Order of every change that matters: decide on the state in memory → journal → effect (CDI file) → answer. A
//! crash between two of them leaves a lease that nobody uses, which observation ends, or a CDI file without a
//! grant, which the next start removes.

mod health;
mod report;

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpushared_device_plugin::{DeviceLists, Refusal, RefusalKind, RegistrationStatus};
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::foreign_id::{Holdings, MigPlaces};
use gpushared_domain::ids::{ContainerRef, GpuUuid};
use gpushared_domain::inventory::Inventory;
use gpushared_domain::lease::{GrantId, LeaseTable};
use gpushared_domain::node::{Node, RefuseAllocate};
use gpushared_domain::ports::GpuEvent;
use gpushared_domain::resource::ResourceName;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::containers;
use crate::driver_thread::DriverCallError;
use crate::durable::Durable;
use crate::grants::Grants;
use crate::message::Message;
use crate::recovery;
use crate::telemetry::Chain;

/// Observations between two wishes for a fresh record of the kubelet.
const REPEAT_EVERY: u32 = 5;

/// What the watches need to know of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchView {
    /// GPUs to look at.
    pub gpus: Vec<GpuUuid>,
    /// Anything is leased, so PodResources matters.
    pub leased: bool,
    /// Grows with every wish for a fresh inventory.
    pub rescan: u64,
    /// Grows with every wish for a look at the GPUs now: an Xid says that something happened, not what is left.
    pub look: u64,
}

/// Why the reconciler ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconcilerError {
    /// The library in this process belongs to a driver that is not there any more.
    #[error("the NVIDIA driver was replaced while running; a new start loads the new one")]
    DriverReplaced,
    /// There is no driver any more.
    #[error("the NVIDIA driver went away while running; a new start looks for it")]
    DriverGone,
}

/// Channels of the reconciler.
#[derive(Debug)]
pub struct Channels {
    /// everyone --messages--> reconciler
    pub messages_rx: mpsc::Receiver<Message>,
    /// event thread --events--> reconciler
    pub events_rx: mpsc::Receiver<GpuEvent>,
    /// reconciler --lists--> front end
    pub lists_tx: watch::Sender<Arc<DeviceLists>>,
    /// reconciler --view--> watches
    pub view_tx: watch::Sender<WatchView>,
    /// front end --registrations--> reconciler
    pub registrations_rx: watch::Receiver<Arc<RegistrationStatus>>,
}

/// The task's state.
#[derive(Debug)]
pub struct Reconciler {
    config: Config,
    node: Node,
    durable: Durable,
    grants: Grants,
    channels: Channels,
    started_at: u64,
    driver_trouble: Option<String>,
    /// Answers in a row that said that there is no driver.
    driver_failures: u32,
    /// Places that PodResources does not show and the kubelet's record binds, and observations since they changed.
    bound: (Vec<PluginDeviceId>, u32),
}

/// Unix seconds.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

impl Reconciler {
    /// From what was found at start. Publishes the first lists.
    #[must_use]
    pub fn new(
        config: Config,
        node: Node,
        durable: Durable,
        grants: Grants,
        channels: Channels,
    ) -> Self {
        let mut reconciler = Self {
            config,
            node,
            durable,
            grants,
            channels,
            started_at: unix_now(),
            driver_trouble: None,
            driver_failures: 0,
            bound: (Vec::new(), 0),
        };
        reconciler.restore_grants();
        reconciler.persist();
        reconciler.publish();
        reconciler
    }

    /// Where registrations are told, once the front end is there.
    pub fn set_registrations(
        &mut self,
        registrations_rx: watch::Receiver<Arc<RegistrationStatus>>,
    ) {
        self.channels.registrations_rx = registrations_rx;
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When only a new process can go on.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), ReconcilerError> {
        loop {
            let before = self.node.leases.iter().count();
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.durable.sync();
                    return Ok(());
                }
                Some(message) = self.channels.messages_rx.recv() => self.take(message)?,
                Some(event) = self.channels.events_rx.recv() => self.event(&event),
            }
            if self.node.leases.iter().count() != before {
                tracing::debug!(leases = self.node.leases.iter().count(), "Leases changed");
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), ReconcilerError> {
        // a reply fails only when its caller gave up, and then nobody needs it
        match message {
            Message::Allocate {
                resource,
                ids,
                reply,
            } => {
                if reply.is_closed() {
                    return Ok(());
                }
                let before = self.node.leases.clone();
                let answer = self.allocate(&resource, &ids, &before);
                // before the answer: the next pod must not be given what overlaps
                self.publish();
                if reply.send(answer).is_err_and(|unheard| unheard.is_ok()) {
                    tracing::warn!(%resource, "Allocate taken back: nobody waited for its answer any more");
                    self.node.leases = before;
                    self.drop_grants();
                    self.persist();
                    self.publish();
                }
            }
            Message::Prefer {
                available,
                must_include,
                size,
                reply,
            } => {
                drop(reply.send(self.node.prefer(&available, &must_include, size)));
            }
            Message::PreStart { ids, reply } => drop(reply.send(self.pre_start(&ids))),
            Message::Observed(observed) => self.observed(observed)?,
            Message::Probed { gpu, probe } => self.probed(&gpu, probe)?,
            Message::InUse(in_use) => self.in_use(&in_use),
            Message::Status(reply) => drop(reply.send(self.status())),
            Message::ClearHealth { gpu, reply } => {
                let ended = self.node.health.clear(&gpu);
                tracing::info!(%gpu, conditions = ended, "Health cleared by an operator");
                self.persist();
                self.publish();
                reply.send(ended).ok();
            }
            Message::RuntimeAnswered { has_cdi } => self.runtime_answered(has_cdi),
            Message::Reload(config) => self.reload(*config),
        }
        Ok(())
    }

    /// `before` is the table without this request: what a failure goes back to.
    fn allocate(
        &mut self,
        resource: &ResourceName,
        ids: &[PluginDeviceId],
        before: &LeaseTable,
    ) -> Result<ContainerEdits, Refusal> {
        let allowed = self.node.may_allocate(resource, ids);
        let handles: Vec<_> = match allowed {
            Ok(found) => found
                .into_iter()
                .map(|(_, handles)| handles.clone())
                .collect(),
            Err(refused) => {
                tracing::warn!(%resource, reason = %refused, "Allocate refused");
                return Err(refusal(&refused));
            }
        };
        let grant = self.durable.next_grant();
        self.node
            .leases
            .reserve(unix_now(), &grant, resource, ids)
            .map_err(|error| Refusal::new(RefusalKind::Conflict, error.to_string()))?;
        self.durable.grants.insert(grant.clone(), ids.to_vec());
        if !self.config.strategy.is_cdi() {
            self.durable.without_cdi.insert(grant.clone());
        }
        let handles: Vec<_> = handles.iter().collect();
        let made = self
            .durable
            .record(&self.node)
            .map_err(|error| Chain(&error).to_string())
            .and_then(|()| {
                self.grants
                    .make(&grant, &handles)
                    .map_err(|error| Chain(&error).to_string())
            });
        match made {
            Ok(edits) => {
                let devices = ids.len();
                tracing::info!(%resource, %grant, devices, first = %ids[0], "Allocated");
                Ok(edits)
            }
            Err(error) => {
                tracing::error!(%resource, %grant, error, "Allocate failed");
                self.node.leases.clone_from(before);
                self.durable.grants.remove(&grant);
                self.persist();
                // what was seen last is not what is there
                self.channels.view_tx.send_modify(|view| view.rescan += 1);
                let text = format!("this node cannot hand out {resource} now: {error}");
                Err(Refusal::new(RefusalKind::Internal, text))
            }
        }
    }

    /// Everything that can be given out exists already; what may be missing is a CDI file.
    fn pre_start(&mut self, ids: &[PluginDeviceId]) -> Result<(), Refusal> {
        for id in ids {
            let why = self.node.handles(std::slice::from_ref(id)).is_none();
            if why {
                let why = self.node.why_unhealthy(id).join("; ");
                let text = format!("{id} is not there now: {why}");
                return Err(Refusal::new(RefusalKind::NotReady, text));
            }
        }
        self.restore_grants();
        Ok(())
    }

    fn observed(
        &mut self,
        observed: Result<Inventory, DriverCallError>,
    ) -> Result<(), ReconcilerError> {
        match observed {
            Ok(inventory) => {
                self.driver_trouble = None;
                self.driver_failures = 0;
                if self.node.inventory() == Some(&inventory) {
                    // somebody may have removed a file, or the driver's files have come
                    self.restore_grants();
                    return Ok(());
                }
                let before = self.node.resources().len();
                self.node.observe(inventory);
                for left in &self.node.offers().left_out {
                    tracing::info!(what = left.what, why = left.why, "Not offered");
                }
                self.restore_grants();
                if self.node.resources().len() != before {
                    self.persist();
                }
                self.publish();
            }
            Err(error) => self.driver_failed(&error)?,
        }
        Ok(())
    }

    fn in_use(&mut self, holdings: &Holdings) {
        let now = unix_now();
        let in_use = holdings.places(&self.node);
        let adopted = self.node.adopt(now, &in_use);
        if adopted {
            tracing::warn!("Leases rebuilt from PodResources");
        }
        let holders: BTreeMap<PluginDeviceId, ContainerRef> = in_use
            .iter()
            .map(|(id, (_, container))| (id.clone(), container.clone()))
            .collect();
        let grace = self.config.leases.grace.as_secs();
        let migs = MigPlaces::new(self.node.inventory());
        let record = LazyCell::new(|| recovery::bound_places(&self.config, &migs));
        let observed = self
            .node
            .leases
            .observe(now, grace, &holders, |id| record.contains(id));
        for id in &observed.released {
            if let Some(lease) = self.node.leases.released(id) {
                let held_s = now.saturating_sub(lease.granted_at);
                tracing::info!(slice = %id, resource = %lease.resource, held_s, "Released");
            }
        }
        if adopted || !observed.changed.is_empty() || !observed.released.is_empty() {
            self.drop_grants();
            self.persist();
            self.publish();
        }
        self.refresh_record(observed.bound);
    }

    /// The kubelet frees places in memory and writes that down with the next list only: asks for it when other
    /// places hang on its record, and every few observations.
    fn refresh_record(&mut self, bound: Vec<PluginDeviceId>) {
        let (known, times) = &mut self.bound;
        *times = if *known == bound { *times + 1 } else { 0 };
        *known = bound;
        if !known.is_empty() && *times % REPEAT_EVERY == 0 {
            self.repeat_lists();
        }
    }

    /// Forgets grants that no lease carries, with their CDI files.
    fn drop_grants(&mut self) {
        let over: Vec<GrantId> = self
            .durable
            .grants
            .keys()
            .filter(|grant| !self.node.leases.holds_grant(grant))
            .cloned()
            .collect();
        for grant in over {
            match self.grants.remove(&grant) {
                Ok(()) => drop(self.durable.grants.remove(&grant)),
                // kept, so that the next release tries again
                Err(error) => {
                    tracing::warn!(%grant, error = %Chain(&error), "CDI file not removed");
                }
            }
        }
    }

    /// Writes the CDI files of standing grants whose places are there, and removes those of MIG devices that are
    /// gone: the driver gives the number of an instance again, and the file would open another pod's.
    fn restore_grants(&mut self) {
        let without_cdi = &self.durable.without_cdi;
        let by_cdi = |grant: &&GrantId| !without_cdi.contains(*grant);
        if self.durable.grants.keys().any(|grant| by_cdi(&grant)) {
            self.grants.look_for_driver_files();
        }
        for (grant, ids) in &self.durable.grants {
            if !by_cdi(&grant) {
                continue;
            }
            let Some(handles) = self.node.handles(ids) else {
                if ids.iter().any(|id| self.node.is_gone(id.place()))
                    && let Err(error) = self.grants.remove(grant)
                {
                    tracing::error!(%grant, error = %Chain(&error), "CDI file of a MIG device that is gone not removed");
                }
                continue;
            };
            match self.grants.restore(grant, &handles) {
                Ok(true) => tracing::info!(%grant, "CDI file restored"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%grant, error = %Chain(&error), "CDI file not restored");
                }
            }
        }
    }

    fn runtime_answered(&mut self, has_cdi: bool) {
        let strategy = containers::of_runtime(has_cdi);
        if self.config.strategy != strategy {
            tracing::info!(from = %self.config.strategy, to = %strategy, "New grants are given otherwise");
        }
        self.config.strategy = strategy;
        self.grants.set_strategy(strategy);
        self.durable.runtime_has_cdi = Some(has_cdi);
        self.persist();
    }

    fn reload(&mut self, config: Config) {
        self.node.set_policy(config.offers.clone());
        // what `auto` came to mean stands
        let strategy = self.config.strategy;
        self.config = Config { strategy, ..config };
        self.channels.view_tx.send_modify(|view| view.rescan += 1);
        self.persist();
        self.publish();
        tracing::info!("Configuration reloaded");
    }

    fn persist(&mut self) {
        if let Err(error) = self.durable.record(&self.node) {
            tracing::error!(error = %Chain(&error), "The journal cannot be written");
        }
    }
}

fn refusal(refused: &RefuseAllocate) -> Refusal {
    let kind = match refused {
        RefuseAllocate::Unknown { .. } | RefuseAllocate::OtherResource { .. } => {
            RefusalKind::UnknownDevice
        }
        RefuseAllocate::Unhealthy { .. } => RefusalKind::Unhealthy,
        RefuseAllocate::Overlap { .. } => RefusalKind::Conflict,
    };
    let text = format!(
        "{refused}; the pod can be created again, and `gpusharectl status` on the node tells more"
    );
    Refusal::new(kind, text)
}

/// How long the reconciler may take to answer before it counts as stuck.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
