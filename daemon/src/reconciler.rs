//! The one task that owns the node's state: observes, decides, journals, acts, publishes.
//!
//! Everyone else sends a [`Message`] or reads what is published. Nothing here waits for the driver or the kubelet:
//! watches do that and send what they saw, so an Allocate is answered whatever hangs elsewhere. Work on files is
//! short and done in place.
//!
//! Order of every change that matters: decide on the state in memory → journal → effect (CDI file) → answer. A
//! crash between two of them leaves a lease that nobody uses, which observation ends, or a CDI file without a
//! grant, which the next start removes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpushared_device_plugin::{
    DeviceLists, ListedDevice, Refusal, RefusalKind, RegistrationState, RegistrationStatus,
};
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::health::Probe;
use gpushared_domain::ids::{ContainerRef, GpuUuid};
use gpushared_domain::inventory::Inventory;
use gpushared_domain::lease::GrantId;
use gpushared_domain::node::{Node, RefuseAllocate};
use gpushared_domain::ports::{DriverFault, GpuEvent, GpuEventKind};
use gpushared_domain::resource::ResourceName;
use gpushared_domain::slice::Place;
use gpushared_domain::status::{DaemonStatus, NodeStatus};
use gpushared_domain::xid::XidClass;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::driver_thread::DriverCallError;
use crate::durable::Durable;
use crate::grants::Grants;
use crate::message::{InUse, Message};
use crate::telemetry::Chain;

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
                drop(reply.send(self.allocate(&resource, &ids)));
                self.publish();
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
            Message::Reload(config) => self.reload(*config),
        }
        Ok(())
    }

    fn allocate(
        &mut self,
        resource: &ResourceName,
        ids: &[PluginDeviceId],
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
        let before = self.node.leases.clone();
        self.node
            .leases
            .reserve(unix_now(), &grant, resource, ids)
            .map_err(|error| Refusal::new(RefusalKind::Conflict, error.to_string()))?;
        self.durable.grants.insert(grant.clone(), ids.to_vec());
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
                self.node.leases = before;
                self.durable.grants.remove(&grant);
                self.persist();
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
                if self.node.inventory() == Some(&inventory) {
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

    fn driver_failed(&mut self, error: &DriverCallError) -> Result<(), ReconcilerError> {
        if let DriverCallError::Driver(answer) = error
            && answer.fault == DriverFault::VersionMismatch
        {
            return Err(ReconcilerError::DriverReplaced);
        }
        let text = Chain(error).to_string();
        if self.driver_trouble.as_ref() != Some(&text) {
            tracing::error!(error = text, "The driver does not answer");
        }
        self.driver_trouble = Some(text);
        Ok(())
    }

    fn probed(
        &mut self,
        gpu: &GpuUuid,
        probe: Result<Probe, DriverCallError>,
    ) -> Result<(), ReconcilerError> {
        let probe = match probe {
            Ok(probe) => probe,
            Err(error) => {
                self.driver_failed(&error)?;
                Probe::Failed(Chain(&error).to_string())
            }
        };
        let before = self.node.health.clone();
        let quiet = self.config.health.quiet_period.as_secs();
        let changed = self.node.health.probe(unix_now(), gpu, probe, quiet);
        if changed {
            self.log_health(gpu);
            self.channels.view_tx.send_modify(|view| view.rescan += 1);
        }
        if self.node.health != before {
            self.persist();
        }
        if changed {
            self.publish();
        }
        Ok(())
    }

    fn log_health(&self, gpu: &GpuUuid) {
        let place = Place::Gpu(gpu.clone());
        let causes: Vec<String> = self
            .node
            .health
            .of(&place)
            .map(|condition| condition.cause.to_string())
            .collect();
        if causes.is_empty() {
            tracing::info!(%gpu, "GPU is healthy");
        } else {
            tracing::warn!(%gpu, causes = causes.join("; "), "GPU is unhealthy");
        }
    }

    fn event(&mut self, event: &GpuEvent) {
        match event.kind {
            GpuEventKind::Xid(xid) => self.xid(event, xid),
            GpuEventKind::DoubleBitEcc => self.xid(event, 48),
            GpuEventKind::SingleBitEcc => {
                tracing::debug!(gpu = %event.gpu, "Single-bit ECC error, corrected");
            }
            GpuEventKind::MigConfigChange => {
                self.channels.view_tx.send_modify(|view| view.rescan += 1);
            }
        }
    }

    fn xid(&mut self, event: &GpuEvent, xid: u64) {
        let instance = event.gpu_instance;
        let place = instance
            .and_then(|instance| self.node.place_of(&event.gpu, instance))
            .unwrap_or_else(|| Place::Gpu(event.gpu.clone()));
        let id = PluginDeviceId::from(place.clone());
        let class = self
            .node
            .health
            .xid(unix_now(), place, xid, &self.config.health.xids);
        if class == XidClass::Ignored {
            tracing::info!(slice = %id, xid, "Xid of an application");
            return;
        }
        tracing::warn!(slice = %id, xid, class = ?class, "Xid makes the slice unhealthy");
        self.channels.view_tx.send_modify(|view| view.look += 1);
        self.persist();
        self.publish();
    }

    fn in_use(&mut self, in_use: &InUse) {
        let now = unix_now();
        let adopted = self.node.adopt(now, in_use);
        if adopted {
            tracing::warn!("Leases rebuilt from PodResources");
        }
        let holders: BTreeMap<PluginDeviceId, ContainerRef> = in_use
            .iter()
            .map(|(id, (_, container))| (id.clone(), container.clone()))
            .collect();
        let grace = self.config.leases.grace.as_secs();
        let observed = self.node.leases.observe(now, grace, &holders);
        for id in &observed.released {
            if let Some(lease) = self.node.leases.released(id) {
                let held_s = now.saturating_sub(lease.granted_at);
                tracing::info!(slice = %id, resource = %lease.resource, held_s, "Released");
            }
        }
        if adopted || observed != gpushared_domain::lease::Observed::default() {
            self.drop_grants();
            self.persist();
            self.publish();
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

    /// Writes the CDI files of standing grants whose places are there.
    fn restore_grants(&mut self) {
        for (grant, ids) in &self.durable.grants {
            let Some(handles) = self.node.handles(ids) else {
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

    fn reload(&mut self, config: Config) {
        self.node.set_policy(config.offers.clone());
        self.config = config;
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

    fn publish(&self) {
        let resources: BTreeMap<ResourceName, Vec<ListedDevice>> = self
            .node
            .lists()
            .into_iter()
            .map(|(resource, devices)| {
                let devices = devices
                    .into_iter()
                    .map(|(id, healthy, numa_node)| ListedDevice {
                        id,
                        healthy,
                        numa_node,
                    })
                    .collect();
                (resource, devices)
            })
            .collect();
        self.channels.lists_tx.send_if_modified(|lists| {
            if lists.resources == resources {
                return false;
            }
            *lists = Arc::new(DeviceLists {
                generation: lists.generation + 1,
                resources,
            });
            true
        });
        let gpus = self.node.gpus();
        let leased = self.node.leases.iter().next().is_some();
        self.channels.view_tx.send_if_modified(|view| {
            let changed = view.gpus != gpus || view.leased != leased;
            view.gpus = gpus;
            view.leased = leased;
            changed
        });
    }

    fn status(&self) -> NodeStatus {
        let registrations = self.channels.registrations_rx.borrow().clone();
        let waiting_for = self.waiting_for(&registrations);
        let registered = |name: &ResourceName| {
            registrations
                .resources
                .get(name)
                .is_some_and(|registration| {
                    matches!(registration.state, RegistrationState::Registered { .. })
                })
        };
        NodeStatus {
            version: 1,
            daemon: DaemonStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started_at: self.started_at,
                generation: self.channels.lists_tx.borrow().generation,
                ready: waiting_for.is_empty(),
                waiting_for,
                device_list_strategy: self.config.strategy.to_string(),
            },
            driver: self
                .node
                .inventory()
                .map(|inventory| inventory.driver.clone()),
            gpus: self.node.gpu_statuses(),
            resources: self.node.resource_statuses(registered),
            left_out: self.node.offers().left_out.clone(),
        }
    }

    fn waiting_for(&self, registrations: &RegistrationStatus) -> Vec<String> {
        let mut waiting: Vec<String> = self
            .driver_trouble
            .iter()
            .map(|trouble| format!("driver: {trouble}"))
            .collect();
        for resource in self.node.resources() {
            let why = match registrations
                .resources
                .get(resource)
                .map(|entry| &entry.state)
            {
                Some(RegistrationState::Registered { .. }) => continue,
                Some(RegistrationState::WaitingForKubelet { why }) => why.clone(),
                Some(RegistrationState::Failed { error }) => error.clone(),
                Some(RegistrationState::Registering) | None => "being registered".to_owned(),
            };
            waiting.push(format!("{resource}: {why}"));
        }
        waiting
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
