//! The door, within one process; across processes in `tests/processes.rs`.

use std::os::unix::fs::FileExt as _;
use std::thread;

use gpushared_driver_sim::{Code, GpuSlot, NodeSpec, OwnedNode};

use super::*;

const GPU: GpuSlot = GpuSlot::new(0);

fn node() -> OwnedNode {
    OwnedNode::new(&NodeSpec::of(&["h100-80gb", "t4"], 1).unwrap()).unwrap()
}

fn shared() -> (tempfile::TempDir, SharedNode) {
    let dir = tempfile::tempdir().unwrap();
    let shared = SharedNode::create(dir.path(), &node()).unwrap();
    (dir, shared)
}

#[test]
fn a_second_mapping_sees_what_the_first_made() {
    let (dir, one) = shared();
    let two = SharedNode::open(dir.path()).unwrap();
    one.with(|node| node.set_mig_mode(GPU, 1, 0))
        .unwrap()
        .unwrap();
    let gi = one
        .with(|node| node.create_gi(GPU, 19, None, 0))
        .unwrap()
        .unwrap();
    assert_eq!(two.with(|node| node.gis(GPU, 19)).unwrap(), Ok(vec![gi]));
}

#[test]
fn a_panic_gives_the_lock_back_and_leaves_a_sound_node() {
    let (_dir, shared) = shared();
    shared
        .with(|node| node.set_mig_mode(GPU, 1, 0))
        .unwrap()
        .unwrap();
    let generation = shared.with(|node| node.header.generation).unwrap();
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        shared.with(|node| {
            node.gpus[0].gis[3].in_use = 1;
            node.gpus[0].gis[3].profile_id = 12345;
            panic!("in the middle of a change");
        })
    }));
    panicked.unwrap_err();
    let gis = shared
        .with(|node| node.gpu(GPU).unwrap().instances().count())
        .unwrap();
    assert_eq!(gis, 0);
    assert!(shared.with(|node| node.header.generation).unwrap() > generation);
}

#[test]
fn asking_for_the_lock_twice_in_one_thread_is_an_error() {
    let (_dir, shared) = shared();
    let inner = shared.with(|_| shared.with(|_| ())).unwrap();
    assert!(matches!(inner, Err(StateError::Lock { .. })));
    shared.with(|_| ()).unwrap();
}

#[test]
fn a_thread_that_waits_wakes_at_a_change() {
    let (dir, shared) = shared();
    let waiter = SharedNode::open(dir.path()).unwrap();
    let seen = waiter.change();
    let waiting = thread::spawn(move || waiter.wait(seen, Duration::from_secs(60)));
    shared
        .with(|node| node.inject_xid(GPU, 79, 0))
        .unwrap()
        .unwrap();
    assert!(waiting.join().unwrap());
}

#[test]
fn reading_wakes_nobody_and_a_wait_ends_at_its_timeout() {
    let (_dir, shared) = shared();
    let seen = shared.change();
    shared.with(|node| node.gpu_count()).unwrap();
    assert!(!shared.wait(seen, Duration::ZERO));
    assert!(!shared.wait(seen, Duration::from_millis(1)));
}

#[test]
fn files_that_are_no_state_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let open = || SharedNode::open(dir.path()).map(|_| ());
    assert!(matches!(open(), Err(StateError::Io { .. })), "no file");
    std::fs::write(&path, "short").unwrap();
    assert!(matches!(open(), Err(StateError::BadMagic { .. })));
    std::fs::write(&path, [7; 4096]).unwrap();
    assert!(matches!(open(), Err(StateError::BadMagic { .. })));
    SharedNode::create(dir.path(), &node()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 1).unwrap();
    assert!(matches!(open(), Err(StateError::BadSize { found, .. }) if found == length - 1));
    file.set_len(length).unwrap();
    open().unwrap();
    file.write_all_at(&99u32.to_ne_bytes(), 16).unwrap();
    assert!(matches!(
        open(),
        Err(StateError::BadLayout { found: 99, .. })
    ));
}

#[test]
fn creating_again_replaces_the_node() {
    let (dir, old) = shared();
    old.with(|node| node.lose_gpu(GPU, 0)).unwrap().unwrap();
    let new = SharedNode::create(dir.path(), &node()).unwrap();
    assert!(!new.with(|node| node.is_lost(GPU)).unwrap());
    assert!(
        old.with(|node| node.is_lost(GPU)).unwrap(),
        "keeps what it mapped"
    );
}

#[test]
fn who_has_a_replaced_node_mapped_leaves_the_tree_alone() {
    let (dir, old) = shared();
    let on = |node: &mut Node| node.set_mig_mode(GPU, 1, 0);
    old.with(on).unwrap().unwrap();
    let new = SharedNode::create(dir.path(), &node()).unwrap();
    new.with(on).unwrap().unwrap();
    let instances = dir.path().join("proc/driver/nvidia/capabilities/gpu0/mig");
    let files = || match std::fs::read_dir(&instances) {
        Ok(entries) => entries.count(),
        Err(_) => 0,
    };
    let make = |node: &mut Node| node.create_gi(GPU, 19, None, 0);
    old.with(make).unwrap().unwrap();
    old.sync_tree().unwrap();
    assert_eq!(files(), 0, "an instance of the old node");
    new.with(make).unwrap().unwrap();
    assert_eq!(files(), 1);
    old.with(Node::reboot).unwrap();
    assert_eq!(files(), 1, "the new node's instance");
}

#[test]
fn the_node_is_found_by_variable_or_by_the_librarys_place() {
    let (dir, _shared) = shared();
    let root = dir.path().canonicalize().unwrap();
    for place in ["lib", "usr/lib/x86_64-linux-gnu"] {
        let library = root.join(place).join("libnvidia-ml.so.1");
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        std::fs::write(&library, "").unwrap();
        assert_eq!(locate(None, Some(&library)), Some(root.clone()));
        let variable = Some(PathBuf::from("/elsewhere"));
        assert_eq!(locate(variable.clone(), Some(&library)), variable);
        assert_eq!(
            locate(Some(PathBuf::new()), Some(&library)),
            Some(root.clone())
        );
    }
    assert_eq!(locate(None, Some(Path::new("/lib/libc.so.6"))), None);
    assert_eq!(locate(None, None), None);
}

#[test]
fn a_state_full_of_noise_panics_no_reader_and_is_repaired() {
    let (dir, shared) = shared();
    let path = dir.path().join("state");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    // Behind the head, the wake word and the mutex: the node up to its last byte.
    let from = 64;
    let mut noise = 0x1234_5678_9ABC_DEF0u64;
    for round in 0..24u64 {
        let mut bytes = vec![0; length - from];
        for chunk in bytes.chunks_mut(8) {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round | 1);
            // Sparse noise keeps flags and counts small, dense noise makes them huge.
            let word = if round % 2 == 0 {
                noise.rotate_left(29)
            } else {
                (noise >> 60) & 0x7
            };
            chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
        }
        file.write_all_at(&bytes, from as u64).unwrap();
        shared.with_unreaped(read_everything).unwrap();
        shared.with_unreaped(|node| node.repair()).unwrap();
        shared.with_unreaped(read_everything).unwrap();
        shared.with(|node| node.reap_clients(|_| false)).unwrap();
    }
}

fn read_everything(node: &mut Node) {
    let now = 1_000_000_000_000;
    let mut set = gpushared_driver_sim::EventSet::new(node);
    let slots: Vec<_> = (0..20).map(GpuSlot::new).collect();
    for slot in slots {
        let _any = (
            node.memory(slot),
            node.power_mw(slot, now),
            node.temperature(slot, now),
        );
        let _any = (node.clocks(slot, now), node.utilization_percent(slot, now));
        let _any = (
            node.mig_mode(slot),
            node.max_mig_devices(slot),
            node.index_of(slot),
        );
        let _any = set.register(node, slot, 8);
        for profile in [0, 5, 9, 14, 15, 19, 20] {
            let _any = node.gi_remaining_capacity(slot, profile);
            let _any = node.create_gi(slot, profile, None, now);
        }
        let devices: Vec<_> = node
            .gpu_any(slot)
            .map(|gpu| gpu.mig_devices(slot).collect())
            .unwrap_or_default();
        for device in devices {
            let _any = (
                node.mig_uuid(device),
                node.mig_attributes(device),
                node.mig_name(device),
            );
            let _any = node.create_ci(slot, device.gi, 0, None, now);
            let _any = node.destroy_ci(device, now);
        }
        let _any = node.reset_gpu(slot, now);
        let _any = node.inject_uncorrected_ecc(slot, 1, now);
    }
    let _any = (
        node.mig_device_by_uuid("MIG-x"),
        node.slot_by_uuid("GPU-x"),
        node.init(),
    );
    let function = gpushared_driver_sim::Function::new("nvmlInit_v2");
    let _any = node.enter(function, Some(GPU));
    node.leave(function, Some(GPU), 1, Code::SUCCESS, now);
    let _any = (
        set.poll(node),
        node.events.recent(10).count(),
        node.calls.recent(10).count(),
    );
    let _any = (
        node.calls.counts().count(),
        node.active_faults().count(),
        node.heal(None),
    );
}
