//! A small kubelet: registers, dials back, follows one list per resource.
//!
//! It lives in a runtime of its own, so that killing it closes every connection at once, as SIGKILL does, and leaves
//! its socket file behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gpushared_proto::deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use gpushared_proto::deviceplugin::v1beta1::registration_server::{
    Registration, RegistrationServer,
};
use gpushared_proto::deviceplugin::v1beta1::{Device, DevicePluginOptions, Empty, RegisterRequest};
use gpushared_proto::deviceplugin::{KUBELET_SOCKET, VERSION};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// What the kubelet knows of one resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) registrations: usize,
    pub(crate) options: DevicePluginOptions,
    pub(crate) live: usize,
    /// Every message, oldest first.
    pub(crate) lists: Vec<Vec<Device>>,
}

pub(crate) type View = BTreeMap<String, Known>;

/// A running kubelet.
pub(crate) struct Kubelet {
    runtime: Option<Runtime>,
    server: Arc<KubeletServer>,
    pub(crate) view: watch::Receiver<View>,
}

struct KubeletServer {
    dir: PathBuf,
    view: watch::Sender<View>,
    streams: Mutex<BTreeMap<String, AbortHandle>>,
}

/// The view as seen by one stream, so that its end is seen however it ends.
struct Live(Arc<KubeletServer>, String);

impl Drop for Live {
    fn drop(&mut self) {
        self.0
            .view
            .send_modify(|view| view.entry(self.1.clone()).or_default().live -= 1);
    }
}

/// A channel to a plugin's socket.
pub(crate) async fn dial(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
}

impl Kubelet {
    /// Starts as a kubelet does: a socket that is left over is replaced.
    pub(crate) fn start(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let socket = dir.join(KUBELET_SOCKET);
        if socket.exists() {
            std::fs::remove_file(&socket).expect("stale socket");
        }
        let (view_tx, view) = watch::channel(View::new());
        let server = Arc::new(KubeletServer {
            dir: dir.to_owned(),
            view: view_tx,
            streams: Mutex::default(),
        });
        let entered = runtime.enter();
        let listener = UnixListener::bind(&socket).expect("kubelet.sock");
        drop(entered);
        let registration = RegistrationServer::new(Handle(Arc::clone(&server)));
        runtime.spawn(async move {
            Server::builder()
                .serve_with_incoming(registration, UnixListenerStream::new(listener))
                .await
        });
        Self {
            runtime: Some(runtime),
            server,
            view,
        }
    }

    /// Ends the stream of a resource from the kubelet's side and drops the connection.
    pub(crate) fn drop_plugin(&self, resource: &str) {
        let streams = self.server.streams.lock().expect("not poisoned");
        streams[resource].abort();
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.end();
    }
}

struct Handle(Arc<KubeletServer>);

#[tonic::async_trait]
impl Registration for Handle {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if request.version != VERSION {
            return Err(Status::unknown("version"));
        }
        let server = Arc::clone(&self.0);
        let channel = dial(&server.dir.join(&request.endpoint))
            .await
            .map_err(|_| Status::unknown("failed to dial device plugin"))?;
        let mut client = DevicePluginClient::new(channel);
        let options = client
            .get_device_plugin_options(Empty {})
            .await?
            .into_inner();
        let resource = request.resource_name;
        server.view.send_modify(|view| {
            let known = view.entry(resource.clone()).or_default();
            known.registrations += 1;
            known.options = options;
            known.live += 1;
        });
        let live = Live(Arc::clone(&server), resource.clone());
        let task = tokio::spawn(async move {
            let mut lists = client.list_and_watch(Empty {}).await?.into_inner();
            while let Some(list) = lists.message().await? {
                live.0.view.send_modify(|view| {
                    view.entry(live.1.clone())
                        .or_default()
                        .lists
                        .push(list.devices);
                });
            }
            Ok::<(), Status>(())
        });
        let mut streams = server.streams.lock().expect("not poisoned");
        streams.insert(resource, task.abort_handle());
        Ok(Response::new(Empty {}))
    }
}
