//! Clients, and what follows from them.

use crate::*;

const GPU: GpuSlot = GpuSlot::new(0);
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000_000_000;

fn node(key: &str) -> OwnedNode {
    OwnedNode::new(&NodeSpec::of(&[key], 1).unwrap()).unwrap()
}

fn spec(pid: u32) -> ClientSpec<'static> {
    ClientSpec {
        process: Process {
            pid,
            start_time: 10,
        },
        kind: ClientKind::Compute,
        gpu: GPU,
        mig: None,
        memory: 0,
        busy_permille: 0,
        name: "work",
    }
}

#[test]
fn memory_is_what_clients_hold() {
    let mut node = node("t4");
    let before = node.memory(GPU).unwrap();
    let one = node
        .register_client(
            &ClientSpec {
                memory: 2 * GIB,
                ..spec(1)
            },
            0,
        )
        .unwrap();
    let two = node.register_client(&spec(2), 0).unwrap();
    node.reserve_memory(two, GIB).unwrap();
    let during = node.memory(GPU).unwrap();
    assert_eq!(during.used, before.used + 3 * GIB);
    assert_eq!(during.free + during.used + during.reserved, during.total);
    node.release_memory(two, 9 * GIB).unwrap();
    assert_eq!(node.client(two).unwrap().used_bytes, 0);
    node.unregister_client(one);
    assert_eq!(node.memory(GPU).unwrap(), before);
}

#[test]
fn memory_beyond_the_gpu_is_refused_and_changes_nothing() {
    let mut node = node("t4");
    let client = node.register_client(&spec(1), 0).unwrap();
    let free = node.memory(GPU).unwrap().free;
    assert_eq!(node.reserve_memory(client, free + 1), Err(Code::MEMORY));
    assert_eq!(node.reserve_memory(client, u64::MAX), Err(Code::MEMORY));
    assert_eq!(node.reserve_memory(client, free), Ok(()));
    assert_eq!(node.memory(GPU).unwrap().free, 0);
}

#[test]
fn an_mps_limit_holds_its_client_and_nobody_else() {
    let mut node = node("l4");
    let limited = node.register_client(&spec(1), 0).unwrap();
    let other = node.register_client(&spec(2), 0).unwrap();
    node.set_mps_limits(limited, 2 * GIB, 25).unwrap();
    node.reserve_memory(limited, GIB).unwrap();
    let seen = node.client_memory(limited).unwrap();
    assert_eq!((seen.total, seen.used, seen.free), (2 * GIB, GIB, GIB));
    assert_eq!(node.reserve_memory(limited, GIB + 1), Err(Code::MEMORY));
    assert_eq!(node.reserve_memory(other, 4 * GIB), Ok(()));
    assert_eq!(node.client_memory(other), node.memory(GPU));
    assert_eq!(
        node.set_mps_limits(limited, 0, 101),
        Err(Code::INVALID_ARGUMENT)
    );
}

#[test]
fn a_mig_device_has_the_memory_of_its_gpu_instance() {
    let mut node = node("h100-80gb");
    node.set_mig_mode(GPU, 1, 0).unwrap();
    assert_eq!(
        node.register_client(&spec(1), 0),
        Err(Code::NOT_SUPPORTED),
        "no MIG device named"
    );
    let gi = node.create_gi(GPU, 19, None, 0).unwrap();
    let ci = node.create_ci(GPU, gi, 0, None, 0).unwrap();
    let mig = Some((gi, ci));
    let client = node
        .register_client(&ClientSpec { mig, ..spec(1) }, 0)
        .unwrap();
    let total = node.gi_memory(GPU, gi).unwrap().total;
    assert_eq!(total, 9984 << 20);
    assert_eq!(node.reserve_memory(client, total + 1), Err(Code::MEMORY));
    node.reserve_memory(client, total).unwrap();
    assert_eq!(
        node.mig_memory(MigDevice { gpu: GPU, gi, ci })
            .unwrap()
            .free,
        0
    );
    assert_eq!(node.memory(GPU).unwrap().used, total);
    let listed = node.processes(GPU, mig, ClientKind::Compute).unwrap();
    assert_eq!(
        listed.iter().map(|client| client.pid).collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn process_lists_are_by_kind_and_know_no_holders() {
    let mut node = node("l4");
    for (pid, kind) in [
        (3, ClientKind::Compute),
        (1, ClientKind::Graphics),
        (2, ClientKind::Compute),
        (4, ClientKind::Holder),
    ] {
        node.register_client(&ClientSpec { kind, ..spec(pid) }, 0)
            .unwrap();
    }
    let pids = |kind| {
        let list = node.processes(GPU, None, kind).unwrap();
        list.iter().map(|client| client.pid).collect::<Vec<_>>()
    };
    assert_eq!(pids(ClientKind::Compute), [3, 2]);
    assert_eq!(pids(ClientKind::Graphics), [1]);
    assert_eq!(pids(ClientKind::Mps), [0; 0]);
}

#[test]
fn the_dead_are_reaped_and_their_slots_get_another_serial() {
    let mut node = node("l4");
    let dead = node.register_client(&spec(1), 0).unwrap();
    let alive = node.register_client(&spec(2), 0).unwrap();
    assert_eq!(node.reap_clients(|client| client.pid == 2), 1);
    assert!(node.client(dead).is_err() && node.client(alive).is_ok());
    let next = node.register_client(&spec(3), 0).unwrap();
    assert_ne!(next, dead);
    assert_eq!(node.reserve_memory(dead, 1), Err(Code::NOT_FOUND));
    let generation = node.header.generation;
    assert_eq!(node.reap_clients(|_| true), 0);
    assert_eq!(node.header.generation, generation);
}

#[test]
fn declared_work_shows_in_utilisation_power_and_heat() {
    let mut node = node("a100-40gb");
    let idle = (
        node.power_mw(GPU, 0).unwrap(),
        node.temperature(GPU, 0).unwrap(),
    );
    for pid in [1, 2] {
        node.register_client(
            &ClientSpec {
                busy_permille: 400,
                ..spec(pid)
            },
            0,
        )
        .unwrap();
    }
    assert_eq!(node.utilization_percent(GPU, 0), Ok((80, 40)));
    let busy = (
        node.power_mw(GPU, 0).unwrap(),
        node.temperature(GPU, 0).unwrap(),
    );
    assert!(busy.0 > idle.0 && busy.1 > idle.1);
    node.register_client(
        &ClientSpec {
            busy_permille: 900,
            ..spec(3)
        },
        0,
    )
    .unwrap();
    assert_eq!(
        node.utilization_percent(GPU, 0).unwrap().0,
        100,
        "never more"
    );
}

#[test]
fn launched_work_shows_in_the_window_after_it_and_runs_on_when_it_is_more() {
    let mut node = node("l4");
    let client = node.register_client(&spec(1), 0).unwrap();
    node.add_work(client, 250_000_000, SECOND / 2).unwrap();
    let busy = |node: &Node, now| node.client(client).unwrap().busy_at(now);
    assert_eq!(busy(&node, SECOND / 2), 0);
    assert_eq!(busy(&node, SECOND), 250);
    assert_eq!(busy(&node, 2 * SECOND), 0);
    node.add_work(client, 2 * SECOND + SECOND / 2, 3 * SECOND)
        .unwrap();
    let seen = [4, 5, 6, 7].map(|second| busy(&node, second * SECOND));
    assert_eq!(seen, [1000, 1000, 500, 0]);
    assert_eq!(node.client(client).unwrap().total_work_ns, 2_750_000_000);
}

#[test]
fn exclusive_and_prohibited_compute_modes_are_kept() {
    let mut node = node("l4");
    node.register_client(&spec(1), 0).unwrap();
    node.set_compute_mode(GPU, 3).unwrap();
    assert_eq!(node.register_client(&spec(2), 0), Err(Code::IN_USE));
    node.register_client(&spec(1), 0).unwrap();
    let mps = ClientSpec {
        kind: ClientKind::Mps,
        ..spec(3)
    };
    node.register_client(&mps, 0).unwrap();
    node.set_compute_mode(GPU, 2).unwrap();
    assert_eq!(node.register_client(&mps, 0), Err(Code::IN_USE));
}

#[test]
fn a_lost_gpu_takes_no_clients_memory_or_work() {
    let mut node = node("l4");
    let client = node.register_client(&spec(1), 0).unwrap();
    node.lose_gpu(GPU, 0).unwrap();
    assert_eq!(node.register_client(&spec(2), 0), Err(Code::GPU_IS_LOST));
    assert_eq!(node.reserve_memory(client, 1), Err(Code::GPU_IS_LOST));
    assert_eq!(node.add_work(client, 1, 1), Err(Code::GPU_IS_LOST));
}

#[test]
fn client_slots_run_out_with_an_error() {
    let mut node = node("l4");
    for pid in 1..=256 {
        node.register_client(&spec(pid), 0).unwrap();
    }
    assert_eq!(
        node.register_client(&spec(257), 0),
        Err(Code::INSUFFICIENT_RESOURCES)
    );
}
