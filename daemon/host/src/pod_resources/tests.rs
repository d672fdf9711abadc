use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gpushared_proto::podresources::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use gpushared_proto::podresources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesResponse,
};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;

const GPU: &str = "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Result<Vec<PodResources>, Status>;

/// Answers with what is set.
#[derive(Clone)]
struct Kubelet {
    answer: Arc<Mutex<Answer>>,
    calls: Arc<AtomicUsize>,
    hangs: bool,
}

#[tonic::async_trait]
impl PodResourcesLister for Kubelet {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let pod_resources = self.answer.lock().unwrap().clone()?;
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

impl Kubelet {
    fn new(answer: Answer) -> Self {
        Self {
            answer: Arc::new(Mutex::new(answer)),
            calls: Arc::default(),
            hangs: false,
        }
    }

    fn serve(&self, socket: &Path) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        let service = PodResourcesListerServer::new(self.clone());
        tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            let server = Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        })
    }
}

fn devices(resource: &str, ids: &[&str]) -> ContainerDevices {
    ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: ids.iter().map(|&id| id.to_owned()).collect(),
        topology: None,
    }
}

fn pod(name: &str, containers: &[(&str, Vec<ContainerDevices>)]) -> PodResources {
    PodResources {
        name: name.to_owned(),
        namespace: "team".to_owned(),
        containers: containers
            .iter()
            .map(|(name, devices)| ContainerResources {
                name: (*name).to_owned(),
                devices: devices.clone(),
                ..ContainerResources::default()
            })
            .collect(),
    }
}

fn ours() -> BTreeSet<ResourceName> {
    ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn holders_are_told_once_for_each_device_and_others_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kubelet.sock");
    let mig = format!("{GPU}/mig/19@3");
    let other = format!("{GPU}/mig/19@4");
    let nvidias = "MIG-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    let kubelet = Kubelet::new(Ok(vec![
        // The same device for two NUMA nodes; an ID of somebody else under our name.
        pod(
            "a",
            &[
                (
                    "main",
                    vec![
                        devices("nvidia.com/mig-1g.10gb", &[&mig, "0", nvidias]),
                        devices("nvidia.com/mig-1g.10gb", &[&mig]),
                    ],
                ),
                ("sidecar", vec![devices("nvidia.com/mig-1g.10gb", &[&mig])]),
            ],
        ),
        pod("b", &[("main", vec![devices("vendor.io/gpu", &[&other])])]),
    ]));
    let server = kubelet.serve(&socket);
    let client = PodResourcesClient::new(&socket, PATIENCE);
    let holdings = client.list(&ours()).await.unwrap();
    let [(id, (resource, container))] =
        holdings.ours.iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(id.as_str(), mig);
    assert_eq!(resource.as_str(), "nvidia.com/mig-1g.10gb");
    assert_eq!(container.to_string(), "team/a/main");
    let (_, container) = &holdings.foreign[&nvidias.parse().unwrap()];
    assert_eq!(container.to_string(), "team/a/main");
    assert_eq!(holdings.foreign.len(), 1);
    server.abort();
}

#[tokio::test]
async fn a_kubelet_that_starts_again_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kubelet.sock");
    let client = PodResourcesClient::new(&socket, PATIENCE);
    let error = client.list(&ours()).await.unwrap_err();
    assert!(error.is_temporary(), "nobody listens yet: {error:?}");
    for _ in 0..2 {
        let kubelet = Kubelet::new(Ok(Vec::new()));
        let server = kubelet.serve(&socket);
        // The first call after a break may still meet the old connection.
        let mut answer = client.list(&ours()).await;
        if answer.is_err() {
            answer = client.list(&ours()).await;
        }
        assert_eq!(answer.unwrap(), Holdings::default());
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        std::fs::remove_file(&socket).unwrap();
    }
}

#[tokio::test]
async fn refusals_tell_whether_to_ask_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kubelet.sock");
    let kubelet = Kubelet::new(Ok(Vec::new()));
    let server = kubelet.serve(&socket);
    let client = PodResourcesClient::new(&socket, PATIENCE);
    for (status, temporary) in [
        (Status::resource_exhausted("rejected by rate limit"), true),
        (Status::unavailable("starting"), true),
        (Status::unimplemented("no such service"), false),
        (Status::permission_denied("no"), false),
    ] {
        *kubelet.answer.lock().unwrap() = Err(status);
        let error = client.list(&ours()).await.unwrap_err();
        assert_eq!(error.is_temporary(), temporary, "{error:?}");
    }
    server.abort();
}

#[tokio::test]
async fn a_kubelet_that_hangs_costs_the_deadline_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kubelet.sock");
    let kubelet = Kubelet {
        hangs: true,
        ..Kubelet::new(Ok(Vec::new()))
    };
    let server = kubelet.serve(&socket);
    let client = PodResourcesClient::new(&socket, Duration::from_millis(50));
    let error = client.list(&ours()).await.unwrap_err();
    assert!(
        matches!(error, PodResourcesError::Deadline { .. }),
        "{error:?}"
    );
    assert!(error.is_temporary());
    server.abort();
}
