//! Who holds what, asked of the kubelet: `PodResources.List` over its Unix socket.
//!
//! The kubelet answers 100 calls a second for all callers together and refuses the rest, so poll at most once a second
//! and take [`PodResourcesError::is_temporary`] as "ask again later". The connection is made when it is first needed
//! and again after it broke: the kubelet makes a new socket each time it starts.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpushared_domain::foreign_id::Holdings;
use gpushared_domain::ids::ContainerRef;
use gpushared_domain::resource::ResourceName;
use gpushared_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use gpushared_proto::podresources::v1::{ListPodResourcesRequest, PodResources};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// The kubelet's socket, below its root folder.
pub const SOCKET: &str = "pod-resources/kubelet.sock";
/// Far above the answer of a full node (some hundred pods): a limit against nonsense only.
const LARGEST_ANSWER: usize = 64 << 20;

/// A call that failed, in the fewest words: tonic's own text repeats its causes and ends with the answer's headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallFailed {
    /// The gRPC code.
    pub code: Code,
    /// The kubelet's words, or the system's where it did not get that far.
    pub message: String,
}

impl From<&tonic::Status> for CallFailed {
    fn from(status: &tonic::Status) -> Self {
        let mut message = status.message().to_owned();
        let mut cause = std::error::Error::source(status);
        while let Some(error) = cause {
            // the innermost cause is the system's
            message = error.to_string();
            cause = error.source();
        }
        Self {
            code: status.code(),
            message,
        }
    }
}

/// The kubelet did not say who holds what.
#[derive(Debug, thiserror::Error)]
pub enum PodResourcesError {
    /// No answer within the deadline.
    #[error("the kubelet did not answer PodResources within {deadline:?}")]
    Deadline {
        /// The deadline.
        deadline: Duration,
    },
    /// Too many calls, or nobody listens: the kubelet is busy or starting.
    #[error("the kubelet cannot answer PodResources at the moment")]
    Temporary(#[source] CallFailed),
    /// The kubelet refuses the call.
    #[error("the kubelet refused PodResources")]
    Refused(#[source] CallFailed),
}

impl PodResourcesError {
    /// Is it worth asking again?
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

impl From<tonic::Status> for PodResourcesError {
    fn from(status: tonic::Status) -> Self {
        let status = CallFailed::from(&status);
        match status.code {
            Code::ResourceExhausted
            | Code::Unavailable
            | Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded => Self::Temporary(status),
            // What tonic says when a connection breaks in the middle of a call.
            Code::Unknown | Code::Internal => Self::Temporary(status),
            _ => Self::Refused(status),
        }
    }
}

/// A client of the kubelet's PodResources API. Clones share one connection.
#[derive(Debug, Clone)]
pub struct PodResourcesClient {
    client: PodResourcesListerClient<Channel>,
    deadline: Duration,
}

impl PodResourcesClient {
    /// For the kubelet behind `socket`; every call has `deadline`. Does not connect. Needs a tokio runtime.
    #[must_use]
    pub fn new(socket: &Path, deadline: Duration) -> Self {
        let socket = socket.to_owned();
        // The URI is not used to connect. Its host becomes the call's authority, which the kubelet wants to be a name.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(deadline)
            .connect_with_connector_lazy(service_fn(move |_: Uri| connect(socket.clone())));
        Self {
            client: PodResourcesListerClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER),
            deadline,
        }
    }

    /// Who holds which plugin device of these resources. Devices of other resources, and IDs that are neither ours nor of
    /// NVIDIA's plugin, are left out; a device that the kubelet lists several times (for each NUMA node, for each container that used it in
    /// turn) appears once, with the first container.
    ///
    /// # Errors
    /// When the kubelet does not answer in time, cannot, or refuses.
    pub async fn list(
        &self,
        resources: &BTreeSet<ResourceName>,
    ) -> Result<Holdings, PodResourcesError> {
        let mut client = self.client.clone();
        let call = client.list(ListPodResourcesRequest {});
        let answer = timeout(self.deadline, call).await.map_err(|_elapsed| {
            PodResourcesError::Deadline {
                deadline: self.deadline,
            }
        })??;
        Ok(holdings(answer.into_inner().pod_resources, resources))
    }
}

async fn connect(socket: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(socket).await.map(TokioIo::new)
}

fn holdings(pods: Vec<PodResources>, resources: &BTreeSet<ResourceName>) -> Holdings {
    let mut holdings = Holdings::default();
    for pod in pods {
        for container in pod.containers {
            for devices in container.devices {
                let Some(resource) = resources
                    .iter()
                    .find(|known| known.as_str() == devices.resource_name)
                else {
                    continue;
                };
                let holder = || {
                    let container = ContainerRef {
                        namespace: pod.namespace.clone(),
                        pod: pod.name.clone(),
                        container: container.name.clone(),
                    };
                    (resource.clone(), container)
                };
                for text in &devices.device_ids {
                    if let Ok(id) = text.parse() {
                        holdings.ours.entry(id).or_insert_with(holder);
                    } else if let Ok(id) = text.parse() {
                        holdings.foreign.entry(id).or_insert_with(holder);
                    }
                }
            }
        }
    }
    holdings
}

#[cfg(test)]
mod tests;
