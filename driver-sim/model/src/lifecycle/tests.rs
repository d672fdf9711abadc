//! What survives what.

use super::*;
use crate::{
    ClientKind, ClientSpec, ComputeInstanceId, GpuInstanceId, MigMode, NodeSpec, OwnedNode, Process,
};

const AMPERE: GpuSlot = GpuSlot::new(0);
const HOPPER: GpuSlot = GpuSlot::new(1);
const BOTH: [GpuSlot; 2] = [AMPERE, HOPPER];

/// An A100 and an H100, both with MIG on and one MIG device.
fn node() -> OwnedNode {
    let spec = NodeSpec::of(&["a100-40gb", "h100-80gb"], 1).unwrap();
    let mut node = OwnedNode::new(&spec).unwrap();
    node.set_mig_mode(AMPERE, 1, 0).unwrap();
    node.reset_gpu(AMPERE, 0).unwrap();
    node.set_mig_mode(HOPPER, 1, 0).unwrap();
    for gpu in BOTH {
        let gi = node.create_gi(gpu, 9, None, 0).unwrap();
        node.create_ci(gpu, gi, 2, None, 0).unwrap();
    }
    node
}

fn modes(node: &Node) -> [MigMode; 2] {
    BOTH.map(|gpu| node.mig_mode(gpu).unwrap())
}

fn instances(node: &Node) -> [usize; 2] {
    BOTH.map(|gpu| node.gpu_any(gpu).unwrap().instances().count())
}

fn hold(node: &mut Node, gpu: GpuSlot) {
    let gi = node.gpu(gpu).unwrap().instances().next().map(|gi| gi.id());
    let spec = ClientSpec {
        process: Process {
            pid: 5,
            start_time: 5,
        },
        kind: ClientKind::Compute,
        gpu,
        mig: gi.zip(Some(ComputeInstanceId::new(0))),
        memory: 1,
        busy_permille: 0,
        name: "",
    };
    node.register_client(&spec, 0).unwrap();
}

const ON: MigMode = MigMode {
    current: 1,
    pending: 1,
};
const OFF: MigMode = MigMode {
    current: 0,
    pending: 0,
};

#[test]
fn a_reset_takes_instances_and_on_hopper_the_mode() {
    let mut node = node();
    for gpu in BOTH {
        node.reset_gpu(gpu, 0).unwrap();
    }
    assert_eq!(instances(&node), [0, 0]);
    assert_eq!(modes(&node), [ON, OFF]);
    assert_eq!(node.gpu(AMPERE).unwrap().counters.resets, 2);
}

#[test]
fn a_reboot_takes_instances_clients_and_on_hopper_the_mode() {
    let mut node = node();
    hold(&mut node, HOPPER);
    node.set_persistence_mode(AMPERE, 1).unwrap();
    node.lose_gpu(AMPERE, 0).unwrap();
    node.mismatch_driver();
    let layout = node.header.layout_generation;
    node.reboot();
    assert_eq!(instances(&node), [0, 0]);
    assert_eq!(modes(&node), [ON, OFF]);
    assert_eq!(node.clients_on(HOPPER).count(), 0);
    assert_eq!(node.gpu(AMPERE).unwrap().persistence_mode, 0);
    assert_eq!(node.init(), Ok(()));
    assert_eq!(node.header.boots, 1);
    assert!(node.header.layout_generation > layout);
}

#[test]
fn a_driver_reload_is_like_a_reset_of_every_gpu() {
    let mut node = node();
    hold(&mut node, HOPPER);
    assert_eq!(node.unload_driver(), Err(Code::IN_USE));
    node.reap_clients(|_| false);
    node.unload_driver().unwrap();
    assert_eq!(node.init(), Err(Code::DRIVER_NOT_LOADED));
    node.load_driver();
    assert_eq!(node.init(), Ok(()));
    assert_eq!(instances(&node), [0, 0]);
    assert_eq!(modes(&node), [ON, OFF]);
}

#[test]
fn instances_stay_when_their_clients_end() {
    let mut node = node();
    hold(&mut node, AMPERE);
    node.reap_clients(|_| false);
    assert_eq!(instances(&node), [1, 1]);
    assert_eq!(modes(&node), [ON, ON]);
}

#[test]
fn a_replaced_driver_refuses_only_new_processes() {
    let mut node = node();
    node.mismatch_driver();
    assert_eq!(node.init(), Err(Code::LIB_RM_VERSION_MISMATCH));
    node.memory(HOPPER).unwrap();
    node.load_driver();
    assert_eq!(node.init(), Ok(()));
    assert_eq!(instances(&node), [1, 1]);
}

#[test]
fn a_lost_gpu_comes_back_by_reboot_or_healing_and_not_by_reset() {
    let mut node = node();
    node.lose_gpu(HOPPER, 0).unwrap();
    assert_eq!(
        node.events.recent(1).next().map(|event| event.data),
        Some(79)
    );
    assert_eq!(node.reset_gpu(HOPPER, 0), Err(Code::GPU_IS_LOST));
    assert_eq!(node.memory(HOPPER), Err(Code::GPU_IS_LOST));
    assert!(node.is_lost(HOPPER) && node.memory(AMPERE).is_ok());
    node.heal(Some(HOPPER)).unwrap();
    assert_eq!(instances(&node), [1, 1]);
    let gi = GpuInstanceId::new(0);
    assert_eq!(
        node.gi(HOPPER, gi).map(|_| ()),
        Err(Code::NOT_FOUND),
        "answers again"
    );
}

#[test]
fn an_unplugged_gpu_is_no_longer_counted_and_indices_close_up() {
    let mut node = node();
    let uuid = node.gpu(AMPERE).unwrap().uuid();
    assert_eq!(node.slot_by_uuid(&uuid), Ok(AMPERE));
    node.unplug_gpu(AMPERE).unwrap();
    assert_eq!(node.gpu_count(), 1);
    assert_eq!(node.slot_by_index(0), Ok(HOPPER));
    assert_eq!(node.slot_by_index(1), Err(Code::INVALID_ARGUMENT));
    assert_eq!(node.index_of(HOPPER), Ok(0));
    assert_eq!(node.slot_by_uuid(&uuid), Err(Code::NOT_FOUND));
    assert_eq!(node.memory(AMPERE), Err(Code::NOT_FOUND));
    node.reboot();
    assert_eq!(node.gpu_count(), 1, "a reboot plugs nothing in");
    node.heal(None).unwrap();
    assert_eq!(node.slot_by_index(0), Ok(AMPERE));
}

#[test]
fn a_reset_clears_reset_required_and_brings_pending_ecc() {
    let mut node = node();
    node.set_ecc_mode(AMPERE, 0).unwrap();
    node.require_reset(AMPERE).unwrap();
    assert_eq!(node.gpu(AMPERE).unwrap().ecc_current, 1);
    assert_eq!(node.set_ecc_mode(AMPERE, 1), Err(Code::RESET_REQUIRED));
    node.reset_gpu(AMPERE, 0).unwrap();
    assert_eq!(node.gpu(AMPERE).unwrap().ecc_current, 0);
    node.gpu_usable(AMPERE).unwrap();
}

#[test]
fn gpus_are_found_by_every_form_of_their_pci_address_and_by_serial() {
    let node = node();
    for form in ["00000000:0F:00.0", "0000:0f:00.0", "0F:00.0", "0f:00"] {
        assert_eq!(node.slot_by_pci_bus_id(form), Ok(HOPPER), "{form}");
    }
    for form in ["", "x", "0000:0f:00.1", "1:0000:0f:00.0"] {
        assert_eq!(
            node.slot_by_pci_bus_id(form),
            Err(Code::NOT_FOUND),
            "{form}"
        );
    }
    let serial = node.gpu(HOPPER).unwrap().serial();
    assert_eq!(serial.len(), 13);
    assert_eq!(node.slot_by_serial(&serial), Ok(HOPPER));
}

#[test]
fn versions_follow_the_driver() {
    let spec = |driver: &str| NodeSpec {
        driver_version: driver.to_owned(),
        ..NodeSpec::of(&["t4"], 1).unwrap()
    };
    let node = OwnedNode::new(&spec("580.82.07")).unwrap();
    assert_eq!(node.header.cuda_version, 13000);
    assert_eq!(node.header.nvml_version.as_str(), "13.580.82.07");
    assert_eq!(
        OwnedNode::new(&spec("570.124.06"))
            .unwrap()
            .header
            .cuda_version,
        12080
    );
    OwnedNode::new(&spec("latest")).unwrap_err();
}
