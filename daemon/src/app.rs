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
//! | task `runtime-watch`, while `auto` is undecided | the container runtime | its answer → reconciler |
//! | task `admin` | HTTP | questions → reconciler |
//!
//! A task that ends by itself stops the process with its name: a daemon that is half there is worse than one that
//! is started again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gpushared_device_plugin::{DeviceLists, DevicePlugin, PluginSettings, RegistrationStatus};
use gpushared_domain::resource::ResourceName;
use gpushared_host::pod_resources::PodResourcesClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminListeners;
use crate::allocator::ReconcilerHandle;
use crate::config::Config;
use crate::driver_thread::{self, DriverHandle};
use crate::durable::Durable;
use crate::exit::Exit;
use crate::hardware::{Hardware, log_inventory};
use crate::message::Message;
use crate::reconciler::{Channels, Reconciler, ReconcilerError, WatchView, unix_now};
use crate::telemetry::Chain;
use crate::{containers, recovery, watches};

const MAILBOX: usize = 256;
const EVENTS: usize = 256;
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
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit,
        }
    }

    pub(crate) fn system(doing: &str, error: &dyn std::error::Error) -> Self {
        Self::new(Exit::System, format!("{doing}: {}", Chain(error)))
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
    runtime_known: containers::Known,
}

impl App {
    /// Recovers state, binds sockets, decides the first lists. The node's lock is the caller's.
    ///
    /// # Errors
    /// When the machine refuses what is needed.
    pub async fn build(mut config: Config, hardware: Hardware) -> Result<Self, AppError> {
        let Hardware {
            driver,
            events,
            inventory,
        } = hardware;
        let now = unix_now();
        let (mut durable, recovered) = Durable::open(&config.run_dir, &config.state_dir, now)
            .map_err(|error| AppError::system("opening the journal", &error))?;
        let lost = recovery::tell_faults(&recovered);
        let driver_info = inventory.driver.clone();
        let (strategy, runtime_known) = containers::resolve_strategy(&config, &mut durable).await;
        config.strategy = strategy;
        log_inventory(&inventory);
        let mut node = recovery::new_node(&config, recovered);
        node.observe(inventory);
        let pods = PodResourcesClient::new(&config.kubelet.pod_resources, POD_RESOURCES_DEADLINE);
        let grants = containers::build_grants(&config, &driver_info)?;
        if lost {
            recovery::ask_pods(&pods, &mut node, now).await;
        }
        recovery::heed_kubelets_record(&config, &mut node, &mut durable, now);
        if !lost {
            recovery::remove_orphans(&grants, &node, &durable);
        }
        let (messages_tx, messages_rx) = mpsc::channel(MAILBOX);
        let (events_tx, events_rx) = mpsc::channel(EVENTS);
        let (lists_tx, lists_rx) = watch::channel(Arc::new(DeviceLists::default()));
        let (view_tx, view_rx) = watch::channel(WatchView::default());
        let allocator = Arc::new(ReconcilerHandle::new(messages_tx.clone()));
        let settings = PluginSettings {
            allocate_deadline: config.allocate_deadline,
            prefer_deadline: config.allocate_deadline,
            // Everything that is given out exists before it is. Asked for, PreStartContainer would only keep a
            // crashed container from starting again while this daemon is away: the kubelet refuses it then.
            pre_start_required: false,
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
            runtime_known,
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
        if self.runtime_known == containers::Known::NotYet {
            let runtime = watch_runtime(self.config.clone(), self.messages_tx.clone(), token());
            tasks.spawn(async move {
                runtime.await;
                ("runtime-watch", Ok(()))
            });
        }
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

/// Tells what the runtime says, once it says it; then there is nothing left to do until the end.
async fn watch_runtime(
    config: Config,
    // watch --answer--> reconciler
    messages_tx: mpsc::Sender<Message>,
    shutdown: CancellationToken,
) {
    let tell = async {
        let has_cdi = containers::ask_until_known(&config).await;
        let message = Message::RuntimeAnswered { has_cdi };
        // fails only when the reconciler has ended, which ends the process
        messages_tx.send(message).await.ok();
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = tell => {}
    }
    shutdown.cancelled().await;
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
        ReconcilerError::DriverReplaced | ReconcilerError::DriverGone => Exit::Temporary,
    };
    AppError::new(exit, error.to_string())
}
