//! What a started container sees: merged answers, the pod's own settings, CDI.

use std::fs;

use gpushared_proto::deviceplugin::v1beta1::{
    CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount,
};
use gpushared_tests::{ContainerSpec, Event, FakeKubelet, NodeDirs, PodError, PodSpec, Violation};

use super::{GPU, node_with};
use crate::reference_plugin::{ReferencePlugin, devices};

const CDI_NAME: &str = "example.com/gpu=lease-1";

fn with_env(pairs: &[(&str, &str)]) -> ContainerAllocateResponse {
    let envs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ContainerAllocateResponse {
        envs: envs.collect(),
        ..Default::default()
    }
}

fn with_cdi() -> ContainerAllocateResponse {
    let cdi_devices = vec![CdiDevice {
        name: CDI_NAME.to_owned(),
    }];
    ContainerAllocateResponse {
        cdi_devices,
        ..with_env(&[("WHO", "plugin"), ("ONLY", "plugin")])
    }
}

fn spec(edits: &str) -> String {
    format!(
        r#"{{"cdiVersion":"0.5.0","kind":"example.com/gpu",
            "devices":[{{"name":"lease-1","containerEdits":{edits}}}]}}"#
    )
}

fn not_started(outcome: Result<gpushared_tests::Container, PodError>) -> String {
    match outcome.unwrap_err() {
        PodError::NotStarted { message, .. } => message,
        other => panic!("a start error was expected: {other}"),
    }
}

#[tokio::test]
async fn the_first_of_two_resources_wins_and_a_conflict_is_written_down() {
    let (node, kubelet, plugin) = node_with(1).await;
    let other = ReferencePlugin::start(&node.kubelet(), "example.com/other", devices("other", 1));
    kubelet.wait_for_allocatable("example.com/other", 1).await;
    plugin.answers(|_| Ok(vec![with_env(&[("SAME", "x"), ("WHO", "gpu")])]));
    other.answers(|_| Ok(vec![with_env(&[("SAME", "x"), ("WHO", "other")])]));
    let container = ContainerSpec::new("main")
        .limit(GPU, 1)
        .limit("example.com/other", 1);
    let pod = kubelet
        .run_pod(PodSpec::new("a").container(container))
        .await
        .unwrap();
    let container = kubelet.container(&pod, "main").unwrap();
    assert!(["gpu", "other"].contains(&container.env("WHO").unwrap()));
    let conflicts: Vec<_> = kubelet
        .events()
        .into_iter()
        .filter(|e| matches!(e, Event::Conflict { .. }))
        .collect();
    assert_eq!(
        conflicts,
        [Event::Conflict {
            kind: "env",
            key: "WHO".to_owned()
        }]
    );
}

#[tokio::test]
async fn the_pods_env_beats_the_plugins_and_cdi_beats_both() {
    let (node, kubelet, plugin) = node_with(1).await;
    plugin.answers(|_| Ok(vec![with_cdi()]));
    fs::write(
        node.cdi().join("a.json"),
        spec(r#"{"env":["CDI=cdi","BOTH=cdi"]}"#),
    )
    .unwrap();
    let container = ContainerSpec::new("main")
        .limit(GPU, 1)
        .env("WHO", "pod")
        .env("BOTH", "pod");
    let pod = kubelet
        .run_pod(PodSpec::new("a").container(container))
        .await
        .unwrap();
    let container = kubelet.container(&pod, "main").unwrap();
    let seen = ["ONLY", "WHO", "BOTH", "CDI"].map(|name| container.env(name).unwrap());
    assert_eq!(seen, ["plugin", "pod", "cdi", "cdi"]);
}

#[tokio::test]
async fn a_container_needs_its_cdi_spec_at_every_start_and_a_valid_one() {
    let (node, kubelet, plugin) = node_with(1).await;
    plugin.answers(|_| Ok(vec![with_cdi()]));
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    kubelet.admit(&pod).await.unwrap();
    let file = node.cdi().join("a.json");
    let text = not_started(kubelet.start_container(&pod, "main").await);
    assert!(
        text.contains("unresolvable CDI devices example.com/gpu=lease-1"),
        "{text}"
    );
    fs::write(&file, spec("{}")).unwrap();
    let text = not_started(kubelet.start_container(&pod, "main").await);
    assert!(text.contains("empty device edits"), "{text}");
    fs::write(&file, spec(r#"{"env":["A=b"]}"#)).unwrap();
    kubelet.start_container(&pod, "main").await.unwrap();
    fs::remove_file(&file).unwrap();
    not_started(kubelet.restart_container(&pod, "main").await);
}

#[tokio::test]
async fn a_cdi_name_may_not_stand_for_something_else_later() {
    let (node, kubelet, plugin) = node_with(1).await;
    plugin.answers(|_| Ok(vec![with_cdi()]));
    let file = node.cdi().join("a.json");
    fs::write(&file, spec(r#"{"env":["A=b"]}"#)).unwrap();
    let pod = kubelet.run_pod(PodSpec::one("a", GPU, 1)).await.unwrap();
    fs::write(&file, spec(r#"{"env":["A=c"]}"#)).unwrap();
    kubelet.restart_container(&pod, "main").await.unwrap();
    let taken = kubelet.take_violations();
    assert_eq!(
        taken,
        [Violation::CdiNameReused {
            name: CDI_NAME.to_owned()
        }]
    );
}

#[tokio::test]
async fn a_device_that_two_specs_define_is_defined_by_neither() {
    let (node, kubelet, plugin) = node_with(1).await;
    plugin.answers(|_| Ok(vec![with_cdi()]));
    for file in ["a.json", "b.json"] {
        fs::write(node.cdi().join(file), spec(r#"{"env":["A=b"]}"#)).unwrap();
    }
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    kubelet.admit(&pod).await.unwrap();
    not_started(kubelet.start_container(&pod, "main").await);
}

#[tokio::test]
async fn device_nodes_and_mounts_must_exist_on_the_node() {
    let node = NodeDirs::new();
    let kubelet = FakeKubelet::builder(node.kubelet())
        .stand_in_devices()
        .start()
        .await;
    let plugin = ReferencePlugin::start(&node.kubelet(), GPU, devices("gpu", 1));
    kubelet.wait_for_allocatable(GPU, 1).await;
    let (device, dir) = (node.dev().join("gpu0"), node.run().join("lease"));
    let host_device = device.to_str().unwrap().to_owned();
    let host_dir = dir.to_str().unwrap().to_owned();
    plugin.answers(move |_| {
        let device = DeviceSpec {
            container_path: "/dev/gpu0".to_owned(),
            host_path: host_device.clone(),
            permissions: "rw".to_owned(),
        };
        let mount = Mount {
            container_path: "/lease".to_owned(),
            host_path: host_dir.clone(),
            read_only: true,
        };
        let (devices, mounts) = (vec![device], vec![mount]);
        Ok(vec![ContainerAllocateResponse {
            devices,
            mounts,
            ..Default::default()
        }])
    });
    let pod = kubelet.submit(PodSpec::one("a", GPU, 1));
    kubelet.admit(&pod).await.unwrap();
    assert!(not_started(kubelet.start_container(&pod, "main").await).contains("failed to stat"));
    fs::write(&device, "").unwrap();
    assert!(not_started(kubelet.start_container(&pod, "main").await).contains("error mounting"));
    fs::create_dir(&dir).unwrap();
    let container = kubelet.start_container(&pod, "main").await.unwrap();
    assert_eq!(container.device_nodes[0].container_path, "/dev/gpu0");
    assert!(container.mount("/lease").unwrap().read_only);
}
