//! A minimal, correct device plugin: what the fake kubelet is judged by.
//!
//! It serves before it registers, registers again whenever no `ListAndWatch` stream is open, and
//! re-creates its socket when that was wiped. Its knobs make it answer in ways that a test wants, and
//! its one [`Quirk`] makes it a bad plugin.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use gpushared_proto::deviceplugin::v1beta1::device_plugin_server::{
    DevicePlugin, DevicePluginServer,
};
use gpushared_proto::deviceplugin::v1beta1::registration_client::RegistrationClient;
use gpushared_proto::deviceplugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, Empty, ListAndWatchResponse,
    NumaNode, PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, TopologyInfo,
};
use gpushared_proto::deviceplugin::{HEALTHY, KUBELET_SOCKET, UNHEALTHY, VERSION};
use gpushared_tests::look_within;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

/// How a plugin may be bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Quirk {
    #[default]
    None,
    /// Registers once and never again.
    RegistersOnce,
}

type Allocated = Result<Vec<ContainerAllocateResponse>, Status>;
type Answer = Box<dyn Fn(&[String]) -> Allocated + Send + Sync>;
type Preference = Box<dyn Fn(&[String]) -> Result<Vec<String>, Status> + Send + Sync>;

/// What a test may change and look at while the plugin runs.
pub(crate) struct Knobs {
    pub(crate) resource: String,
    endpoint: String,
    quirk: Quirk,
    options: Mutex<DevicePluginOptions>,
    devices: watch::Sender<Vec<Device>>,
    answer: Mutex<Answer>,
    preference: Mutex<Preference>,
    pre_start: Mutex<Result<(), Status>>,
    /// While true, `Allocate` does not return.
    pub(crate) hold: watch::Sender<bool>,
    pub(crate) pending: AtomicUsize,
    pub(crate) authorities: Mutex<Vec<String>>,
    opened: AtomicUsize,
    live: Arc<AtomicUsize>,
    stopped: CancellationToken,
    /// Ends every open stream when it is cancelled; a new one follows.
    streams: Mutex<CancellationToken>,
    silenced: AtomicBool,
}

/// A running plugin; ends with the value, like a process that is killed.
pub(crate) struct ReferencePlugin {
    pub(crate) knobs: Arc<Knobs>,
}

/// `count` healthy devices `<prefix>0`, `<prefix>1`, …, without a NUMA node.
pub(crate) fn devices(prefix: &str, count: usize) -> Vec<Device> {
    (0..count)
        .map(|n| device(&format!("{prefix}{n}"), true, &[]))
        .collect()
}

pub(crate) fn device(id: &str, healthy: bool, nodes: &[i64]) -> Device {
    let nodes: Vec<_> = nodes.iter().map(|id| NumaNode { id: *id }).collect();
    Device {
        id: id.to_owned(),
        health: if healthy { HEALTHY } else { UNHEALTHY }.to_owned(),
        topology: (!nodes.is_empty()).then_some(TopologyInfo { nodes }),
    }
}

impl ReferencePlugin {
    /// Starts a plugin for `resource` below the kubelet's root and does not wait for anything.
    pub(crate) fn start(root: &Path, resource: &str, devices: Vec<Device>) -> Self {
        let endpoint = format!("{}.sock", resource.replace('/', "-"));
        Self::start_as(root, resource, &endpoint, devices, Quirk::None)
    }

    pub(crate) fn start_as(
        root: &Path,
        resource: &str,
        endpoint: &str,
        devices: Vec<Device>,
        quirk: Quirk,
    ) -> Self {
        let answer: Answer = Box::new(|ids| {
            let mut ids = ids.to_vec();
            ids.sort();
            let envs = [("REFERENCE_DEVICES".to_owned(), ids.join(","))].into();
            Ok(vec![ContainerAllocateResponse {
                envs,
                ..Default::default()
            }])
        });
        let knobs = Arc::new(Knobs {
            resource: resource.to_owned(),
            endpoint: endpoint.to_owned(),
            quirk,
            options: Mutex::default(),
            devices: watch::Sender::new(devices),
            answer: Mutex::new(answer),
            preference: Mutex::new(Box::new(|_| Ok(Vec::new()))),
            pre_start: Mutex::new(Ok(())),
            hold: watch::Sender::new(false),
            pending: AtomicUsize::new(0),
            authorities: Mutex::default(),
            opened: AtomicUsize::new(0),
            live: Arc::default(),
            stopped: CancellationToken::new(),
            streams: Mutex::default(),
            silenced: AtomicBool::new(false),
        });
        let dir = root.join("device-plugins");
        tokio::spawn(Arc::clone(&knobs).run(dir));
        Self { knobs }
    }

    /// Must be set before the plugin registers to have an effect.
    pub(crate) fn with_options(self, pre_start: bool, preferred: bool) -> Self {
        *self.knobs.options.lock().unwrap() = DevicePluginOptions {
            pre_start_required: pre_start,
            get_preferred_allocation_available: preferred,
        };
        self
    }

    pub(crate) fn list(&self, devices: Vec<Device>) {
        self.knobs.devices.send_replace(devices);
    }

    pub(crate) fn answers(&self, answer: impl Fn(&[String]) -> Allocated + Send + Sync + 'static) {
        *self.knobs.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn prefers(
        &self,
        preference: impl Fn(&[String]) -> Result<Vec<String>, Status> + Send + Sync + 'static,
    ) {
        *self.knobs.preference.lock().unwrap() = Box::new(preference);
    }

    pub(crate) fn pre_start(&self, outcome: Result<(), Status>) {
        *self.knobs.pre_start.lock().unwrap() = outcome;
    }

    /// Ends the open streams from the plugin's side; the process goes on.
    pub(crate) fn end_streams(&self) {
        let mut streams = self.knobs.streams.lock().unwrap();
        std::mem::take(&mut *streams).cancel();
    }

    /// No registration from here on, as a plugin that is up but stuck.
    pub(crate) fn silence(&self) {
        self.knobs.silenced.store(true, Ordering::SeqCst);
    }
}

impl Drop for ReferencePlugin {
    fn drop(&mut self) {
        self.knobs.stopped.cancel();
    }
}

impl Knobs {
    async fn run(self: Arc<Self>, dir: PathBuf) {
        let socket = dir.join(&self.endpoint);
        while !self.stopped.is_cancelled() {
            if fs::create_dir_all(socket.parent().unwrap()).is_err() {
                return; // the test is over
            }
            drop(fs::remove_file(&socket));
            let Ok(listener) = UnixListener::bind(&socket) else {
                return;
            };
            let ended = self.stopped.child_token();
            let seen = Arc::clone(&self);
            let record = move |request: tonic::codegen::http::Request<tonic::body::Body>| {
                let authority = request.uri().authority().map(ToString::to_string);
                seen.authorities.lock().unwrap().extend(authority);
                request
            };
            let service = DevicePluginServer::new(Served(Arc::clone(&self)));
            let server = Server::builder()
                .layer(tower::util::MapRequestLayer::new(record))
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener));
            let token = ended.clone();
            let serving = tokio::spawn(async move {
                tokio::select! { _ = server => {}, () = token.cancelled() => {} }
            });
            while socket.exists() && !self.stopped.is_cancelled() {
                self.register_and_watch(&dir, &socket).await;
            }
            ended.cancel();
            drop(serving.await);
            if self.quirk == Quirk::RegistersOnce {
                return;
            }
        }
    }

    /// Registers once and stays until that registration is worth nothing any more.
    async fn register_and_watch(&self, dir: &Path, socket: &Path) {
        let kubelet = dir.join(KUBELET_SOCKET);
        let before = self.opened.load(Ordering::SeqCst);
        let inode = inode(&kubelet);
        let silenced = self.silenced.load(Ordering::SeqCst);
        if silenced || inode.is_none() || register(&kubelet, self.request()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            return;
        }
        let opened = || (self.opened.load(Ordering::SeqCst) > before).then_some(());
        if look_within(Duration::from_secs(1), opened).await.is_none() {
            return;
        }
        let over = || {
            let stale = self.live.load(Ordering::SeqCst) == 0 || self::inode(&kubelet) != inode;
            let again = stale && self.quirk != Quirk::RegistersOnce;
            (again || self.stopped.is_cancelled() || !socket.exists()).then_some(())
        };
        look_within(Duration::from_secs(600), over).await;
    }

    fn request(&self) -> RegisterRequest {
        RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: self.endpoint.clone(),
            resource_name: self.resource.clone(),
            options: None,
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|meta| meta.ino())
}

/// Calls `Register` on `kubelet`, with a deadline over the kubelet's own dial.
pub(crate) async fn register(kubelet: &Path, request: RegisterRequest) -> Result<(), Status> {
    let path = kubelet.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .timeout(Duration::from_secs(15))
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    RegistrationClient::new(channel)
        .register(request)
        .await
        .map(drop)
}

struct Served(Arc<Knobs>);

/// Counts a stream as live as long as the kubelet holds it.
struct Counted {
    lists: Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>,
    live: Arc<AtomicUsize>,
}

impl Stream for Counted {
    type Item = Result<ListAndWatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lists.as_mut().poll_next(cx)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl DevicePlugin for Served {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(*self.0.options.lock().unwrap()))
    }

    type ListAndWatchStream = Counted;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Counted>, Status> {
        let knobs = &self.0;
        knobs.live.fetch_add(1, Ordering::SeqCst);
        knobs.opened.fetch_add(1, Ordering::SeqCst);
        let lists = WatchStream::new(knobs.devices.subscribe());
        let lists = lists.map(|devices| Ok(ListAndWatchResponse { devices }));
        let ended = knobs.streams.lock().unwrap().clone();
        let stopped = knobs.stopped.clone();
        let until = async move {
            tokio::select! { () = ended.cancelled() => {}, () = stopped.cancelled() => {} }
        };
        let lists = Box::pin(futures_util::StreamExt::take_until(lists, Box::pin(until)));
        Ok(Response::new(Counted {
            lists,
            live: Arc::clone(&knobs.live),
        }))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let asked = &request.get_ref().container_requests[0];
        let device_i_ds = (self.0.preference.lock().unwrap())(&asked.available_device_i_ds)?;
        let container_responses = vec![ContainerPreferredAllocationResponse { device_i_ds }];
        Ok(Response::new(PreferredAllocationResponse {
            container_responses,
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let knobs = &self.0;
        knobs.pending.fetch_add(1, Ordering::SeqCst);
        drop(knobs.hold.subscribe().wait_for(|held| !held).await);
        knobs.pending.fetch_sub(1, Ordering::SeqCst);
        let ids = &request.get_ref().container_requests[0].devices_ids;
        let container_responses = (knobs.answer.lock().unwrap())(ids)?;
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        self.0.pre_start.lock().unwrap().clone()?;
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
