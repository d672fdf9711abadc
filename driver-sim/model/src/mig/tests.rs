//! MIG semantics: state counts, the driver's choices and refusals, and the invariants under random operations.

mod refusals;
mod walk;

use crate::*;

pub(super) const GPU: GpuSlot = GpuSlot::new(0);

/// A node of one GPU with MIG mode in effect.
pub(super) fn mig_node(key: &str) -> OwnedNode {
    let mut node = OwnedNode::new(&NodeSpec::of(&[key], 7).unwrap()).unwrap();
    if node.set_mig_mode(GPU, 1, 0).unwrap() == Code::RESET_REQUIRED {
        node.reset_gpu(GPU, 0).unwrap();
    }
    assert_eq!(
        node.mig_mode(GPU),
        Ok(MigMode {
            current: 1,
            pending: 1
        })
    );
    node
}

/// Layouts and maximal layouts that the simulator's own create rules allow, with these profiles.
fn count_layouts(key: &str, profiles: &[u32]) -> (u32, u32) {
    let mut node = mig_node(key);
    let mut places = Vec::new();
    for &id in profiles {
        let all = node.gi_placements(GPU, id).unwrap();
        places.extend(all.iter().map(|&place| (id, place)));
    }
    let mut counts = (0, 0);
    explore(&mut node, &places, 0, &mut counts);
    counts
}

fn explore(node: &mut Node, places: &[(u32, Placement)], from: usize, counts: &mut (u32, u32)) {
    counts.0 += 1;
    let mut maximal = true;
    for (at, &(profile, place)) in places.iter().enumerate() {
        let Ok(gi) = node.create_gi(GPU, profile, Some(place), 0) else {
            continue;
        };
        maximal = false;
        if at >= from {
            explore(node, places, at + 1, counts);
        }
        node.destroy_gi(GPU, gi, 0).unwrap();
    }
    counts.1 += u32::from(maximal);
}

#[test]
fn eight_slot_layouts_are_counted_as_published() {
    assert_eq!(count_layouts("h100-80gb", &[19, 14, 9, 5, 0]), (298, 19));
    assert_eq!(
        count_layouts("a100-80gb", &[19, 15, 14, 9, 5, 0]),
        (723, 78)
    );
    assert_eq!(
        count_layouts("b200", &[19, 20, 15, 14, 9, 5, 0]),
        (2319, 239)
    );
}

#[test]
fn four_slot_layouts_are_counted_as_published() {
    assert_eq!(count_layouts("a30", &[14, 5, 0]), (26, 5));
    assert_eq!(count_layouts("a30", &[14, 21, 5, 6, 0]), (76, 17));
}

#[test]
fn twelve_slot_layouts_keep_the_engine_budget() {
    let all = [14, 21, 47, 65, 67, 5, 35, 64, 66, 0, 32];
    assert_eq!(count_layouts("rtx-pro-6000", &all), (717, 302));
}

#[test]
fn the_driver_places_in_its_own_order_when_none_is_asked_for() {
    for (profile, starts) in [
        (19, &[6, 4, 5, 0, 1, 2, 3][..]),
        (14, &[4, 0, 2]),
        (9, &[4, 0]),
        (0, &[0]),
    ] {
        let mut node = mig_node("a100-40gb");
        for &start in starts {
            let gi = node.create_gi(GPU, profile, None, 0).unwrap();
            assert_eq!(node.gi(GPU, gi).unwrap().start, start, "profile {profile}");
        }
        assert_eq!(
            node.create_gi(GPU, profile, None, 0),
            Err(Code::INSUFFICIENT_RESOURCES)
        );
    }
}

#[test]
fn a_published_sequence_of_an_a100_is_placed_as_in_its_log() {
    let mut node = mig_node("a100-40gb");
    let starts = [9, 19, 14, 19].map(|profile| {
        let gi = node.create_gi(GPU, profile, None, 0).unwrap();
        node.gi(GPU, gi).unwrap().start
    });
    // The log: 3g at 4, 1g at 0, 2g at 2, 1g at 1.
    assert_eq!(starts, [4, 0, 2, 1]);
}

#[test]
fn ids_follow_the_place_and_differ_between_boards_of_one_host() {
    let spec = NodeSpec::of(&["h100-80gb"; 4], 7).unwrap();
    let mut node = OwnedNode::new(&spec).unwrap();
    let mut maps = std::collections::BTreeSet::new();
    for slot in (0..4).map(GpuSlot::new) {
        node.set_mig_mode(slot, 1, 0).unwrap();
        let place = |start, size| Some(Placement { start, size });
        let half = node.create_gi(slot, 9, place(4, 4), 0).unwrap().get();
        let quarter = node.create_gi(slot, 14, place(2, 2), 0).unwrap().get();
        let eighth = node.create_gi(slot, 19, place(0, 1), 0).unwrap().get();
        assert!(
            (1..=2).contains(&half) && (3..=6).contains(&quarter) && (7..=14).contains(&eighth)
        );
        maps.insert((half, quarter, eighth));
    }
    assert_eq!(maps.len(), 4, "{maps:?}");
    // The two boards of NVIDIA/DCGM#138 and the normal one are among them.
    assert!(maps.contains(&(1, 4, 7)), "normal: {maps:?}");
    assert!(maps.contains(&(2, 4, 7)), "GPU 0 of the issue: {maps:?}");
    assert!(
        maps.contains(&(1, 6, 11)),
        "GPU 1 of the issue and the A100-PCIE note: {maps:?}"
    );
}

#[test]
fn the_same_place_gets_the_same_id_and_uuid_again() {
    let mut node = mig_node("h100-80gb");
    let make = |node: &mut Node, profile| {
        let gi = node
            .create_gi(GPU, profile, Some(Placement { start: 3, size: 1 }), 5)
            .unwrap();
        let ci = node.create_ci(GPU, gi, 0, None, 5).unwrap();
        let device = MigDevice { gpu: GPU, gi, ci };
        (device, node.mig_uuid(device).unwrap())
    };
    let (device, uuid) = make(&mut node, 19);
    assert_eq!(node.mig_device_by_uuid(&uuid), Ok(device));
    let old_form = format!(
        "MIG-{}/{}/{}",
        node.gpu(GPU).unwrap().uuid(),
        device.gi,
        device.ci
    );
    assert_eq!(node.mig_device_by_uuid(&old_form), Ok(device));
    assert_eq!(uuid.len(), 40);
    assert_eq!(uuid.as_bytes()[18], b'5', "{uuid} is a version 5 uuid");
    node.destroy_ci(device, 6).unwrap();
    assert_eq!(node.mig_device_by_uuid(&uuid), Err(Code::NOT_FOUND));
    node.destroy_gi(GPU, device.gi, 6).unwrap();
    let again = make(&mut node, 20);
    assert_eq!(
        again,
        (device, uuid),
        "even for another profile at that place"
    );
}

#[test]
fn uuids_of_one_node_are_all_different() {
    let mut seen = std::collections::BTreeSet::new();
    let spec = NodeSpec::of(&["h100-80gb"; 8], 3).unwrap();
    let mut node = OwnedNode::new(&spec).unwrap();
    for slot in node.slots() {
        assert!(seen.insert(node.gpu(slot).unwrap().uuid()));
        node.set_mig_mode(slot, 1, 0).unwrap();
        let gi = node.create_gi(slot, 0, None, 0).unwrap();
        for _ in 0..7 {
            let ci = node.create_ci(slot, gi, 0, None, 0).unwrap();
            assert!(seen.insert(node.mig_uuid(MigDevice { gpu: slot, gi, ci }).unwrap()));
        }
    }
}

#[test]
fn a_node_is_a_function_of_its_seed() {
    let spec = |seed| NodeSpec::of(&["a100-80gb", "t4"], seed).unwrap();
    let shown = |seed| format!("{:?}", OwnedNode::new(&spec(seed)).unwrap().gpus);
    assert_eq!(shown(1), shown(1));
    assert_ne!(shown(1), shown(2));
}

#[test]
fn capability_minors_follow_the_drivers_formula() {
    let spec = NodeSpec::of(&["h100-80gb"; 16], 1).unwrap();
    let node = OwnedNode::new(&spec).unwrap();
    let gpu = node.gpu(GPU).unwrap();
    let minors = |gi: u32| {
        let gi = GpuInstanceId::new(gi);
        let device = MigDevice {
            gpu: GPU,
            gi,
            ci: ComputeInstanceId::new(0),
        };
        (
            gpu.gi_capability_minor(gi).unwrap(),
            gpu.ci_capability_minor(device).unwrap(),
        )
    };
    assert_eq!(
        [minors(1), minors(2), minors(3)],
        [(12, 13), (21, 22), (30, 31)]
    );
    let last = node.gpu(GpuSlot::new(15)).unwrap();
    assert_eq!(
        last.gi_capability_minor(GpuInstanceId::new(14)),
        Ok(3 + 135 * 15 + 126)
    );
    assert_eq!(
        last.gi_capability_minor(GpuInstanceId::new(15)),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn mig_device_indices_are_the_lowest_free_ones() {
    let mut node = mig_node("h100-80gb");
    let mut make = |start| {
        let place = Some(Placement { start, size: 1 });
        let gi = node.create_gi(GPU, 19, place, 0).unwrap();
        let ci = node.create_ci(GPU, gi, 0, None, 0).unwrap();
        MigDevice { gpu: GPU, gi, ci }
    };
    let devices = [make(0), make(1), make(2)];
    assert_eq!(node.mig_device_by_index(GPU, 1), Ok(devices[1]));
    node.destroy_ci(devices[0], 0).unwrap();
    assert_eq!(node.mig_device_by_index(GPU, 0), Err(Code::NOT_FOUND));
    let ci = node.create_ci(GPU, devices[0].gi, 0, None, 0).unwrap();
    assert_eq!(ci, devices[0].ci);
    assert_eq!(node.mig_device_by_index(GPU, 0), Ok(devices[0]));
    assert_eq!(
        node.mig_device_by_index(GPU, 7),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn attributes_of_a_split_instance_are_those_of_its_parts() {
    let mut node = mig_node("h100-80gb");
    let gi = node.create_gi(GPU, 9, None, 0).unwrap();
    let small = node.create_ci(GPU, gi, 0, None, 0).unwrap();
    let large = node.create_ci(GPU, gi, 1, None, 0);
    assert_eq!(
        large,
        Err(Code::INSUFFICIENT_RESOURCES),
        "2c lies at 0 only"
    );
    let second = node.create_ci(GPU, gi, 0, None, 0).unwrap();
    let device = MigDevice {
        gpu: GPU,
        gi,
        ci: second,
    };
    let attributes = node.mig_attributes(device).unwrap();
    assert_eq!(
        (
            attributes.multiprocessors,
            attributes.ci_slices,
            attributes.gi_slices
        ),
        (16, 1, 3)
    );
    assert_eq!(
        node.mig_name(device).unwrap(),
        "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"
    );
    assert_eq!(node.ci_remaining_capacity(GPU, gi, 0), Ok(1));
    assert_ne!(small, second);
}

/// A node with three 1g instances, each with a MIG device.
fn three_devices() -> OwnedNode {
    let mut node = mig_node("h100-80gb");
    for _ in 0..3 {
        let gi = node.create_gi(GPU, 19, None, 0).unwrap();
        node.create_ci(GPU, gi, 0, None, 0).unwrap();
    }
    node
}

#[test]
fn a_repair_leaves_no_wrong_id_no_index_twice_and_no_client_of_nothing() {
    let mut node = three_devices();
    let held = node.mig_device_by_index(GPU, 2).unwrap();
    let spec = ClientSpec {
        process: Process {
            pid: 1,
            start_time: 1,
        },
        kind: ClientKind::Compute,
        gpu: GPU,
        mig: Some((held.gi, held.ci)),
        memory: 0,
        busy_permille: 0,
        name: "",
    };
    node.register_client(&spec, 0).unwrap();
    node.repair();
    assert_eq!(node.gpus[0].mig_devices(GPU).count(), 3);
    assert_eq!(
        node.clients_on(GPU).count(),
        1,
        "a sound node is left alone"
    );

    // As after a death in the middle of a change: fields of a slot that was used before.
    node.gpus[0].gis[0].id += 1;
    let index = node.gpus[0].gis[1].cis[0].mig_index;
    node.gpus[0].gis[2].cis[0].mig_index = index;
    node.repair();
    let left: Vec<_> = node.gpus[0].mig_devices(GPU).collect();
    assert_eq!(left, [node.mig_device_by_index(GPU, index).unwrap()]);
    assert_eq!(node.clients_on(GPU).count(), 0);
}
