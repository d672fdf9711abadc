//! The registration service and the clients behind it.
//!
//! The order of work is the kubelet's: version, name, the map entry, the dial back, the options, and
//! only then the answer; the list stream is opened afterwards and never again. The map of clients is
//! keyed by resource alone, which is where the duplicate-registration fault comes from: an ending
//! stream asks the map for *the* client of its resource and drops whichever it finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gpushared_proto::deviceplugin::VERSION;
use gpushared_proto::deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use gpushared_proto::deviceplugin::v1beta1::registration_server::Registration;
use gpushared_proto::deviceplugin::v1beta1::{Empty, RegisterRequest};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::event::{Event, Violation};
use super::names::is_extended_resource;
use super::process::{DuplicateRegistration, Process};
use super::transport::{dial, go_error};

/// The kubelet's connection to one plugin instance.
#[derive(Debug)]
pub(crate) struct Client {
    id: u64,
    pub(crate) resource: String,
    /// Cancelled by a disconnect: the stream and every pending call end.
    pub(crate) cancel: CancellationToken,
    api: Mutex<Option<DevicePluginClient<Channel>>>,
}

impl Client {
    pub(crate) fn api(&self) -> Option<DevicePluginClient<Channel>> {
        self.api.lock().unwrap().clone()
    }
}

/// The newest client of each resource.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    newest: Mutex<BTreeMap<String, Arc<Client>>>,
    next: AtomicU64,
}

impl Clients {
    fn get(&self, resource: &str) -> Option<Arc<Client>> {
        self.newest.lock().unwrap().get(resource).cloned()
    }

    fn insert(&self, client: &Arc<Client>) -> Option<Arc<Client>> {
        self.newest
            .lock()
            .unwrap()
            .insert(client.resource.clone(), Arc::clone(client))
    }

    /// By name: whose client it is does not matter upstream.
    fn remove(&self, resource: &str) {
        self.newest.lock().unwrap().remove(resource);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.newest.lock().unwrap().values().cloned().collect()
    }
}

/// Takes a client out of the map when a registration ends early, also when the caller gave up and
/// the handler is dropped in the middle of its dial.
struct Unfinished<'a> {
    process: &'a Process,
    resource: Option<&'a str>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(resource) = self.resource {
            self.process.clients.remove(resource);
        }
    }
}

/// The service on `kubelet.sock`.
#[derive(Debug)]
pub(crate) struct RegistrationService(pub(crate) Arc<Process>);

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let resource = request.resource_name.clone();
        match register(&self.0, request).await {
            Ok(()) => Ok(Response::new(Empty {})),
            Err(message) => {
                let refused = Event::RegistrationRefused {
                    resource,
                    message: message.clone(),
                };
                self.0.world.note(refused);
                Err(Status::unknown(message)) // what Go makes of an error without a code
            }
        }
    }
}

async fn register(process: &Arc<Process>, request: RegisterRequest) -> Result<(), String> {
    let RegisterRequest {
        version,
        endpoint,
        resource_name: resource,
        ..
    } = request;
    if version != VERSION {
        return Err(format!(
            "requested API version {version:?} is not supported by kubelet. \
             Supported version is [{VERSION:?}]"
        ));
    }
    if !is_extended_resource(&resource) {
        return Err(format!("the ResourceName {resource:?} is invalid"));
    }
    let client = Arc::new(Client {
        id: process.clients.next.fetch_add(1, Ordering::Relaxed),
        resource: resource.clone(),
        cancel: process.gone.child_token(),
        api: Mutex::new(None),
    });
    let older = process.clients.insert(&client);
    let mut unfinished = Unfinished {
        process,
        resource: Some(&resource),
    };
    connect(
        process,
        &client,
        &process.settings().device_plugins().join(&endpoint),
    )
    .await?;
    unfinished.resource = None;
    drop(unfinished);
    if let (DuplicateRegistration::Fixed, Some(older)) = (process.settings().duplicates, older) {
        older.cancel.cancel();
    }
    process.world.note(Event::Registered { resource, endpoint });
    tokio::spawn(run(Arc::clone(process), client));
    Ok(())
}

async fn connect(process: &Process, client: &Arc<Client>, socket: &Path) -> Result<(), String> {
    let settings = process.settings();
    let channel = dial(socket, &process.connections, settings.dial_timeout).await?;
    let mut api = DevicePluginClient::new(channel); // answers of up to 4 MiB, as in Go
    *client.api.lock().unwrap() = Some(api.clone());
    let options = api
        .get_device_plugin_options(Empty {})
        .await
        .map_err(|status| format!("failed to get device plugin options: {}", go_error(&status)))?
        .into_inner();
    process.manager().connected(client, options);
    Ok(())
}

/// Reads lists until the stream ends, then drops *the* client of the resource.
async fn run(process: Arc<Process>, client: Arc<Client>) {
    let resource = client.resource.clone();
    let reason = tokio::select! {
        reason = read_lists(&process, &client) => reason,
        () = client.cancel.cancelled() => "rpc error: code = Canceled desc = context canceled".to_owned(),
    };
    if process.gone.is_cancelled() {
        return;
    }
    process.world.note(Event::StreamEnded {
        resource: resource.clone(),
        reason,
    });
    let Some(current) = process.clients.get(&resource) else {
        return;
    };
    let own = current.id == client.id;
    if own || process.settings().duplicates == DuplicateRegistration::AsUpstream {
        disconnect(&process, &current);
        process.world.note(Event::Disconnected {
            resource,
            poisoned: !own,
        });
    }
}

/// Ends a client: out of the map, its connection closed, its resource unhealthy.
pub(crate) fn disconnect(process: &Process, client: &Client) {
    process.clients.remove(&client.resource);
    client.cancel.cancel();
    *client.api.lock().unwrap() = None;
    let now = process.world.clock.now();
    process.manager().disconnected(&client.resource, now);
}

async fn read_lists(process: &Process, client: &Client) -> String {
    let Some(mut api) = client.api() else {
        return "the client is closed".to_owned();
    };
    let mut stream = match api.list_and_watch(Empty {}).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return go_error(&status),
    };
    loop {
        match stream.message().await {
            Ok(Some(list)) => process.receive_list(&client.resource, list.devices),
            Ok(None) => return "EOF".to_owned(),
            Err(status) if is_too_long(&status) => {
                let (resource, text) = (client.resource.clone(), status.message().to_owned());
                process.world.violate(Violation::ListTooLong {
                    resource,
                    text: text.clone(),
                });
                return format!("rpc error: code = ResourceExhausted desc = {text}");
            }
            Err(status) => return go_error(&status),
        }
    }
}

/// tonic's word for what grpc-go calls `ResourceExhausted`.
fn is_too_long(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("too large")
}
