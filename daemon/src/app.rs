//! Puts the daemon together: build everything, then spawn; one place that knows every part.
//!
//! | task or thread | reads | writes |
//! |---|---|---|
//! | thread `nvml` | driver requests | replies |
//! | thread `nvml-events` | the driver's events | events → reconciler |
//! | thread `journal` | wishes to sync | the durable copy |
//! | task `reconciler` | messages, events | lists → front end, view → watches |
//! | task `device-plugin` | lists, the kubelet | questions → reconciler, registrations |
//! | task `hardware-watch` | view, the driver | observations → reconciler |
//! | task `pod-watch` | view, PodResources | holdings → reconciler |
//! | task `admin` | HTTP | questions → reconciler |
//!
//! A task that ends by itself stops the process with its name: a daemon that is half there is worse than one that
//! is started again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpushared_device_plugin::{DeviceLists, DevicePlugin, PluginSettings, RegistrationStatus};
use gpushared_domain::edits::BindMount;
use gpushared_domain::inventory::Inventory;
use gpushared_domain::node::Node;
use gpushared_domain::ports::GpuDriver;
use gpushared_domain::resource::ResourceName;
use gpushared_host::cdi::{CdiWriter, PlainFiles};
use gpushared_host::device_nodes::DeviceNodeRoots;
use gpushared_host::driver_files::DriverFiles;
use gpushared_host::pod_resources::PodResourcesClient;
use gpushared_host::{boot_id, kubelet_checkpoint};
use gpushared_nvml::{NvmlDriver, NvmlEvents, NvmlSettings};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminListeners;
use crate::allocator::ReconcilerHandle;
use crate::config::Config;
use crate::driver_thread::{self, DriverHandle};
use crate::durable::{Durable, Recovered};
use crate::exit::Exit;
use crate::grants::Grants;
use crate::message::Message;
use crate::reconciler::{Channels, Reconciler, ReconcilerError, WatchView, unix_now};
use crate::telemetry::Chain;
use crate::watches;

const MAILBOX: usize = 256;
const EVENTS: usize = 256;
const CDI_VENDOR: &str = "gpushared.io";
const CDI_CLASS: &str = "slice";
const POD_RESOURCES_DEADLINE: Duration = Duration::from_secs(2);

/// Why the daemon cannot start or go on: what to tell the operator, and how to exit.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AppError {
    /// One line.
    pub message: String,
    /// How to exit.
    pub exit: Exit,
}

impl AppError {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit,
        }
    }

    fn system(doing: &str, error: &dyn std::error::Error) -> Self {
        Self::new(Exit::System, format!("{doing}: {}", Chain(error)))
    }
}

/// The driver, opened and looked at once.
pub struct Hardware {
    driver: NvmlDriver,
    events: Option<NvmlEvents>,
    inventory: Inventory,
}

impl std::fmt::Debug for Hardware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hardware")
            .field("gpus", &self.inventory.gpus.len())
            .finish_non_exhaustive()
    }
}

impl Hardware {
    /// Loads the driver's library and reads the inventory; waits for a driver that is not there yet as long as the
    /// configuration says. Blocks.
    ///
    /// # Errors
    /// With exit code 69 and what to install, when there is no usable driver.
    pub fn open(config: &Config) -> Result<Self, AppError> {
        let settings = NvmlSettings {
            library: config.driver.library.clone(),
            sysroot: config.driver.sysroot.clone(),
        };
        let started = std::time::Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            match Self::try_open(&settings) {
                Ok(hardware) => return Ok(hardware),
                Err(error) if started.elapsed() < config.driver.wait_at_start => {
                    tracing::warn!(error = error.message, "Waiting for the NVIDIA driver");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn try_open(settings: &NvmlSettings) -> Result<Self, AppError> {
        let unavailable = |error: &gpushared_domain::ports::GpuDriverError| {
            let hint = driver_hint(error.fault);
            AppError::new(Exit::DriverUnavailable, format!("{}; {hint}", Chain(error)))
        };
        let mut driver = NvmlDriver::open(settings).map_err(|error| unavailable(&error))?;
        let inventory = driver.observe().map_err(|error| unavailable(&error))?;
        let events = match driver.events() {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "No driver events; probes alone tell health");
                None
            }
        };
        Ok(Self {
            driver,
            events,
            inventory,
        })
    }
}

fn driver_hint(fault: gpushared_domain::ports::DriverFault) -> &'static str {
    use gpushared_domain::ports::DriverFault as Fault;
    match fault {
        Fault::LibraryMissing => {
            "install the NVIDIA driver (its package with libnvidia-ml.so.1), or set driver.library"
        }
        Fault::FunctionMissing => "install NVIDIA driver 470 or newer",
        Fault::DriverNotLoaded => "load the kernel module with `modprobe nvidia`",
        Fault::VersionMismatch => {
            "the kernel module is of another version than the library: reload it or reboot the node"
        }
        Fault::NoPermission => "run gpushared as root",
        _ => "see `dmesg` and nvidia-bug-report.sh for what ails the driver",
    }
}

/// The daemon, built: sockets bound, state recovered, nothing running yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    reconciler: Reconciler,
    plugin: DevicePlugin<ReconcilerHandle>,
    admin: AdminListeners,
    driver: DriverHandle,
    pods: PodResourcesClient,
    lists_rx: watch::Receiver<Arc<DeviceLists>>,
    view_rx: watch::Receiver<WatchView>,
    messages_tx: mpsc::Sender<Message>,
    registrations_rx: watch::Receiver<Arc<RegistrationStatus>>,
}

impl App {
    /// Recovers state, binds sockets, decides the first lists. The node's lock is the caller's.
    ///
    /// # Errors
    /// When the machine refuses what is needed.
    pub async fn build(config: Config, hardware: Hardware) -> Result<Self, AppError> {
        let Hardware {
            driver,
            events,
            inventory,
        } = hardware;
        let now = unix_now();
        let (mut durable, recovered) = Durable::open(&config.state_dir, now)
            .map_err(|error| AppError::system("opening the journal", &error))?;
        let lost = tell_faults(&recovered);
        let simulated = inventory.driver.simulated;
        let driver_version = inventory.driver.driver_version.clone();
        log_inventory(&inventory);
        let mut node = new_node(&config, recovered);
        node.observe(inventory);
        let pods = PodResourcesClient::new(&config.kubelet.pod_resources, POD_RESOURCES_DEADLINE);
        let grants = build_grants(&config, &driver_version, simulated)?;
        if lost {
            rebuild(&config, &pods, &mut node, &mut durable, now).await;
        } else {
            remove_orphans(&grants, &durable);
        }
        let (messages_tx, messages_rx) = mpsc::channel(MAILBOX);
        let (events_tx, events_rx) = mpsc::channel(EVENTS);
        let (lists_tx, lists_rx) = watch::channel(Arc::new(DeviceLists::default()));
        let (view_tx, view_rx) = watch::channel(WatchView::default());
        let allocator = Arc::new(ReconcilerHandle::new(messages_tx.clone()));
        let settings = PluginSettings {
            allocate_deadline: config.allocate_deadline,
            prefer_deadline: config.allocate_deadline,
            ..PluginSettings::new(config.kubelet.device_plugins.clone())
        };
        let admin = AdminListeners::bind(&config.admin_socket, config.http)
            .await
            .map_err(|error| AppError::system("binding the admin socket and address", &error))?;
        let driver = DriverHandle::spawn(Box::new(driver))
            .map_err(|error| AppError::system("starting the driver thread", &error))?;
        if let Some(events) = events {
            driver_thread::spawn_events(Box::new(events), events_tx)
                .map_err(|error| AppError::system("starting the event thread", &error))?;
        }
        // the reconciler publishes the first lists, which the front end checks before anything is served
        let (registrations_tx, placeholder_rx) = watch::channel(Arc::default());
        drop(registrations_tx);
        let channels = Channels {
            messages_rx,
            events_rx,
            lists_tx,
            view_tx,
            registrations_rx: placeholder_rx,
        };
        let mut reconciler = Reconciler::new(config.clone(), node, durable, grants, channels);
        let plugin = DevicePlugin::new(settings, allocator, lists_rx.clone())
            .map_err(|error| AppError::new(Exit::Usage, Chain(&error).to_string()))?;
        let registrations_rx = plugin.status();
        reconciler.set_registrations(registrations_rx.clone());
        Ok(Self {
            config,
            reconciler,
            plugin,
            admin,
            driver,
            pods,
            lists_rx,
            view_rx,
            messages_tx,
            registrations_rx,
        })
    }

    /// Where `/livez` and `/readyz` are served.
    #[must_use]
    pub fn http_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.http_address()
    }

    /// Spawns every task; ends when `shutdown` is cancelled and all have ended, or a task ended by itself.
    #[must_use]
    pub fn spawn(self, shutdown: &CancellationToken) -> Running {
        let mut tasks: JoinSet<(&'static str, Result<(), AppError>)> = JoinSet::new();
        let token = || shutdown.clone();
        let reconciler = self.reconciler.run(token());
        tasks.spawn(async move {
            (
                "reconciler",
                reconciler.await.map_err(|error| of_reconciler(&error)),
            )
        });
        let plugin = self.plugin.run(token());
        tasks.spawn(async move {
            let ended = plugin.await;
            (
                "device-plugin",
                ended.map_err(|error| AppError::new(Exit::Internal, Chain(&error).to_string())),
            )
        });
        let hardware = watches::hardware(
            self.driver,
            self.config.clone(),
            self.messages_tx.clone(),
            self.view_rx.clone(),
            token(),
        );
        tasks.spawn(async move {
            hardware.await;
            ("hardware-watch", Ok(()))
        });
        let lists_rx = self.lists_rx;
        let resources = move || -> BTreeSet<ResourceName> {
            lists_rx.borrow().resources.keys().cloned().collect()
        };
        let pods = watches::pods(
            self.pods,
            self.config.leases.poll_interval,
            resources,
            self.messages_tx.clone(),
            self.view_rx,
            token(),
        );
        tasks.spawn(async move {
            pods.await;
            ("pod-watch", Ok(()))
        });
        let admin = self
            .admin
            .serve(ReconcilerHandle::new(self.messages_tx.clone()), token());
        tasks.spawn(async move {
            (
                "admin",
                admin
                    .await
                    .map_err(|error| AppError::system("serving the admin socket", &error)),
            )
        });
        Running {
            tasks,
            messages_tx: self.messages_tx,
            registrations_rx: self.registrations_rx,
        }
    }
}

/// The daemon, running.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<(&'static str, Result<(), AppError>)>,
    messages_tx: mpsc::Sender<Message>,
    /// front end --registrations--> whoever waits for readiness
    pub registrations_rx: watch::Receiver<Arc<RegistrationStatus>>,
}

impl Running {
    /// The next task that ends.
    ///
    /// # Errors
    /// The task's own, or that it panicked.
    pub async fn next_end(&mut self) -> Option<(&'static str, Result<(), AppError>)> {
        match self.tasks.join_next().await? {
            Ok(ended) => Some(ended),
            Err(error) => Some((
                "a task",
                Err(AppError::new(Exit::Internal, error.to_string())),
            )),
        }
    }

    /// Hands settings that may change while running to the reconciler.
    pub async fn reload(&self, config: Config) {
        // fails only when the reconciler has ended, which next_end() tells
        self.messages_tx
            .send(Message::Reload(Box::new(config)))
            .await
            .ok();
    }
}

fn of_reconciler(error: &ReconcilerError) -> AppError {
    let exit = match error {
        ReconcilerError::DriverReplaced => Exit::Temporary,
    };
    AppError::new(exit, error.to_string())
}

fn log_inventory(inventory: &Inventory) {
    let driver = &inventory.driver;
    tracing::info!(
        driver = driver.driver_version,
        gpus = inventory.gpus.len(),
        instances = inventory
            .gpus
            .iter()
            .map(|gpu| gpu.instances.len())
            .sum::<usize>(),
        "Driver answers"
    );
    if driver.simulated {
        tracing::warn!("The GPUs of this node are SIMULATED");
    }
    for (index, why) in &inventory.unreadable {
        tracing::warn!(gpu_index = index.0, why, "GPU cannot be read");
    }
}

/// Says loudly what happened to the journal; says whether leases must be rebuilt.
fn tell_faults(recovered: &Recovered) -> bool {
    if let Some(fault) = &recovered.fault {
        for copy in &fault.damaged {
            tracing::error!(
                path = %copy.path.display(),
                kept_as = %copy.moved_to.display(),
                damage = %copy.damage,
                rebuilt_from = if recovered.is_empty { "hardware and PodResources" } else { "the other copy" },
                "The journal was damaged"
            );
        }
    }
    recovered.is_empty
}

fn new_node(config: &Config, recovered: Recovered) -> Node {
    let mut health = recovered.health;
    match boot_id::read(Path::new("/proc")) {
        Ok(boot_id) => health.boot(&boot_id),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "Boot id unknown: a reboot will not end health conditions");
        }
    }
    Node::new(
        config.offers.clone(),
        recovered.leases,
        health,
        recovered.resources,
    )
}

/// There is no journal: who holds what is asked of the kubelet, and which grants stand is read from its checkpoint.
/// CDI files without a known grant stay, since containers may still start with them.
async fn rebuild(
    config: &Config,
    pods: &PodResourcesClient,
    node: &mut Node,
    durable: &mut Durable,
    now: u64,
) {
    match pods.list(node.resources()).await {
        Ok(in_use) => {
            if node.adopt(now, &in_use) {
                tracing::warn!(leases = in_use.len(), "Leases rebuilt from PodResources");
            }
        }
        Err(error) => {
            tracing::info!(error = %Chain(&error), "No journal and no PodResources: leases are found later");
        }
    }
    let path = config
        .kubelet
        .device_plugins
        .join(kubelet_checkpoint::FILE_NAME);
    let prefix = format!("{CDI_VENDOR}/{CDI_CLASS}=");
    match kubelet_checkpoint::read(&path) {
        Ok(Some(checkpoint)) => {
            for entry in checkpoint.entries {
                let grants = entry
                    .cdi_devices
                    .iter()
                    .filter_map(|name| name.strip_prefix(&prefix));
                for grant in grants.filter_map(|text| text.parse().ok()) {
                    node.leases.add_grant(&entry.ids, &grant);
                    durable.grants.insert(grant, entry.ids.clone());
                }
            }
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "The kubelet's checkpoint cannot be read as a hint");
        }
    }
    durable
        .grants
        .retain(|grant, _| node.leases.holds_grant(grant));
}

fn remove_orphans(grants: &Grants, durable: &Durable) {
    match grants.remove_all_but(|grant| durable.grants.contains_key(grant)) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "CDI files without a grant removed"),
        Err(error) => tracing::warn!(error = %Chain(&error), "CDI directory not cleaned"),
    }
}

fn build_grants(
    config: &Config,
    driver_version: &str,
    simulated: bool,
) -> Result<Grants, AppError> {
    let plain_files = if simulated {
        PlainFiles::Mounted
    } else {
        PlainFiles::Refused
    };
    let cdi = CdiWriter::new(config.cdi_dir.clone(), CDI_VENDOR, CDI_CLASS, plain_files)
        .map_err(|error| AppError::new(Exit::Internal, Chain(&error).to_string()))?;
    let roots = DeviceNodeRoots {
        sysroot: config.driver.sysroot.clone(),
        dev: config.driver.sysroot.join("dev"),
    };
    Ok(Grants::new(
        config.strategy,
        roots,
        cdi,
        driver_mounts(config, driver_version),
    ))
}

fn driver_mounts(config: &Config, driver_version: &str) -> Vec<BindMount> {
    match DriverFiles::find(&config.driver.root, driver_version) {
        Ok(files) => files.mounts,
        Err(error) => {
            tracing::warn!(
                error = %Chain(&error),
                "Driver libraries not found: containers get device nodes only; set driver.root"
            );
            Vec::new()
        }
    }
}
