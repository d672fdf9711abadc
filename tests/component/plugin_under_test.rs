//! The real device plugin with a scripted daemon behind it: lists that the test publishes, answers
//! that the test chooses.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpushared_device_plugin::{
    DeviceLists, DevicePlugin, ListedDevice, PluginError, PluginSettings, Refusal,
    RegistrationState, RegistrationStatus, SliceAllocator,
};
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::resource::ResourceName;
use gpushared_proto::deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use gpushared_proto::deviceplugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

const GPU_BASE: &str = "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f";

/// The ID of whole GPU `n`.
pub(crate) fn gpu_id(n: u32) -> String {
    format!("{GPU_BASE}{n:x}")
}

/// The ID of a MIG device on GPU 0, with the profile number of `1g`.
pub(crate) fn mig_id(start: u32) -> String {
    format!("{GPU_BASE}0/mig/19@{start}")
}

/// `ids` as they are listed, all in one health.
pub(crate) fn listed(ids: &[String], healthy: bool) -> Vec<ListedDevice> {
    let device = |id: &String| ListedDevice {
        id: id.parse().unwrap(),
        healthy,
        numa_node: None,
    };
    ids.iter().map(device).collect()
}

/// A list for each resource.
pub(crate) fn lists(resources: &[(&str, Vec<ListedDevice>)]) -> DeviceLists {
    let named = resources
        .iter()
        .map(|(name, list)| (name.parse().unwrap(), list.clone()));
    DeviceLists {
        generation: 1,
        repeat: 0,
        resources: named.collect(),
    }
}

/// The daemon as a script.
pub(crate) struct Scripted {
    /// While true, no call returns.
    pub(crate) hold: watch::Sender<bool>,
    /// What calls are refused with.
    pub(crate) refusal: Mutex<Option<Refusal>>,
    /// Every call to Allocate that came through to here.
    pub(crate) allocated: Mutex<Vec<Vec<String>>>,
    /// Calls that are being held.
    pub(crate) waiting: watch::Sender<usize>,
}

impl Scripted {
    async fn judge(&self) -> Result<(), Refusal> {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.hold
            .subscribe()
            .wait_for(|held| !held)
            .await
            .map(drop)
            .unwrap_or_default();
        self.waiting.send_modify(|waiting| *waiting -= 1);
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl SliceAllocator for Scripted {
    async fn allocate(
        &self,
        _: &ResourceName,
        ids: Vec<PluginDeviceId>,
    ) -> Result<ContainerEdits, Refusal> {
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        self.allocated.lock().unwrap().push(texts.clone());
        self.judge().await?;
        let env = [("SCRIPTED_DEVICES".to_owned(), texts.join(","))].into();
        Ok(ContainerEdits {
            env,
            ..ContainerEdits::default()
        })
    }

    async fn prefer(
        &self,
        _: &ResourceName,
        available: Vec<PluginDeviceId>,
        _: Vec<PluginDeviceId>,
        size: usize,
    ) -> Result<Vec<PluginDeviceId>, Refusal> {
        Ok(available.into_iter().take(size).collect())
    }

    async fn pre_start(&self, _: &ResourceName, _: Vec<PluginDeviceId>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A running device plugin; stopped when dropped.
pub(crate) struct PluginUnderTest {
    pub(crate) daemon: Arc<Scripted>,
    lists_tx: watch::Sender<Arc<DeviceLists>>,
    status: watch::Receiver<Arc<RegistrationStatus>>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), PluginError>>,
}

impl PluginUnderTest {
    /// A plugin for the kubelet below `root` that lists `lists` from the start.
    pub(crate) fn start(root: &Path, lists: DeviceLists) -> Self {
        Self::start_with(settings(root), lists).unwrap()
    }

    pub(crate) fn start_with(
        settings: PluginSettings,
        lists: DeviceLists,
    ) -> Result<Self, PluginError> {
        let daemon = Arc::new(Scripted {
            hold: watch::Sender::new(false),
            refusal: Mutex::default(),
            allocated: Mutex::default(),
            waiting: watch::Sender::new(0),
        });
        let (lists_tx, lists_rx) = watch::channel(Arc::new(lists));
        let plugin = DevicePlugin::new(settings, Arc::clone(&daemon), lists_rx)?;
        let (status, shutdown) = (plugin.status(), CancellationToken::new());
        let task = tokio::spawn(plugin.run(shutdown.clone()));
        Ok(Self {
            daemon,
            lists_tx,
            status,
            shutdown,
            task,
        })
    }

    /// Publishes other lists.
    pub(crate) fn publish(&self, lists: DeviceLists) {
        self.lists_tx.send_modify(|current| {
            *current = Arc::new(DeviceLists {
                generation: current.generation + 1,
                ..lists
            });
        });
    }

    /// Where `resource` stands with the kubelet, by the plugin's own account.
    pub(crate) fn state(&self, resource: &str) -> Option<RegistrationState> {
        let resource: ResourceName = resource.parse().unwrap();
        let status = self.status.borrow();
        status
            .resources
            .get(&resource)
            .map(|entry| entry.state.clone())
    }

    /// How long the last registration of `resource` took, by the plugin's own account.
    pub(crate) fn last_took(&self, resource: &str) -> Option<Duration> {
        let resource: ResourceName = resource.parse().unwrap();
        self.status.borrow().resources.get(&resource)?.last_took
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }
}

impl Drop for PluginUnderTest {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.task.abort();
    }
}

/// The plugin's own defaults for the kubelet below `root`, but for a short deadline.
pub(crate) fn settings(root: &Path) -> PluginSettings {
    PluginSettings {
        allocate_deadline: Duration::from_millis(500),
        ..PluginSettings::new(root.join("device-plugins"))
    }
}

/// A client of the plugin's own socket, past the kubelet: for requests that no kubelet would send.
pub(crate) async fn dial(socket: &Path) -> DevicePluginClient<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    DevicePluginClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

/// One `Allocate` past the kubelet.
pub(crate) async fn allocate(
    client: &mut DevicePluginClient<Channel>,
    ids: &[&str],
) -> Result<AllocateResponse, Status> {
    let devices_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let container_requests = vec![ContainerAllocateRequest { devices_ids }];
    client
        .allocate(AllocateRequest { container_requests })
        .await
        .map(tonic::Response::into_inner)
}
