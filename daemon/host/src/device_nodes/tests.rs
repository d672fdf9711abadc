use gpushared_domain::offer::MigHandles;

use super::*;

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for name in ["nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1"] {
            node.file(&format!("dev/{name}"), "");
        }
        node
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn roots(&self) -> DeviceNodeRoots {
        DeviceNodeRoots {
            sysroot: self.dir.path().to_owned(),
            dev: self.dir.path().join("dev"),
        }
    }
}

fn gpu(minor: u32) -> Handles {
    Handles {
        gpu: "GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0".parse().unwrap(),
        gpu_minor: GpuMinor(minor),
        mig: None,
    }
}

fn mig(minor: u32, gpu_instance: u32) -> Handles {
    Handles {
        mig: Some(MigHandles {
            gpu_instance: GpuInstanceId(gpu_instance),
            compute_instance: ComputeInstanceId(0),
            uuid: "MIG-0f1e2d3c-4b5a-5978-8796-a5b4c3d2e1f0".parse().unwrap(),
        }),
        ..gpu(minor)
    }
}

fn names(nodes: &[DeviceNode]) -> Vec<&str> {
    nodes
        .iter()
        .map(|node| node.container_path.to_str().unwrap())
        .collect()
}

#[test]
fn the_formula_is_that_of_the_kernel_module() {
    // Numbers of real hosts; the last is the highest there is.
    for (gpu, gi, ci, instance, compute) in [
        (0, 1, 0, 12, 13),
        (0, 2, 0, 21, 22),
        (0, 3, 0, 30, 31),
        (31, 14, 7, 4314, 4322),
    ] {
        let capability = |compute_instance| Capability {
            gpu: GpuMinor(gpu),
            gpu_instance: GpuInstanceId(gi),
            compute_instance,
        };
        assert_eq!(capability(None).minor_by_formula(), instance);
        let of_compute = capability(Some(ComputeInstanceId(ci)));
        assert_eq!(of_compute.minor_by_formula(), compute);
    }
}

#[test]
fn a_whole_gpu_needs_the_control_nodes_and_its_own_once() {
    let node = Node::new();
    node.file("dev/nvidia-uvm-tools", "");
    let nodes = node.roots().nodes([&gpu(1), &gpu(1), &gpu(0)]).unwrap();
    assert_eq!(
        names(&nodes),
        [
            "/dev/nvidia-uvm",
            "/dev/nvidia-uvm-tools",
            "/dev/nvidia0",
            "/dev/nvidia1",
            "/dev/nvidiactl",
        ]
    );
    assert_eq!(nodes[0].host_path, node.dir.path().join("dev/nvidia-uvm"));
}

#[test]
fn capabilities_come_from_the_instances_files_or_from_the_table() {
    let node = Node::new();
    let capabilities = "proc/driver/nvidia/capabilities/gpu0/mig/gi3";
    node.file(
        &format!("{capabilities}/access"),
        "DeviceFileMinor: 30\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
    );
    node.file(
        "proc/driver/nvidia-caps/mig-minors",
        "config 1\nmonitor 2\ngpu0/gi3/access 30\ngpu0/gi3/ci0/access 31\ngpu1/gi3/access 165\n",
    );
    for minor in [30, 31] {
        node.file(&format!("dev/nvidia-caps/nvidia-cap{minor}"), "");
    }
    let nodes = node.roots().nodes([&mig(0, 3)]).unwrap();
    let names = names(&nodes);
    assert!(
        names.contains(&"/dev/nvidia-caps/nvidia-cap30"),
        "{names:?}"
    );
    assert!(
        names.contains(&"/dev/nvidia-caps/nvidia-cap31"),
        "{names:?}"
    );
    // The driver's word counts, also against the formula.
    node.file(&format!("{capabilities}/access"), "DeviceFileMinor: 77\n");
    let capability = Capability {
        gpu: GpuMinor(0),
        gpu_instance: GpuInstanceId(3),
        compute_instance: None,
    };
    assert_eq!(node.roots().capability_minor(capability).unwrap(), 77);
}

#[test]
fn a_number_that_the_driver_does_not_tell_is_not_guessed() {
    let node = Node::new();
    let error = node.roots().nodes([&mig(0, 3)]).unwrap_err();
    assert!(matches!(error, DeviceNodeError::NoCapability { .. }));
    assert!(error.to_string().contains("gpu0/gi3"), "{error}");
    node.file(
        "proc/driver/nvidia/capabilities/gpu0/mig/gi3/access",
        "DeviceFileMinor: many\n",
    );
    let error = node.roots().nodes([&mig(0, 3)]).unwrap_err();
    assert!(matches!(error, DeviceNodeError::Form { .. }));
}

#[test]
fn a_missing_node_is_named_with_what_makes_it() {
    let node = Node::new();
    let error = node.roots().nodes([&gpu(5)]).unwrap_err().to_string();
    assert!(error.contains("nvidia5"), "{error}");
    assert!(error.contains("nvidia-modprobe -c 5"), "{error}");
    node.file(
        "proc/driver/nvidia-caps/mig-minors",
        "gpu0/gi3/access 30\ngpu0/gi3/ci0/access 31\n",
    );
    let access = "proc/driver/nvidia/capabilities/gpu0/mig/gi3/access";
    let gone = node.roots().nodes([&mig(0, 3)]).unwrap_err().to_string();
    assert!(
        gone.contains("the MIG device is gone") && gone.contains(access),
        "{gone}"
    );
    node.file(access, "DeviceFileMinor: 30\n");
    let error = node.roots().nodes([&mig(0, 3)]).unwrap_err().to_string();
    assert!(error.contains("nvidia-cap30"), "{error}");
    assert!(
        error.contains("nvidia-modprobe -f /proc/driver/nvidia/capabilities/gpu0/mig/gi3/access"),
        "{error}"
    );
    fs::remove_file(node.dir.path().join("dev/nvidia-uvm")).unwrap();
    let error = node.roots().nodes([&gpu(0)]).unwrap_err().to_string();
    assert!(error.contains("nvidia-modprobe -u"), "{error}");
}
