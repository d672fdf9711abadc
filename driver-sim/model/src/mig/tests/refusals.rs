//! What the driver refuses, and with which code.

use super::{GPU, mig_node};
use crate::*;

fn place(start: u32, size: u32) -> Option<Placement> {
    Some(Placement { start, size })
}

fn client(node: &mut Node, mig: Option<(GpuInstanceId, ComputeInstanceId)>) -> ClientId {
    let spec = ClientSpec {
        process: Process {
            pid: 77,
            start_time: 1,
        },
        kind: if mig.is_some() {
            ClientKind::Compute
        } else {
            ClientKind::Holder
        },
        gpu: GPU,
        mig,
        memory: 0,
        busy_permille: 0,
        name: "holder",
    };
    node.register_client(&spec, 0).unwrap()
}

#[test]
fn a_gpu_without_mig_supports_nothing_of_it() {
    let mut node = OwnedNode::new(&NodeSpec::of(&["l4"], 1).unwrap()).unwrap();
    assert_eq!(node.mig_mode(GPU), Err(Code::NOT_SUPPORTED));
    assert_eq!(node.set_mig_mode(GPU, 1, 0), Err(Code::NOT_SUPPORTED));
    assert_eq!(node.gi_placements(GPU, 19), Err(Code::NOT_SUPPORTED));
    assert_eq!(node.create_gi(GPU, 19, None, 0), Err(Code::NOT_SUPPORTED));
    assert_eq!(node.max_mig_devices(GPU), Ok(0));
}

#[test]
fn with_mode_off_placements_are_answered_and_creates_refused() {
    let mut node = OwnedNode::new(&NodeSpec::of(&["h100-80gb"], 1).unwrap()).unwrap();
    assert_eq!(node.gi_placements(GPU, 14).unwrap().len(), 3);
    assert_eq!(node.gi_profile_by_enum(GPU, 9).unwrap().id, 15);
    assert_eq!(node.create_gi(GPU, 14, None, 0), Err(Code::NOT_SUPPORTED));
    assert_eq!(node.gis(GPU, 14), Err(Code::NOT_SUPPORTED));
    assert_eq!(
        node.gi_remaining_capacity(GPU, 14),
        Err(Code::NOT_SUPPORTED)
    );
}

#[test]
fn the_profile_enum_has_holes_and_an_end() {
    let node = mig_node("a100-80gb");
    assert_eq!(node.gi_profile_by_enum(GPU, 0).map(|p| p.id), Ok(19));
    assert_eq!(
        node.gi_profile_by_enum(GPU, 5).map(|p| p.id),
        Err(Code::NOT_SUPPORTED)
    );
    assert_eq!(
        node.gi_profile_by_enum(GPU, 0x12).map(|p| p.id),
        Err(Code::INVALID_ARGUMENT)
    );
    assert_eq!(
        node.gi_profile_by_id(GPU, 99).map(|p| p.id),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn occupied_places_and_foreign_placements_are_told_apart() {
    let mut node = mig_node("h100-80gb");
    node.create_gi(GPU, 9, place(4, 4), 0).unwrap();
    assert_eq!(
        node.create_gi(GPU, 14, place(4, 2), 0),
        Err(Code::INSUFFICIENT_RESOURCES)
    );
    assert_eq!(
        node.create_gi(GPU, 14, place(6, 2), 0),
        Err(Code::INVALID_ARGUMENT)
    );
    assert_eq!(
        node.create_gi(GPU, 14, place(1, 2), 0),
        Err(Code::INVALID_ARGUMENT)
    );
    assert_eq!(
        node.create_gi(GPU, 99, None, 0),
        Err(Code::INVALID_ARGUMENT)
    );
    assert_eq!(node.gi_remaining_capacity(GPU, 14), Ok(2));
    assert_eq!(node.gi_remaining_capacity(GPU, 0), Ok(0));
}

#[test]
fn the_guides_failing_sequence_fails_and_its_working_one_works() {
    let make = |profiles: [u32; 4]| {
        let mut node = mig_node("a100-40gb");
        profiles.map(|profile| node.create_gi(GPU, profile, None, 0).map(|_| ()))
    };
    assert!(make([19, 19, 14, 9]).contains(&Err(Code::INSUFFICIENT_RESOURCES)));
    assert_eq!(make([9, 19, 14, 19]), [Ok(()); 4]);
}

#[test]
fn media_extensions_are_given_once() {
    for key in ["a100-40gb", "h100-80gb", "b200", "a30"] {
        let mut node = mig_node(key);
        let profile = if key == "a30" { 21 } else { 20 };
        assert_eq!(node.gi_remaining_capacity(GPU, profile), Ok(1), "{key}");
        node.create_gi(GPU, profile, None, 0).unwrap();
        assert_eq!(
            node.create_gi(GPU, profile, None, 0),
            Err(Code::INSUFFICIENT_RESOURCES),
            "{key}"
        );
        assert_eq!(node.gi_remaining_capacity(GPU, profile), Ok(0), "{key}");
    }
    let mut node = mig_node("a30");
    node.create_gi(GPU, 21, None, 0).unwrap();
    assert_eq!(
        node.create_gi(GPU, 6, None, 0),
        Err(Code::INSUFFICIENT_RESOURCES),
        "2g+me too"
    );
}

#[test]
fn a_gpu_instance_goes_after_its_compute_instances_and_clients() {
    let mut node = mig_node("h100-80gb");
    let gi = node.create_gi(GPU, 9, None, 0).unwrap();
    let ci = node.create_ci(GPU, gi, 2, None, 0).unwrap();
    let device = MigDevice { gpu: GPU, gi, ci };
    assert_eq!(node.destroy_gi(GPU, gi, 0), Err(Code::IN_USE));
    let holder = client(&mut node, Some((gi, ci)));
    assert_eq!(node.destroy_ci(device, 0), Err(Code::IN_USE));
    node.unregister_client(holder);
    assert_eq!(node.destroy_ci(device, 0), Ok(()));
    assert_eq!(node.destroy_ci(device, 0), Err(Code::NOT_FOUND));
    assert_eq!(node.destroy_gi(GPU, gi, 0), Ok(()));
    assert_eq!(node.destroy_gi(GPU, gi, 0), Err(Code::NOT_FOUND));
    let counters = node.gpu(GPU).unwrap().counters;
    assert_eq!((counters.gi_creates, counters.gi_destroys), (1, 1));
    assert_eq!((counters.ci_creates, counters.ci_destroys), (1, 1));
}

#[test]
fn the_whole_a100_lists_a_compute_profile_that_it_refuses() {
    let mut node = mig_node("a100-40gb");
    let gi = node.create_gi(GPU, 0, None, 0).unwrap();
    assert_eq!(
        node.ci_profile_by_enum(GPU, gi, 8, 0).map(|ci| ci.slices),
        Ok(7)
    );
    assert_eq!(
        node.create_ci(GPU, gi, 8, None, 0),
        Err(Code::NOT_SUPPORTED)
    );
    assert_eq!(node.ci_remaining_capacity(GPU, gi, 8), Ok(0));
    node.create_ci(GPU, gi, 4, None, 0).unwrap();
}

#[test]
fn double_memory_wants_another_compute_profile_on_hopper_than_on_ampere() {
    let mut hopper = mig_node("h100-80gb");
    let gi = hopper.create_gi(GPU, 15, None, 0).unwrap();
    let multiprocessors = |value| {
        hopper
            .ci_profile_by_enum(GPU, gi, value, 0)
            .map(|profile| profile.sm)
    };
    assert_eq!((multiprocessors(0), multiprocessors(7)), (Ok(16), Ok(26)));
    hopper.create_ci(GPU, gi, 7, None, 0).unwrap();

    let mut ampere = mig_node("a100-40gb");
    let gi = ampere.create_gi(GPU, 15, None, 0).unwrap();
    ampere.ci_profile_by_enum(GPU, gi, 7, 0).unwrap();
    assert_eq!(
        ampere.create_ci(GPU, gi, 7, None, 0),
        Err(Code::NOT_SUPPORTED)
    );
    ampere.create_ci(GPU, gi, 0, None, 0).unwrap();
}

#[test]
fn compute_profiles_are_refused_past_the_enum_and_beside_the_engine_profile() {
    let mut node = mig_node("h100-80gb");
    let gi = node.create_gi(GPU, 9, None, 0).unwrap();
    let code = |value, engine| {
        node.ci_profile_by_enum(GPU, gi, value, engine)
            .map(|ci| ci.id)
    };
    assert_eq!(code(2, 0), Ok(2));
    assert_eq!(code(3, 0), Err(Code::NOT_SUPPORTED));
    assert_eq!(code(9, 0), Err(Code::INVALID_ARGUMENT));
    assert_eq!(code(2, 1), Err(Code::INVALID_ARGUMENT));
    assert_eq!(
        node.create_ci(GPU, gi, 5, None, 0),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn ampere_changes_mode_at_a_reset_only() {
    let mut node = OwnedNode::new(&NodeSpec::of(&["a100-40gb"], 1).unwrap()).unwrap();
    assert_eq!(node.set_mig_mode(GPU, 1, 0), Ok(Code::RESET_REQUIRED));
    assert_eq!(
        node.mig_mode(GPU),
        Ok(MigMode {
            current: 0,
            pending: 1
        })
    );
    assert_eq!(node.create_gi(GPU, 19, None, 0), Err(Code::NOT_SUPPORTED));
    node.reset_gpu(GPU, 0).unwrap();
    assert_eq!(
        node.mig_mode(GPU),
        Ok(MigMode {
            current: 1,
            pending: 1
        })
    );
    assert_eq!(node.set_mig_mode(GPU, 0, 0), Ok(Code::RESET_REQUIRED));
    assert_eq!(
        node.set_mig_mode(GPU, 1, 0),
        Ok(Code::SUCCESS),
        "taken back before the reset"
    );
}

#[test]
fn a_client_of_any_kind_keeps_the_mode_pending() {
    for key in ["a100-40gb", "h100-80gb"] {
        let mut node = OwnedNode::new(&NodeSpec::of(&[key], 1).unwrap()).unwrap();
        let holder = client(&mut node, None);
        assert_eq!(node.set_mig_mode(GPU, 1, 0), Ok(Code::IN_USE), "{key}");
        assert_eq!(
            node.mig_mode(GPU),
            Ok(MigMode {
                current: 0,
                pending: 1
            }),
            "{key}"
        );
        assert_eq!(node.reset_gpu(GPU, 0), Err(Code::IN_USE), "{key}");
        node.unregister_client(holder);
    }
}

#[test]
fn hopper_changes_mode_at_once_when_idle() {
    let mut node = OwnedNode::new(&NodeSpec::of(&["h200"], 1).unwrap()).unwrap();
    assert_eq!(node.set_mig_mode(GPU, 1, 0), Ok(Code::SUCCESS));
    assert_eq!(
        node.mig_mode(GPU),
        Ok(MigMode {
            current: 1,
            pending: 1
        })
    );
    node.create_gi(GPU, 19, None, 0).unwrap();
    assert_eq!(
        node.set_mig_mode(GPU, 0, 0),
        Err(Code::IN_USE),
        "an instance exists"
    );
    assert_eq!(node.set_mig_mode(GPU, 2, 0), Err(Code::INVALID_ARGUMENT));
}

#[test]
fn a_lost_gpu_answers_so_and_one_that_wants_a_reset_refuses_changes() {
    let mut node = mig_node("h100-80gb");
    node.require_reset(GPU).unwrap();
    assert_eq!(node.create_gi(GPU, 19, None, 0), Err(Code::RESET_REQUIRED));
    node.mig_mode(GPU).unwrap();
    node.lose_gpu(GPU, 0).unwrap();
    assert_eq!(node.mig_mode(GPU), Err(Code::GPU_IS_LOST));
    assert_eq!(node.slot_by_index(0), Err(Code::GPU_IS_LOST));
    assert_eq!(node.gpu_count(), 1);
}
