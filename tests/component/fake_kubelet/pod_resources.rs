//! `PodResources`: what it shows, what it hides, when it refuses.

use std::path::Path;
use std::time::Duration;

use gpushared_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use gpushared_proto::podresources::v1::{
    AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest, PodResources,
};
use gpushared_tests::{ContainerSpec, FakeKubelet, NodeDirs, PodResourcesMode, PodSpec};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{GPU, node_with};
use crate::reference_plugin::{ReferencePlugin, device};

type Client = PodResourcesListerClient<Channel>;

async fn client(root: &Path) -> Client {
    let path = root.join("pod-resources/kubelet.sock");
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    PodResourcesListerClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

async fn list(client: &mut Client) -> Result<Vec<PodResources>, Status> {
    let response = client.list(ListPodResourcesRequest {}).await?;
    Ok(response.into_inner().pod_resources)
}

#[tokio::test]
async fn a_device_has_one_entry_for_each_of_its_numa_nodes_and_init_containers_are_hidden() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let wide = vec![device("gpu0", true, &[0, 1])];
    let _plugin = ReferencePlugin::start(&node.kubelet(), GPU, wide);
    kubelet.wait_for_allocatable(GPU, 1).await;
    let pod = PodSpec::new("a")
        .init(ContainerSpec::new("init").limit(GPU, 1))
        .sidecar(ContainerSpec::new("side"))
        .container(ContainerSpec::new("main").limit(GPU, 1));
    kubelet.run_pod(pod).await.unwrap();
    let mut client = client(&node.kubelet()).await;
    let pods = list(&mut client).await.unwrap();
    let names: Vec<_> = pods[0].containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["side", "main"]);
    let entries = &pods[0].containers[1].devices;
    let nodes: Vec<_> = entries
        .iter()
        .map(|e| e.topology.as_ref().unwrap().nodes[0].id)
        .collect();
    assert_eq!(nodes, [0, 1]);
    assert!(entries.iter().all(|entry| entry.device_ids == ["gpu0"]));
    let allocatable = client
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await;
    assert_eq!(allocatable.unwrap().into_inner().devices.len(), 2);
}

#[tokio::test]
async fn listing_frees_the_devices_of_ended_pods() {
    let (node, kubelet, _plugin) = node_with(1).await;
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    kubelet.remove_pod(&pod);
    assert_eq!(kubelet.allocated(GPU).len(), 1);
    assert!(
        list(&mut client(&node.kubelet()).await)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(kubelet.allocated(GPU).is_empty());
}

#[tokio::test]
async fn more_than_the_burst_is_refused() {
    let (node, _kubelet, _plugin) = node_with(1).await;
    let mut client = client(&node.kubelet()).await;
    let mut refused = Vec::new();
    for _ in 0..200 {
        refused.extend(list(&mut client).await.err());
    }
    let first = refused.first().expect("200 calls in a row are too many");
    assert_eq!(
        (first.code(), first.message()),
        (Code::ResourceExhausted, "rejected by rate limit")
    );
}

#[tokio::test]
async fn get_finds_a_pod_by_name_and_older_kubelets_do_not_know_it() {
    let request = || GetPodResourcesRequest {
        pod_name: "a".to_owned(),
        pod_namespace: "default".to_owned(),
    };
    let (node, kubelet, _plugin) = node_with(1).await;
    let mut newer = client(&node.kubelet()).await;
    let absent = newer.get(request()).await.unwrap_err();
    assert_eq!(absent.message(), "pod a in namespace default not found");
    kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    let found = newer
        .get(request())
        .await
        .unwrap()
        .into_inner()
        .pod_resources
        .unwrap();
    assert_eq!(found.containers[0].devices[0].device_ids, ["gpu0"]);

    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet())
        .before_1_34()
        .start()
        .await;
    let pod = PodSpec::new("done").container(ContainerSpec::new("main"));
    let pod = kubelet.run_pod(pod).await.unwrap();
    kubelet.complete_pod(&pod);
    let mut older = client(&node.kubelet()).await;
    assert_eq!(
        older.get(request()).await.unwrap_err().code(),
        Code::Unimplemented
    );
    assert_eq!(
        list(&mut older).await.unwrap().len(),
        1,
        "finished pods are listed"
    );
}

#[tokio::test]
async fn a_test_can_take_it_away() {
    let (node, kubelet, _plugin) = node_with(1).await;
    let mut client = client(&node.kubelet()).await;
    kubelet.set_pod_resources(PodResourcesMode::Unavailable);
    assert_eq!(
        list(&mut client).await.unwrap_err().code(),
        Code::Unavailable
    );
    kubelet.set_pod_resources(PodResourcesMode::Hanging);
    let hung = tokio::time::timeout(Duration::from_millis(50), list(&mut client)).await;
    hung.unwrap_err();
    kubelet.set_pod_resources(PodResourcesMode::Serving);
    list(&mut client).await.unwrap();
}
