//! Registration, the dial back, and two instances of one resource.

use std::time::Duration;

use gpushared_proto::deviceplugin::KUBELET_SOCKET;
use gpushared_proto::deviceplugin::v1beta1::{DevicePluginOptions, RegisterRequest};
use gpushared_tests::{
    DuplicateRegistration, Event, FakeKubelet, NodeDirs, PodSpec, Rpc, look_within, wait_until,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use super::{GPU, calls, node_with};
use crate::reference_plugin::{Quirk, ReferencePlugin, devices, register};

fn request(version: &str, resource: &str, endpoint: &str) -> RegisterRequest {
    RegisterRequest {
        version: version.to_owned(),
        endpoint: endpoint.to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    }
}

#[tokio::test]
async fn registration_is_refused_in_the_kubelets_words() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet());
    let kubelet = kubelet
        .dial_timeout(Duration::from_millis(50))
        .start()
        .await;
    let socket = node.kubelet().join("device-plugins").join(KUBELET_SOCKET);
    let cases = [
        (
            request("v1alpha1", GPU, "a.sock"),
            "requested API version \"v1alpha1\" is not supported by kubelet. \
             Supported version is [\"v1beta1\"]",
        ),
        (
            request("v1beta1", "gpu", "a.sock"),
            "the ResourceName \"gpu\" is invalid",
        ),
        (
            request("v1beta1", GPU, "absent.sock"),
            "failed to dial device plugin: context deadline exceeded",
        ),
    ];
    for (request, text) in cases {
        let refusal = register(&socket, request).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (Code::Unknown, text));
    }
    assert!(kubelet.resources().is_empty());
}

#[tokio::test]
async fn a_dial_ends_with_its_caller() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let socket = node.kubelet().join("device-plugins").join(KUBELET_SOCKET);
    let call = register(&socket, request("v1beta1", GPU, "absent.sock"));
    let given_up = tokio::time::timeout(Duration::from_millis(100), call).await;
    given_up.unwrap_err();
    assert_eq!(kubelet.registrations(GPU), 0);
}

#[tokio::test]
async fn only_the_options_of_the_rpc_count_and_it_is_asked_inside_register() {
    let (node, kubelet, plugin) = node_with(1).await;
    let socket = node.kubelet().join("device-plugins").join(KUBELET_SOCKET);
    let mut request = request("v1beta1", GPU, "example.com-gpu.sock");
    request.options = Some(DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    });
    register(&socket, request).await.unwrap();
    kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    assert!(calls(&kubelet, Rpc::PreStartContainer).is_empty());
    assert!(calls(&kubelet, Rpc::GetPreferredAllocation).is_empty());
    drop(plugin);
}

#[tokio::test]
async fn the_kubelet_dials_with_localhost_as_authority() {
    let (_node, _kubelet, plugin) = node_with(1).await;
    let seen = plugin.knobs.authorities.lock().unwrap().clone();
    assert!(
        !seen.is_empty() && seen.iter().all(|authority| authority == "localhost"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn an_endpoint_in_a_subdirectory_is_dialled_and_survives_a_restart() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let root = node.kubelet();
    let endpoint = "sub/a.sock";
    let _plugin = ReferencePlugin::start_as(&root, GPU, endpoint, devices("gpu", 2), Quirk::None);
    kubelet.wait_for_allocatable(GPU, 2).await;
    kubelet.kill9();
    kubelet.start(gpushared_tests::Start::default()).await;
    assert!(root.join("device-plugins/sub/a.sock").exists());
    kubelet.wait_for_allocatable(GPU, 2).await;
}

/// facts/kubelet.md, finding 2: kubernetes/kubernetes#92958 and what it does to a surge update.
#[tokio::test]
async fn the_end_of_an_old_instance_kills_the_new_one() {
    let (node, kubelet, old) = node_with(3).await;
    let root = node.kubelet();
    let new = ReferencePlugin::start_as(
        &root,
        GPU,
        "new.sock",
        devices("gpu", 3),
        Quirk::RegistersOnce,
    );
    wait_until("the new instance is registered", || {
        kubelet.registrations(GPU) == 2
    })
    .await;
    drop(old);
    kubelet.wait_for_allocatable(GPU, 0).await;
    let poisoned = Event::Disconnected {
        resource: GPU.to_owned(),
        poisoned: true,
    };
    assert!(kubelet.events().contains(&poisoned));
    let comes_back = || (kubelet.allocatable(GPU) == Some(3)).then_some(());
    let waited = look_within(Duration::from_millis(300), comes_back).await;
    assert!(
        waited.is_none(),
        "the kubelet opened a stream again by itself"
    );
    drop(new);
}

#[tokio::test]
async fn an_instance_that_registers_again_survives_the_end_of_the_old_one() {
    let (node, kubelet, old) = node_with(3).await;
    let root = node.kubelet();
    let _new = ReferencePlugin::start_as(&root, GPU, "new.sock", devices("gpu", 3), Quirk::None);
    wait_until("the new instance is registered", || {
        kubelet.registrations(GPU) == 2
    })
    .await;
    drop(old);
    wait_until("the new instance registers again", || {
        kubelet.registrations(GPU) >= 3
    })
    .await;
    kubelet.wait_for_allocatable(GPU, 3).await;
}

/// A registration that fails takes the live client out of the kubelet's map: nobody is left to drop
/// when that one's stream ends, and the devices of a dead plugin stay allocatable.
#[tokio::test]
async fn a_failed_second_registration_hides_the_end_of_the_first_plugin() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet());
    let kubelet = kubelet
        .dial_timeout(Duration::from_millis(50))
        .start()
        .await;
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 3));
    kubelet.wait_for_allocatable(GPU, 3).await;
    let socket = node.kubelet().join("device-plugins").join(KUBELET_SOCKET);
    register(&socket, request("v1beta1", GPU, "absent.sock"))
        .await
        .unwrap_err();
    drop(plugin);
    let ended = |event: &Event| matches!(event, Event::StreamEnded { .. });
    wait_until("the stream ends", || kubelet.events().iter().any(ended)).await;
    let lost = || (kubelet.allocatable(GPU) != Some(3)).then_some(());
    assert!(
        look_within(Duration::from_millis(200), lost)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn a_fixed_kubelet_lets_the_newest_instance_live() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet());
    let kubelet = kubelet
        .duplicates(DuplicateRegistration::Fixed)
        .start()
        .await;
    let root = node.kubelet();
    let start = |endpoint| {
        let devices = devices("gpu", 3);
        ReferencePlugin::start_as(&root, GPU, endpoint, devices, Quirk::RegistersOnce)
    };
    let old = start("old.sock");
    kubelet.wait_for_allocatable(GPU, 3).await;
    let _new = start("new.sock");
    wait_until("the new instance is registered", || {
        kubelet.registrations(GPU) == 2
    })
    .await;
    drop(old);
    let lost = || (kubelet.allocatable(GPU) != Some(3)).then_some(());
    assert!(
        look_within(Duration::from_millis(300), lost)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn both_instances_feed_one_list() {
    let (node, kubelet, old) = node_with(3).await;
    let root = node.kubelet();
    let _new = ReferencePlugin::start_as(&root, GPU, "new.sock", devices("gpu", 2), Quirk::None);
    kubelet.wait_for_allocatable(GPU, 2).await;
    old.list(devices("gpu", 5));
    kubelet.wait_for_allocatable(GPU, 5).await;
}

/// Go plugins that dial `kubelet.sock` by its path send that path as the authority. A real kubelet does
/// not mind; the Rust HTTP/2 server does, and no Rust client can send it, so this one speaks in bytes.
#[tokio::test]
async fn a_caller_with_a_path_as_its_authority_is_answered() {
    let node = NodeDirs::new();
    let _kubelet = FakeKubelet::builder(node.kubelet()).start().await;
    let socket = node.kubelet().join("device-plugins").join(KUBELET_SOCKET);
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let headers = [
        &b"\x83\x86"[..], // POST, http
        b"\x44\x1e/v1beta1.Registration/Register",
        b"\x41\x15%2Ftmp%2Fkubelet.sock",
        b"\x5f\x10application/grpc",
        b"\x40\x02te\x08trailers",
    ];
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),               // settings
        frame(1, 4, 1, &headers.concat()), // all headers of stream 1
        frame(0, 1, 1, b"\0\0\0\0\0"),     // an empty message, the last of it
    ];
    stream.write_all(&request.concat()).await.unwrap();
    let (headers, reset) = (1, 3);
    let answer = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if [headers, reset].contains(&head[3]) {
            break head[3];
        }
    };
    assert_eq!(answer, headers, "the stream was reset");
}
