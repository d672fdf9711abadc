//! The tree follows the layout.

use std::fs;
use std::path::Path;

use gpushared_driver_sim::{GpuSlot, MigDevice, Node, NodeSpec, OwnedNode};

use crate::SharedNode;

const GPU: GpuSlot = GpuSlot::new(0);

fn shared() -> (tempfile::TempDir, SharedNode) {
    let dir = tempfile::tempdir().unwrap();
    let spec = NodeSpec::of(&["h100-80gb", "t4"], 1).unwrap();
    let shared = SharedNode::create(dir.path(), &OwnedNode::new(&spec).unwrap()).unwrap();
    (dir, shared)
}

fn read(dir: &Path, path: &str) -> String {
    fs::read_to_string(dir.join(path)).unwrap()
}

fn make(node: &mut Node) -> MigDevice {
    node.set_mig_mode(GPU, 1, 0).unwrap();
    let gi = node.create_gi(GPU, 19, None, 0).unwrap();
    let ci = node.create_ci(GPU, gi, 0, None, 0).unwrap();
    MigDevice { gpu: GPU, gi, ci }
}

#[test]
fn capability_files_exist_exactly_while_their_instance_does() {
    let (dir, shared) = shared();
    let device = shared.with(make).unwrap();
    let gi_dir = dir.path().join(format!(
        "proc/driver/nvidia/capabilities/gpu0/mig/gi{}",
        device.gi
    ));
    let minor = 3 + 9 * device.gi.get();
    let nodes =
        [minor, minor + 1].map(|m| dir.path().join(format!("dev/nvidia-caps/nvidia-cap{m}")));
    let access = fs::read_to_string(gi_dir.join("ci0/access")).unwrap();
    let expected = format!(
        "DeviceFileMinor: {}\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
        minor + 1
    );
    assert_eq!(access, expected);
    assert!(nodes.iter().all(|node| node.exists()));

    shared
        .with(|node| node.destroy_ci(device, 0))
        .unwrap()
        .unwrap();
    assert!(gi_dir.join("access").exists() && !gi_dir.join("ci0").exists());
    assert!(nodes[0].exists() && !nodes[1].exists());

    shared
        .with(|node| node.destroy_gi(GPU, device.gi, 0))
        .unwrap()
        .unwrap();
    assert!(!gi_dir.exists() && gi_dir.parent().unwrap().exists());
    assert!(!nodes[0].exists());
}

#[test]
fn the_list_of_minors_is_the_drivers() {
    let (dir, _shared) = shared();
    let text = read(dir.path(), "proc/driver/nvidia-caps/mig-minors");
    assert_eq!(text.lines().count(), 2 + 32 * 15 * 9);
    for line in [
        "config 1",
        "monitor 2",
        "gpu0/gi1/access 12",
        "gpu0/gi1/ci0/access 13",
        "gpu0/gi2/access 21",
        "gpu0/gi3/ci0/access 31",
        "gpu31/gi14/ci7/access 4322",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn pci_devices_say_who_they_are() {
    let (dir, _shared) = shared();
    let device = "sys/bus/pci/devices/0000:07:00.0";
    let file = |name: &str| read(dir.path(), &format!("{device}/{name}"));
    assert_eq!(file("vendor"), "0x10de\n");
    assert_eq!(file("device"), "0x2330\n");
    assert_eq!(file("class"), "0x030200\n");
    assert_eq!(file("numa_node"), "0\n");
    assert_eq!(file("resource").lines().count(), 13);
    let config = fs::read(dir.path().join(device).join("config")).unwrap();
    assert_eq!(config.len(), 256);
    assert_eq!(config[..4], [0xDE, 0x10, 0x30, 0x23]);
    let driver = fs::canonicalize(dir.path().join(device).join("driver")).unwrap();
    assert!(driver.ends_with("sys/bus/pci/drivers/nvidia"));
}

#[test]
fn the_driver_shows_in_proc_while_it_is_loaded() {
    let (dir, shared) = shared();
    let loaded = || {
        read(dir.path(), "proc/modules")
            .lines()
            .any(|line| line.starts_with("nvidia "))
    };
    assert!(loaded());
    assert!(read(dir.path(), "proc/devices").contains("nvidia-caps\n"));
    assert!(read(dir.path(), "proc/driver/nvidia/version").contains(NodeSpec::DEFAULT_DRIVER));
    let information = read(
        dir.path(),
        "proc/driver/nvidia/gpus/0000:0f:00.0/information",
    );
    assert!(information.contains("Tesla T4") && information.contains("Device Minor: \t 1"));

    shared.with(Node::unload_driver).unwrap().unwrap();
    assert!(!loaded());
    assert!(!dir.path().join("proc/driver").exists());
    assert!(
        dir.path()
            .join("sys/bus/pci/devices/0000:07:00.0/vendor")
            .exists()
    );

    shared.with(Node::load_driver).unwrap();
    assert!(loaded() && dir.path().join("proc/driver/nvidia/version").exists());
}

#[test]
fn an_unplugged_gpu_leaves_no_files() {
    let (dir, shared) = shared();
    shared.with(|node| node.unplug_gpu(GPU)).unwrap().unwrap();
    for path in [
        "dev/nvidia0",
        "sys/bus/pci/devices/0000:07:00.0",
        "proc/driver/nvidia/gpus/0000:07:00.0",
        "proc/driver/nvidia/capabilities/gpu0",
    ] {
        assert!(!dir.path().join(path).exists(), "{path}");
    }
    assert!(dir.path().join("dev/nvidia1").exists() && dir.path().join("dev/nvidiactl").exists());
}

#[test]
fn files_of_others_beside_the_drivers_are_left_alone() {
    let (dir, shared) = shared();
    for path in ["proc/1/stat", "dev/null", "sys/class/net/eth0"] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "theirs").unwrap();
    }
    shared.with(make).unwrap();
    assert_eq!(read(dir.path(), "proc/1/stat"), "theirs");
    assert_eq!(read(dir.path(), "dev/null"), "theirs");
}

#[test]
fn a_tree_that_fell_behind_is_caught_up_by_the_next_call() {
    let (dir, shared) = shared();
    let capabilities = dir.path().join("proc/driver/nvidia/capabilities");
    // A file in the way of a directory makes the synchronisation fail.
    fs::remove_dir_all(&capabilities).unwrap();
    fs::remove_dir_all(dir.path().join("proc/driver/nvidia-caps")).unwrap();
    fs::write(dir.path().join(".tree.new"), "").unwrap();
    fs::remove_file(dir.path().join(".tree.new")).unwrap();
    fs::create_dir(dir.path().join(".tree.new")).unwrap();
    let device = shared.with(make).unwrap();
    shared.sync_tree().unwrap_err();
    assert!(
        !capabilities
            .join(format!("gpu0/mig/gi{}/access", device.gi))
            .exists()
    );
    fs::remove_dir(dir.path().join(".tree.new")).unwrap();
    shared.with(|_| ()).unwrap();
    assert!(
        capabilities
            .join(format!("gpu0/mig/gi{}/access", device.gi))
            .exists()
    );
}
