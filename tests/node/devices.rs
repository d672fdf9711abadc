//! What a container sees of the GPUs: its own devices and no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::case::{Setting, case, skip};
use crate::daemon::{Node, Strategy};
use crate::gpus::{GPU, MIG};
use crate::pods::pod;
use crate::wait::until_eq;

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn pods_see_their_own_devices_through_cdi() {
    case("pods_see_their_own_devices_through_cdi", |setting| {
        pods_see_their_own_devices(setting, Strategy::Cdi);
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn pods_see_their_own_devices_through_device_nodes() {
    case(
        "pods_see_their_own_devices_through_device_nodes",
        |setting| {
            pods_see_their_own_devices(setting, Strategy::DeviceNodes);
        },
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn pods_see_their_own_devices_through_cdi_annotations() {
    case(
        "pods_see_their_own_devices_through_cdi_annotations",
        |setting| pods_see_their_own_devices(setting, Strategy::CdiAnnotations),
    );
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn the_environment_names_the_device_for_an_nvidia_runtime() {
    case(
        "the_environment_names_the_device_for_an_nvidia_runtime",
        |setting| {
            let node = Node::boot(setting, Strategy::Env);
            for (name, resource) in [("m", MIG), ("g", GPU)] {
                let inside = node.machine.run(&pod(name).with(resource, 1));
                let id = node.machine.assigned(name).pop_first().expect("a device");
                let (_, mig_uuid) = node.gpus.device(&id);
                // The ID of a whole GPU is its UUID.
                let uuid = mig_uuid.unwrap_or(id);
                assert_eq!(inside.env.get("NVIDIA_VISIBLE_DEVICES"), Some(&uuid));
                assert!(inside.devices.is_empty(), "runc is no NVIDIA runtime");
            }
        },
    );
}

/// Two pods with a MIG device each, two with a whole GPU each, all at once.
fn pods_see_their_own_devices(setting: &Setting, strategy: Strategy) {
    let node = Node::boot(setting, strategy);
    let machine = &node.machine;

    let pods = [
        ("mig-a", MIG),
        ("mig-b", MIG),
        ("gpu-a", GPU),
        ("gpu-b", GPU),
    ];
    let mut given = BTreeSet::new();
    for (name, resource) in pods {
        let inside = machine.run(&pod(name).with(resource, 1));
        let assigned = machine.assigned(name);
        assert_eq!(assigned.len(), 1, "{assigned:?}");
        for id in assigned {
            let (nodes, _) = node.gpus.device(&id);
            assert_eq!(inside.devices, nodes, "{name} with {id}");
            // An NVIDIA runtime must not add GPUs because an image asks for all of them.
            assert_eq!(
                inside.env.get("NVIDIA_VISIBLE_DEVICES").map(String::as_str),
                Some("void")
            );
            // A second resource of the container would need another value.
            assert_eq!(inside.env.get("CUDA_VISIBLE_DEVICES"), None);
            assert!(
                inside
                    .mounts
                    .iter()
                    .any(|path| path.contains("/libcuda.so.1")),
                "no libcuda in {:?}",
                inside.mounts
            );
            assert!(given.insert(id), "given out twice");
        }
    }
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_freed_device_is_given_out_again() {
    case("a_freed_device_is_given_out_again", |setting| {
        let node = Node::boot(setting, Strategy::Cdi);
        let machine = &node.machine;
        for name in ["a", "b"] {
            machine.run(&pod(name).with(GPU, 1));
        }
        // The third one waits in the scheduler until a GPU is free.
        machine.create(&pod("c").with(GPU, 1));
        let freed = machine.assigned("a");
        machine.delete("a");
        machine.until_running("c");
        assert_eq!(machine.assigned("c"), freed);
    });
}

#[test]
#[ignore = "needs root, Go and containerd: run tests/node/run"]
fn a_cdi_file_lives_as_long_as_the_pod_needs_it() {
    case("a_cdi_file_lives_as_long_as_the_pod_needs_it", |setting| {
        let node = Node::boot(setting, Strategy::Cdi);
        let machine = &node.machine;
        let before = machine.run(&pod("p").with(MIG, 1));
        let first = machine.incarnation("p");
        let [file] = &cdi_files()[..] else {
            panic!("one CDI file for one container, not {:?}", cdi_files());
        };
        let bundle = machine.bundle(&first.container);
        assert!(
            born(file) < born(&bundle),
            "{} was made after the container",
            file.display()
        );

        // The container ends; the kubelet makes a new one from the old answer to Allocate, and
        // containerd looks the CDI name up again.
        crate::component::signal(first.process, "TERM");
        until_eq("restarts of p", Duration::from_secs(30), &1, || {
            machine.restarts("p")
        });
        machine.until_running("p");
        let again = machine.inside("p");
        assert_ne!(machine.container_id("p"), first.container);
        assert_eq!(again.devices, before.devices);

        assert_eq!(cdi_files(), std::slice::from_ref(file), "it stays as it is");

        machine.delete("p");
        until_eq(
            "CDI files",
            Duration::from_secs(30),
            &Vec::<PathBuf>::new(),
            cdi_files,
        );
    });
}

/// The CDI files on the node.
fn cdi_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/var/run/cdi").into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn born(path: &Path) -> SystemTime {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.created())
        .unwrap_or_else(|e| skip(format!("when {} was made: {e}", path.display())))
}
