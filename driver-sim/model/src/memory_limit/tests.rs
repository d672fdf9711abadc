//! Limits per cgroup.

use super::*;
use crate::{ClientKind, ClientSpec, NodeSpec, OwnedNode, Process};

const GPU: GpuSlot = GpuSlot::new(0);
const GIB: u64 = 1 << 30;
const POD: &str = "/kubepods/pod1";
const CONTAINER: &str = "/kubepods/pod1/c1";

fn node(driver: &str) -> OwnedNode {
    let spec = NodeSpec {
        driver_version: driver.to_owned(),
        ..NodeSpec::of(&["h100-80gb"], 1).unwrap()
    };
    OwnedNode::new(&spec).unwrap()
}

fn client(node: &mut Node, pid: u32, cgroup: &str) -> ClientId {
    let spec = ClientSpec {
        process: Process { pid, start_time: 1 },
        kind: ClientKind::Compute,
        gpu: GPU,
        mig: None,
        memory: 0,
        busy_permille: 0,
        name: "",
    };
    let id = node.register_client(&spec, 0).unwrap();
    node.set_client_cgroup(id, cgroup).unwrap();
    id
}

#[test]
fn a_hard_limit_holds_all_clients_of_its_cgroup_together() {
    let mut node = node("615.10");
    node.set_memory_limits(GPU, CONTAINER, 0, 4 * GIB).unwrap();
    let one = client(&mut node, 1, CONTAINER);
    let two = client(&mut node, 2, CONTAINER);
    let free = client(&mut node, 3, "/kubepods/pod1/c10");
    node.reserve_memory(one, 3 * GIB).unwrap();
    assert_eq!(node.reserve_memory(two, GIB + 1), Err(Code::MEMORY));
    assert_eq!(node.reserve_memory(two, GIB), Ok(()));
    assert_eq!(
        node.reserve_memory(free, 8 * GIB),
        Ok(()),
        "a name that only begins the same"
    );
    let seen = node.memory_limits(GPU, CONTAINER);
    assert_eq!(
        seen,
        Ok(MemoryLimits {
            soft: 0,
            hard: 4 * GIB,
            used: 4 * GIB
        })
    );
    assert_eq!(node.client_memory(one).unwrap().total, 4 * GIB);
}

#[test]
fn a_limit_above_holds_but_is_not_shown_as_the_total() {
    let mut node = node("615.10");
    node.set_memory_limits(GPU, POD, 0, 2 * GIB).unwrap();
    let inside = client(&mut node, 1, CONTAINER);
    let seen = node.client_memory(inside).unwrap();
    assert_eq!(
        (seen.total, seen.free),
        (node.memory(GPU).unwrap().total, 2 * GIB)
    );
    assert_eq!(node.reserve_memory(inside, 2 * GIB + 1), Err(Code::MEMORY));
}

#[test]
fn limits_are_removed_by_setting_none() {
    let mut node = node("615.10");
    let id = client(&mut node, 1, CONTAINER);
    for _ in 0..100 {
        node.set_memory_limits(GPU, CONTAINER, GIB, GIB).unwrap();
        node.set_memory_limits(GPU, CONTAINER, 0, UNLIMITED)
            .unwrap();
    }
    assert_eq!(node.reserve_memory(id, 2 * GIB), Ok(()));
    assert_eq!(node.memory_limits(GPU, CONTAINER).unwrap().hard, UNLIMITED);
}

#[test]
fn limits_are_refused_where_the_driver_has_none() {
    let none = |node: &Node, namespace| node.memory_limits(GPU, namespace).map(|_| ());
    assert_eq!(none(&node("570.124.06"), POD), Err(Code::NOT_SUPPORTED));
    let mut node = node("615.10");
    assert_eq!(none(&node, "pod"), Err(Code::INVALID_ARGUMENT));
    assert_eq!(
        node.set_memory_limits(GPU, POD, 2, 1),
        Err(Code::INVALID_ARGUMENT)
    );
    node.header.without_dmem = 1;
    assert_eq!(none(&node, POD), Err(Code::NOT_FOUND));
    node.header.without_dmem = 0;
    node.set_mig_mode(GPU, 1, 0).unwrap();
    assert_eq!(
        none(&node, POD),
        Err(Code::NOT_SUPPORTED),
        "MIG devices are rejected"
    );
}
