use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use gpushared_domain::edits::{BindMount, DeviceNode};
use serde_json::{Value, json};

use super::*;

fn grant(sequence: u64) -> GrantId {
    GrantId::new(0xab, sequence)
}

fn writer(dir: &Path, plain_files: PlainFiles) -> CdiWriter {
    CdiWriter::new(dir.join("cdi"), "gpushared.io", "slice", plain_files).unwrap()
}

fn node(container: &str, host: &Path) -> DeviceNode {
    DeviceNode {
        container_path: container.into(),
        host_path: host.to_owned(),
        permissions: "rw".to_owned(),
    }
}

fn read(dir: &Path, grant: &GrantId) -> Value {
    let path = dir.join(format!("cdi/gpushared.io-slice_{grant}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_spec_has_all_that_the_container_gets() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libcuda.so.1");
    fs::write(&library, "").unwrap();
    let firmware = dir.path().join("firmware");
    fs::create_dir(&firmware).unwrap();
    let null_node = dir.path().join("nvidia0");
    symlink("/dev/null", &null_node).unwrap();
    let mount = |container: &str, host: &Path, read_only| BindMount {
        container_path: container.into(),
        host_path: host.to_owned(),
        read_only,
    };
    let edits = ContainerEdits {
        env: BTreeMap::from([("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-1".to_owned())]),
        device_nodes: vec![
            node("/dev/nvidia0", &null_node),
            node("/dev/null", Path::new("/dev/null")),
        ],
        mounts: vec![
            mount("/usr/lib/libcuda.so.1", &library, true),
            mount("/lib/firmware", &firmware, false),
        ],
        ..ContainerEdits::default()
    };
    let name = writer(dir.path(), PlainFiles::Refused)
        .write(&grant(7), &edits)
        .unwrap();
    assert_eq!(name, "gpushared.io/slice=00000000000000ab-7");
    assert_eq!(
        read(dir.path(), &grant(7)),
        json!({
            "cdiVersion": "0.5.0",
            "kind": "gpushared.io/slice",
            "devices": [{
                "name": "00000000000000ab-7",
                "containerEdits": {
                    "env": ["CUDA_VISIBLE_DEVICES=GPU-1"],
                    "deviceNodes": [
                        {"path": "/dev/nvidia0", "hostPath": null_node, "type": "c", "major": 1, "minor": 3, "permissions": "rw"},
                        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "permissions": "rw"},
                    ],
                    "mounts": [
                        {"hostPath": library, "containerPath": "/usr/lib/libcuda.so.1", "options": ["ro", "nosuid", "nodev", "bind"]},
                        {"hostPath": firmware, "containerPath": "/lib/firmware", "options": ["rw", "nosuid", "nodev", "rbind"]},
                    ],
                },
            }],
        })
    );
}

fn env_only() -> ContainerEdits {
    ContainerEdits {
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        ..ContainerEdits::default()
    }
}

#[test]
fn the_version_is_the_lowest_that_the_content_needs() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path(), PlainFiles::Refused);
    let letter = GrantId::new(u64::MAX, 1);
    writer.write(&letter, &env_only()).unwrap();
    assert_eq!(read(dir.path(), &letter)["cdiVersion"], "0.3.0");
    // A device name that begins with a digit.
    writer.write(&grant(1), &env_only()).unwrap();
    assert_eq!(read(dir.path(), &grant(1))["cdiVersion"], "0.5.0");
}

#[test]
fn a_regular_file_is_no_device_node_but_on_a_simulated_node() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nvidia0");
    fs::write(&file, "").unwrap();
    let edits = ContainerEdits {
        device_nodes: vec![node("/dev/nvidia0", &file)],
        ..ContainerEdits::default()
    };
    let error = writer(dir.path(), PlainFiles::Refused)
        .write(&grant(1), &edits)
        .unwrap_err();
    assert!(matches!(error, CdiError::NotADevice { .. }));
    writer(dir.path(), PlainFiles::Mounted)
        .write(&grant(1), &edits)
        .unwrap();
    let spec = read(dir.path(), &grant(1));
    let mount = &spec["devices"][0]["containerEdits"]["mounts"][0];
    assert_eq!(mount["containerPath"], "/dev/nvidia0");
}

#[test]
fn a_failed_write_leaves_the_spec_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path(), PlainFiles::Refused);
    writer.write(&grant(1), &env_only()).unwrap();
    let before = read(dir.path(), &grant(1));
    let edits = ContainerEdits {
        device_nodes: vec![node("/dev/nvidia9", Path::new("/nowhere/nvidia9"))],
        ..ContainerEdits::default()
    };
    let error = writer.write(&grant(1), &edits).unwrap_err();
    assert!(matches!(error, CdiError::Look { .. }));
    assert_eq!(read(dir.path(), &grant(1)), before);
}

#[test]
fn a_device_that_would_be_empty_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = writer(dir.path(), PlainFiles::Refused)
        .write(&grant(1), &ContainerEdits::default())
        .unwrap_err();
    assert!(matches!(error, CdiError::Empty { .. }));
}

#[test]
fn only_our_own_files_are_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path(), PlainFiles::Refused);
    assert!(writer.list().unwrap().is_empty());
    writer.write(&grant(2), &env_only()).unwrap();
    writer.write(&grant(1), &env_only()).unwrap();
    let foreign = [
        "nvidia.com-gpu.json",
        "gpushared.io-slice.json",
        "gpushared.io-slice_AB-1.json",
        "gpushared.io-slice_00000000000000ab-01.json",
        "gpushared.io-slice_00000000000000ab-1.yaml",
        "gpushared.io-other_00000000000000ab-1.json",
    ];
    for name in foreign {
        fs::write(dir.path().join("cdi").join(name), "{}").unwrap();
    }
    assert_eq!(writer.list().unwrap(), [grant(1), grant(2)]);
    assert!(writer.remove(&grant(1)).unwrap());
    assert!(!writer.remove(&grant(1)).unwrap());
    assert_eq!(writer.list().unwrap(), [grant(2)]);
    for name in foreign {
        assert!(dir.path().join("cdi").join(name).exists(), "{name}");
    }
}

#[test]
fn the_temporary_file_is_no_spec_to_a_runtime_and_goes_with_the_grant() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(dir.path(), PlainFiles::Refused);
    let temporary = writer.temporary(&grant(1));
    let extension = temporary.extension().unwrap();
    assert!(extension != "json" && extension != "yaml");
    fs::create_dir_all(dir.path().join("cdi")).unwrap();
    fs::write(&temporary, "{").unwrap();
    assert!(writer.list().unwrap().is_empty());
    writer.remove(&grant(1)).unwrap();
    assert!(!temporary.exists());
}

#[test]
fn names_follow_cdis_grammar() {
    for good in ["gpushared.io", "a", "nvidia.com-gpu", "k8s.io_x"] {
        assert!(spec::is_kind_part(good), "{good}");
    }
    for bad in ["", "1a", "-a", "a-", "a.", "a/b", "ä", "a b"] {
        assert!(!spec::is_kind_part(bad), "{bad}");
        let refused = CdiWriter::new("/x", bad, "slice", PlainFiles::Refused);
        assert!(matches!(refused, Err(CdiError::Name { .. })), "{bad}");
    }
    for good in ["0", "GPU-1:0", "00000000000000ab-7", "a.b_c"] {
        assert!(spec::is_device_name(good), "{good}");
    }
    for bad in ["", ":a", "a:", "a=b", "a/b"] {
        assert!(!spec::is_device_name(bad), "{bad}");
    }
}
