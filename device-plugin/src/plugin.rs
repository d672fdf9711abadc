//! The supervisor: one task per resource, started when the resource is first listed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use gpushared_domain::resource::ResourceName;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::allocator::SliceAllocator;
use crate::error::PluginError;
use crate::kubelet_dir::{DirWatch, KubeletDir};
use crate::lists::{DeviceListsRx, MAX_DEVICES_PER_RESOURCE};
use crate::registration::Registration;
use crate::report::{RegistrationState, RegistrationStatus, Report};
use crate::roster::Roster;
use crate::service::ResourceService;
use crate::settings::PluginSettings;
use crate::streams::Streams;

/// The front end: built with everything it needs, then run.
pub struct DevicePlugin<A> {
    settings: Arc<PluginSettings>,
    allocator: Arc<A>,
    lists: DeviceListsRx,
    endpoints: Endpoints,
    report: Report,
}

impl<A> std::fmt::Debug for DevicePlugin<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevicePlugin")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<A: SliceAllocator> DevicePlugin<A> {
    /// Checks the settings and what is listed so far; touches nothing on the machine.
    ///
    /// # Errors
    /// A setting that cannot work, a socket path that is too long, two resources on one socket, a list that is
    /// too long for one message.
    pub fn new(
        settings: PluginSettings,
        allocator: Arc<A>,
        lists: DeviceListsRx,
    ) -> Result<Self, PluginError> {
        settings.check()?;
        let mut endpoints = Endpoints::default();
        for (resource, devices) in &lists.borrow().resources {
            endpoints.claim(&settings, resource, devices.len())?;
        }
        Ok(Self {
            settings: Arc::new(settings),
            allocator,
            lists,
            endpoints,
            report: Report::new(),
        })
    }

    /// Where every resource stands with the kubelet.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Arc<RegistrationStatus>> {
        self.report.subscribe()
    }

    /// Serves and registers everything that is listed until `shutdown`; a resource that is listed later joins then.
    ///
    /// At shutdown it stops registering, ends the streams and waits for the calls in flight, each of which has its
    /// deadline; the caller bounds that wait by dropping the future. Run it on a runtime with time and I/O enabled.
    ///
    /// # Errors
    /// Only when one of its own tasks ended by itself. A kubelet that is missing, or says no, is not an error but
    /// a state, see [`DevicePlugin::status`].
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), PluginError> {
        let stop = shutdown.child_token();
        let mut tasks = Tasks::default();
        let (dir_watch, dir_rx) = DirWatch::new(Arc::clone(&self.settings));
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn("dir watch".to_owned(), async move {
            tokio::select! {
                () = stopped => {}
                () = dir_watch.run() => {}
            }
        });
        let shared = Shared {
            hurry: Arc::new(watch::Sender::default()),
            dir_rx,
            stop: stop.clone(),
        };
        let mut known = BTreeSet::new();
        let mut published = true;
        let outcome = loop {
            let lists = Arc::clone(&self.lists.borrow_and_update());
            for (resource, devices) in &lists.resources {
                if !known.insert(resource.clone()) {
                    continue;
                }
                match self
                    .endpoints
                    .claim(&self.settings, resource, devices.len())
                {
                    Ok(path) => {
                        tasks.spawn(resource.to_string(), self.register(resource, path, &shared));
                    }
                    Err(refused) => {
                        error!(%resource, error = %refused, "Not offered to the kubelet");
                        let error = refused.to_string();
                        self.report
                            .state(resource, RegistrationState::Failed { error });
                    }
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                ended = tasks.ended() => break Err(ended),
                changed = self.lists.changed(), if published => published = changed.is_ok(),
            }
        };
        stop.cancel();
        while tasks.running.join_next().await.is_some() {}
        outcome
    }

    fn register(
        &self,
        resource: &ResourceName,
        path: PathBuf,
        shared: &Shared,
    ) -> impl Future<Output = ()> + Send + use<A> {
        self.report.state(resource, RegistrationState::Registering);
        let service = ResourceService {
            resource: resource.clone(),
            settings: Arc::clone(&self.settings),
            allocator: Arc::clone(&self.allocator),
            lists: self.lists.clone(),
            roster: Arc::new(Roster::default()),
            streams: Arc::new(Streams::default()),
            hurry: Arc::clone(&shared.hurry),
        };
        let dir_rx = shared.dir_rx.clone();
        Registration::new(
            service,
            path,
            self.report.clone(),
            dir_rx,
            shared.stop.clone(),
        )
        .run()
    }
}

/// What all resources have in common.
struct Shared {
    hurry: Arc<watch::Sender<()>>,
    dir_rx: watch::Receiver<KubeletDir>,
    stop: CancellationToken,
}

/// The running tasks with their names; dropping it aborts them.
#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl Tasks {
    fn spawn(&mut self, name: String, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for the end of a task that should have had none.
    async fn ended(&mut self) -> PluginError {
        let (id, source) = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => (Some(id), None),
            Some(Err(error)) => (Some(error.id()), Some(error)),
            None => (None, None),
        };
        let name = id.and_then(|id| self.names.remove(&id));
        PluginError::TaskEnded {
            task: name.unwrap_or_default(),
            source,
        }
    }
}

/// Which resource has which endpoint.
#[derive(Default)]
struct Endpoints(BTreeMap<String, ResourceName>);

impl Endpoints {
    /// Gives `resource` its endpoint, which it keeps, and answers with the path of the socket.
    fn claim(
        &mut self,
        settings: &PluginSettings,
        resource: &ResourceName,
        count: usize,
    ) -> Result<PathBuf, PluginError> {
        let path = settings.socket_path(resource)?;
        if count > MAX_DEVICES_PER_RESOURCE {
            return Err(PluginError::TooManyDevices {
                resource: resource.clone(),
                count,
                limit: MAX_DEVICES_PER_RESOURCE,
            });
        }
        let endpoint = settings.endpoint(resource);
        if let Some(first) = self.0.get(&endpoint).filter(|first| *first != resource) {
            return Err(PluginError::EndpointTaken {
                first: first.clone(),
                second: resource.clone(),
                endpoint,
            });
        }
        self.0.insert(endpoint, resource.clone());
        Ok(path)
    }
}
