//! A front end under test, with a daemon that does what a test tells it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gpushared_device_plugin::{
    DeviceLists, DevicePlugin, ListedDevice, PluginError, PluginSettings, Refusal, RefusalKind,
    RegistrationStatus, SliceAllocator,
};
use gpushared_domain::device_id::PluginDeviceId;
use gpushared_domain::edits::ContainerEdits;
use gpushared_domain::resource::ResourceName;
use gpushared_proto::deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::kubelet::dial;
use crate::{PATIENCE, until};

pub(crate) const GPU: &str = "nvidia.com/gpu";
pub(crate) const MIG: &str = "nvidia.com/mig-1g.10gb";

/// How the daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Grants,
    Hangs,
    Panics,
    Refuses,
}

#[derive(Debug)]
pub(crate) struct Daemon {
    mood: Mood,
    /// Calls so far.
    asked: watch::Sender<usize>,
}

impl Daemon {
    pub(crate) fn new(mood: Mood) -> Self {
        let asked = watch::Sender::default();
        Self { mood, asked }
    }

    async fn answer<T>(&self, granted: T) -> Result<T, Refusal> {
        self.asked.send_modify(|asked| *asked += 1);
        match self.mood {
            Mood::Grants => Ok(granted),
            Mood::Hangs => std::future::pending().await,
            Mood::Panics => panic!("the daemon is broken"),
            Mood::Refuses => Err(Refusal::new(RefusalKind::Conflict, "the place is taken")),
        }
    }
}

impl SliceAllocator for Daemon {
    async fn allocate(
        &self,
        _resource: &ResourceName,
        ids: Vec<PluginDeviceId>,
    ) -> Result<ContainerEdits, Refusal> {
        let names: Vec<&str> = ids.iter().map(PluginDeviceId::as_str).collect();
        let env = [("IDS".to_owned(), names.join(","))].into();
        self.answer(ContainerEdits {
            env,
            ..ContainerEdits::default()
        })
        .await
    }

    async fn prefer(
        &self,
        _resource: &ResourceName,
        available: Vec<PluginDeviceId>,
        _must_include: Vec<PluginDeviceId>,
        size: usize,
    ) -> Result<Vec<PluginDeviceId>, Refusal> {
        self.answer(available.into_iter().rev().take(size).collect())
            .await
    }

    async fn pre_start(
        &self,
        _resource: &ResourceName,
        _ids: Vec<PluginDeviceId>,
    ) -> Result<(), Refusal> {
        self.answer(()).await
    }
}

/// ID of the MIG device at a memory slice.
pub(crate) fn mig(start: u32) -> String {
    format!("GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/mig/19@{start}")
}

pub(crate) fn gpu() -> String {
    "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0".to_owned()
}

pub(crate) fn device(id: &str, healthy: bool) -> ListedDevice {
    ListedDevice {
        id: id.parse().expect("an ID"),
        healthy,
        numa_node: Some(1),
    }
}

/// The front end, running.
pub(crate) struct Plugin {
    pub(crate) root: TempDir,
    pub(crate) lists: watch::Sender<Arc<DeviceLists>>,
    pub(crate) status: watch::Receiver<Arc<RegistrationStatus>>,
    /// Calls that reached the daemon.
    pub(crate) asked: watch::Receiver<usize>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), PluginError>>,
}

impl Plugin {
    /// One GPU and two MIG devices, in a directory that is there.
    pub(crate) fn start(mood: Mood) -> Self {
        Self::start_in(mood, "")
    }

    /// In a directory below the temporary one, which need not be there.
    pub(crate) fn start_in(mood: Mood, below: &str) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let mut settings = PluginSettings::new(root.path().join(below));
        settings.allocate_deadline = Duration::from_millis(200);
        settings.prefer_deadline = Duration::from_millis(200);
        settings.pre_start_deadline = Duration::from_millis(200);
        let mut listed = DeviceLists::default();
        listed
            .resources
            .insert(GPU.parse().expect("a name"), vec![device(&gpu(), true)]);
        listed.resources.insert(
            MIG.parse().expect("a name"),
            vec![device(&mig(0), true), device(&mig(1), true)],
        );
        let (lists, lists_rx) = watch::channel(Arc::new(listed));
        let daemon = Arc::new(Daemon::new(mood));
        let asked = daemon.asked.subscribe();
        let plugin = DevicePlugin::new(settings, daemon, lists_rx).expect("good settings");
        let status = plugin.status();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(plugin.run(shutdown.clone()));
        Self {
            root,
            lists,
            status,
            asked,
            shutdown,
            running,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn socket(&self, short: &str) -> PathBuf {
        self.dir().join("gpushared").join(format!("{short}.sock"))
    }

    /// Publishes the list of one resource.
    pub(crate) fn publish(&self, resource: &str, devices: Vec<ListedDevice>) {
        self.lists.send_modify(|lists| {
            let lists = Arc::make_mut(lists);
            lists.generation += 1;
            lists
                .resources
                .insert(resource.parse().expect("a name"), devices);
        });
    }

    /// Waits until everything is registered, `times` times each.
    pub(crate) async fn registered(&mut self, times: u64) {
        until(&mut self.status, "everything registers", |status| {
            status.all_registered()
                && status
                    .resources
                    .values()
                    .all(|resource| resource.registrations == times)
        })
        .await;
    }

    /// A client of one resource, without a kubelet between.
    pub(crate) async fn client(&mut self, short: &str) -> DevicePluginClient<Channel> {
        until(&mut self.status, "the socket is served", |status| {
            !status.resources.is_empty()
        })
        .await;
        let path = self.socket(short);
        let dialled = async {
            loop {
                if let Ok(channel) = dial(&path).await {
                    return channel;
                }
                tokio::task::yield_now().await;
            }
        };
        let channel = tokio::time::timeout(PATIENCE, dialled).await;
        DevicePluginClient::new(channel.expect("the socket is served"))
    }

    /// Shuts down, and waits for the end.
    pub(crate) async fn stop(self) -> Result<(), PluginError> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("it ends")
            .expect("it does not panic")
    }
}
