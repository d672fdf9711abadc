//! Event sets.

use super::*;
use crate::{NodeSpec, OwnedNode};

const FIRST: GpuSlot = GpuSlot::new(0);
const SECOND: GpuSlot = GpuSlot::new(1);

fn node() -> OwnedNode {
    OwnedNode::new(&NodeSpec::of(&["h100-80gb", "t4"], 1).unwrap()).unwrap()
}

fn registered(node: &Node) -> EventSet {
    let mut set = EventSet::new(node);
    set.register(node, FIRST, XID | DOUBLE_BIT_ECC).unwrap();
    set.register(node, SECOND, XID).unwrap();
    set
}

fn drain(set: &mut EventSet, node: &Node) -> Vec<(u32, u64, u64)> {
    std::iter::from_fn(|| set.poll(node))
        .map(|event| (event.gpu, event.kind, event.data))
        .collect()
}

#[test]
fn every_set_sees_every_event_it_is_registered_for() {
    let mut node = node();
    let (mut one, mut two) = (registered(&node), registered(&node));
    node.inject_xid(FIRST, 31, 1).unwrap();
    node.inject_xid(SECOND, 13, 2).unwrap();
    let expected = vec![(0, XID, 31), (1, XID, 13)];
    assert_eq!(drain(&mut one, &node), expected);
    assert_eq!(drain(&mut two, &node), expected);
    assert_eq!(drain(&mut one, &node), vec![]);
}

#[test]
fn events_of_other_kinds_gpus_and_earlier_times_are_not_seen() {
    let mut node = node();
    let mut set = EventSet::new(&node);
    node.inject_xid(FIRST, 1, 0).unwrap();
    set.register(&node, FIRST, XID).unwrap();
    node.inject_xid(SECOND, 2, 0).unwrap();
    node.inject_corrected_ecc(FIRST, 1, 0).unwrap();
    node.inject_xid(FIRST, 3, 0).unwrap();
    assert_eq!(drain(&mut set, &node), vec![(0, XID, 3)]);
}

#[test]
fn types_that_a_gpu_lacks_are_refused() {
    let node = node();
    let mut set = EventSet::new(&node);
    assert_eq!(
        set.register(&node, SECOND, MIG_CONFIG_CHANGE),
        Err(Code::NOT_SUPPORTED)
    );
    assert_eq!(set.register(&node, FIRST, MIG_CONFIG_CHANGE), Ok(()));
    assert_eq!(
        set.register(&node, FIRST, 0x4000_0000),
        Err(Code::NOT_SUPPORTED)
    );
    assert_eq!(
        set.register(&node, GpuSlot::new(2), XID),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn an_xid_of_an_instance_names_it_and_one_of_the_gpu_names_none() {
    let mut node = node();
    node.set_mig_mode(FIRST, 1, 0).unwrap();
    let gi = node.create_gi(FIRST, 19, None, 0).unwrap();
    let ci = node.create_ci(FIRST, gi, 0, None, 0).unwrap();
    let mut set = registered(&node);
    node.inject_mig_xid(FIRST, gi, Some(ci), 43, 0).unwrap();
    node.inject_mig_xid(FIRST, gi, None, 44, 0).unwrap();
    node.inject_xid(FIRST, 79, 0).unwrap();
    let event = set.poll(&node).unwrap();
    assert_eq!(event.mig_device(), Some(MigDevice { gpu: FIRST, gi, ci }));
    let event = set.poll(&node).unwrap();
    assert_eq!((event.gi, event.ci), (gi.get(), NO_INSTANCE));
    let event = set.poll(&node).unwrap();
    assert_eq!((event.gi, event.ci), (0xFFFF_FFFF, 0xFFFF_FFFF));
    assert_eq!(node.inject_mig_xid(FIRST, gi, None, 1, 0), Ok(()));
    let other = crate::GpuInstanceId::new(14);
    assert_eq!(
        node.inject_mig_xid(FIRST, other, None, 1, 0),
        Err(Code::NOT_FOUND)
    );
}

#[test]
fn a_change_of_the_layout_is_an_event() {
    let mut node = node();
    let mut set = EventSet::new(&node);
    set.register(&node, FIRST, MIG_CONFIG_CHANGE).unwrap();
    node.set_mig_mode(FIRST, 1, 0).unwrap();
    let gi = node.create_gi(FIRST, 19, None, 0).unwrap();
    node.destroy_gi(FIRST, gi, 0).unwrap();
    assert_eq!(drain(&mut set, &node), vec![(0, MIG_CONFIG_CHANGE, 0); 3]);
}

#[test]
fn a_slow_reader_misses_the_oldest_events_only() {
    let mut node = node();
    let mut set = registered(&node);
    for xid in 0..300 {
        node.inject_xid(FIRST, xid, 0).unwrap();
    }
    let seen = drain(&mut set, &node);
    assert_eq!(seen.len(), RING);
    assert_eq!(seen.first(), Some(&(0, XID, 44)));
    assert_eq!(seen.last(), Some(&(0, XID, 299)));
}

#[test]
fn memory_errors_count_and_wait_for_a_reset() {
    let mut node = node();
    node.inject_uncorrected_ecc(FIRST, 2, 0).unwrap();
    node.inject_corrected_ecc(FIRST, 5, 0).unwrap();
    node.inject_uncorrected_ecc(SECOND, 1, 0).unwrap();
    let gpu = node.gpu(FIRST).unwrap();
    assert_eq!(
        (gpu.ecc_volatile.uncorrected, gpu.ecc_volatile.corrected),
        (2, 5)
    );
    assert_eq!(
        (gpu.remapped_rows_uncorrectable, gpu.retired_pages_double),
        (2, 0)
    );
    assert_eq!(gpu.remap_pending, 1);
    assert_eq!(
        node.gpu(SECOND).unwrap().retired_pages_double,
        1,
        "no row remapping on a T4"
    );
    node.reset_gpu(FIRST, 0).unwrap();
    let gpu = node.gpu(FIRST).unwrap();
    assert_eq!(
        (gpu.ecc_volatile.uncorrected, gpu.ecc_aggregate.uncorrected),
        (0, 2)
    );
    assert_eq!(gpu.remap_pending, 0);
}

#[test]
fn a_damaged_count_at_the_end_of_the_numbers_is_read_without_a_panic() {
    let mut node = node();
    for count in [0, 1, u64::MAX - 1, u64::MAX] {
        node.events.count = count;
        node.calls.logged = count;
        for limit in [0, 1, usize::MAX] {
            let kept = count.min(limit as u64);
            assert_eq!(node.calls.recent(limit).count() as u64, kept.min(1024));
            // Those that were never raised are left out.
            assert_eq!(node.events.recent(limit).count(), 0);
        }
    }
}
