//! The kubelet's side of the device-plugin protocol, with the time of each step.
//!
//! The order of work is the kubelet's: inside Register it dials the plugin back and asks for its options, then it
//! answers; the device list is opened afterwards. Nothing is retried: a plugin that cannot be dialled is told so.
//! The PodResources API is served beside it and knows of no pod: whoever looks sees that what was allocated is free
//! again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gpushared_proto::deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use gpushared_proto::deviceplugin::v1beta1::registration_server::{
    Registration, RegistrationServer,
};
use gpushared_proto::deviceplugin::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateRequest, Device, DevicePluginOptions,
    Empty, RegisterRequest,
};
use gpushared_proto::deviceplugin::{KUBELET_SOCKET, VERSION};
use gpushared_proto::podresources::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use gpushared_proto::podresources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, GetPodResourcesRequest,
    GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// What the kubelet waits for the dial back.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

/// A plugin's client.
pub type Client = DevicePluginClient<Channel>;

/// Something that a plugin did.
#[derive(Debug)]
pub enum Event {
    /// A Register call was answered with success.
    Registered {
        /// The resource.
        resource: String,
        /// The socket's name in the device-plugins directory.
        endpoint: String,
        /// What the plugin answered to the dial back.
        options: DevicePluginOptions,
        /// When the call arrived.
        called: Instant,
        /// When it was answered.
        answered: Instant,
    },
    /// A Register call was refused.
    Refused {
        /// The resource.
        resource: String,
        /// Why.
        why: String,
    },
    /// A device list arrived.
    Devices {
        /// The resource.
        resource: String,
        /// All its devices.
        devices: Vec<Device>,
        /// When it arrived.
        at: Instant,
    },
    /// A device list ended.
    Ended {
        /// The resource.
        resource: String,
    },
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    clients: Mutex<BTreeMap<String, Client>>,
    event_tx: mpsc::UnboundedSender<Event>,
}

impl Shared {
    fn clients(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kubelet as far as device plugins see it.
pub struct Kubelet {
    shared: Arc<Shared>,
    event_rx: mpsc::UnboundedReceiver<Event>,
    servers: [JoinHandle<()>; 2],
}

impl fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubelet")
            .field("dir", &self.shared.dir)
            .finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Serves `kubelet.sock` in this device-plugins directory, which is made if needed, and
    /// `pod-resources/kubelet.sock` beside the directory.
    ///
    /// # Errors
    /// A socket cannot be made.
    pub fn start(dir: &Path) -> Result<Self> {
        let registration = listen(dir)?;
        let pods = listen(&dir.with_file_name("pod-resources"))?;
        let (event_tx, event_rx) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            clients: Mutex::default(),
            event_tx,
        });
        let service = RegistrationServer::from_arc(Arc::new(Service(Arc::clone(&shared))));
        let register = Server::builder()
            .add_service(service)
            .serve_with_incoming(registration);
        let list = Server::builder()
            .add_service(PodResourcesListerServer::new(NoPods))
            .serve_with_incoming(pods);
        let servers = [
            tokio::spawn(async move { drop(register.await) }),
            tokio::spawn(async move { drop(list.await) }),
        ];
        Ok(Self {
            shared,
            event_rx,
            servers,
        })
    }

    /// The next event, or nothing until `deadline`.
    pub async fn next(&mut self, deadline: Instant) -> Option<Event> {
        tokio::time::timeout_at(deadline.into(), self.event_rx.recv())
            .await
            .ok()
            .flatten()
    }

    /// The events so far.
    pub fn drain(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.event_rx.try_recv().ok()).collect()
    }

    /// The newest client of a resource.
    pub fn client(&self, resource: &str) -> Option<Client> {
        self.shared.clients().get(resource).cloned()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// Listens at `kubelet.sock` in this directory.
fn listen(dir: &Path) -> Result<UnixListenerStream> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let socket = dir.join(KUBELET_SOCKET);
    if socket.exists() {
        std::fs::remove_file(&socket).context("removing the socket of an earlier run")?;
    }
    let listener = UnixListener::bind(&socket);
    let listener = listener.with_context(|| format!("listening at {}", socket.display()))?;
    Ok(UnixListenerStream::new(listener))
}

/// One container's request for these devices.
pub fn allocate_request(ids: Vec<String>) -> AllocateRequest {
    AllocateRequest {
        container_requests: vec![ContainerAllocateRequest { devices_ids: ids }],
    }
}

/// Asks for one device for one container, and takes the time from the call to the whole answer.
///
/// # Errors
/// The plugin's.
pub async fn timed_allocate(
    client: &mut Client,
    id: &str,
) -> Result<(AllocateResponse, Duration), Status> {
    let request = allocate_request(vec![id.to_owned()]);
    let asked = Instant::now();
    let answer = client.allocate(request).await?;
    Ok((answer.into_inner(), asked.elapsed()))
}

#[derive(Debug)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let called = Instant::now();
        let RegisterRequest {
            version,
            endpoint,
            resource_name: resource,
            ..
        } = request.into_inner();
        let shared = &self.0;
        let dialled = if version == VERSION {
            let dial = dial(shared.dir.join(&endpoint));
            tokio::time::timeout(DIAL_LIMIT, dial)
                .await
                .unwrap_or_else(|_| Err("the dial back took longer than 10 s".to_owned()))
        } else {
            Err(format!("version {version:?} is not {VERSION:?}"))
        };
        let (client, options) = dialled.map_err(|why| {
            let refused = Event::Refused {
                resource: resource.clone(),
                why: why.clone(),
            };
            drop(shared.event_tx.send(refused));
            Status::unknown(why)
        })?;
        shared.clients().insert(resource.clone(), client.clone());
        let answered = Instant::now();
        let registered = Event::Registered {
            resource: resource.clone(),
            endpoint,
            options,
            called,
            answered,
        };
        drop(shared.event_tx.send(registered));
        tokio::spawn(watch(client, resource, shared.event_tx.clone()));
        Ok(Response::new(Empty {}))
    }
}

/// The dial back: a connection, and the plugin's options.
async fn dial(socket: PathBuf) -> Result<(Client, DevicePluginOptions), String> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|error| format!("dialling back: {error}"))?;
    let mut client = DevicePluginClient::new(channel);
    let options = client
        .get_device_plugin_options(Empty {})
        .await
        .map_err(|status| format!("GetDevicePluginOptions: {status}"))?;
    Ok((client, options.into_inner()))
}

/// Passes on the device lists of one plugin until its stream ends.
async fn watch(mut client: Client, resource: String, event_tx: mpsc::UnboundedSender<Event>) {
    if let Ok(answer) = client.list_and_watch(Empty {}).await {
        let mut lists = answer.into_inner();
        while let Some(Ok(list)) = lists.next().await {
            let at = Instant::now();
            let resource = resource.clone();
            drop(event_tx.send(Event::Devices {
                resource,
                devices: list.devices,
                at,
            }));
        }
    }
    drop(event_tx.send(Event::Ended { resource }));
}

#[derive(Debug)]
struct NoPods;

#[tonic::async_trait]
impl PodResourcesLister for NoPods {
    async fn list(
        &self,
        _request: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        Ok(Response::new(ListPodResourcesResponse::default()))
    }

    async fn get_allocatable_resources(
        &self,
        _request: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Ok(Response::new(AllocatableResourcesResponse::default()))
    }

    async fn get(
        &self,
        _request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::not_found("there are no pods"))
    }
}
