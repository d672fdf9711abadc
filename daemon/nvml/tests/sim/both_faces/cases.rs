//! What happens, and in which order.

use gpushared_domain::ports::MigSwitch;
use gpushared_driver_sim::{ClientKind, ClientSpec, Code, FaultSpec, Node};

use super::Case;
use super::Step::{
    CreateCi, CreateGi, DestroyCi, DestroyGi, Events, Happens, Info, Memory, MemoryOf, Mode,
    Observe, Probe, Processes,
};
use crate::node::{process, slot};

const ON: MigSwitch = MigSwitch::On;
const OFF: MigSwitch = MigSwitch::Off;

fn client(node: &mut Node, kind: ClientKind, gpu: u32, on_first_mig_device: bool) {
    let mig = on_first_mig_device.then(|| {
        let device = node.mig_device_by_index(slot(gpu), 0).expect("a device");
        (device.gi, device.ci)
    });
    let spec = ClientSpec {
        process: process(std::process::id()),
        kind,
        gpu: slot(gpu),
        mig,
        memory: 1 << 30,
        busy_permille: 0,
        name: "training",
    };
    node.register_client(&spec, 0).expect("a client");
}

fn clients_end(node: &mut Node) {
    node.reap_clients(|_| false);
}

fn fault(node: &mut Node, function: &str, code: Code) {
    let mut fault = FaultSpec::new(function, code);
    fault.count = Some(1);
    node.set_fault(&fault).expect("a free fault");
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "instances come and go",
        gpus: &["h100-80gb", "t4"],
        steps: &[
            Info,
            Observe,
            CreateGi(0, 19, 0, 1), // MIG is off
            DestroyGi(0, 0),       // nothing was made
            Mode(0, ON),
            Mode(1, ON), // has no MIG
            CreateGi(0, 19, 3, 1),
            Observe,
            MemoryOf(0, 0), // no compute instance yet
            CreateCi(0, 0),
            CreateCi(0, 0), // full
            Observe,
            Memory(0),
            MemoryOf(0, 0),
            CreateGi(0, 19, 3, 1),   // taken
            CreateGi(0, 9, 0, 4),    // reaches over it
            CreateGi(0, 19, 9, 1),   // no such place
            CreateGi(0, 9, 2, 2),    // no such placement
            CreateGi(0, 19, 4, 1),   // another
            CreateGi(0, 9999, 0, 1), // no such profile
            CreateGi(1, 19, 0, 1),   // no MIG
            DestroyGi(1, 0),
            DestroyGi(0, 0), // has a compute instance
            DestroyCi(0, 0),
            DestroyCi(0, 0), // gone already
            DestroyGi(0, 0),
            DestroyGi(0, 0), // gone already
            DestroyCi(0, 0), // and so is what it was in
            CreateCi(0, 0),
            MemoryOf(0, 0),
            Mode(0, OFF), // one instance is left
            DestroyGi(0, 1),
            Mode(0, OFF),
            DestroyGi(0, 1), // MIG is off
            DestroyCi(0, 1),
            Observe,
            Events,
        ],
    },
    Case {
        name: "one instance with media engines for each GPU",
        gpus: &["h100-80gb", "a100-40gb"],
        steps: &[
            Mode(0, ON),
            CreateGi(0, 20, 0, 1),
            CreateGi(0, 20, 1, 1),
            CreateGi(0, 15, 2, 2),
            CreateCi(0, 0),
            CreateCi(0, 1),
            Observe,
            Mode(1, ON),
            Observe,
            CreateGi(1, 20, 0, 1), // the mode is not in force
            Happens(|node| node.reset_gpu(slot(1), 0).expect("idle")),
            CreateGi(1, 20, 4, 1),
            CreateGi(1, 20, 5, 1),
            CreateCi(1, 2),
            Observe,
            Events,
        ],
    },
    Case {
        name: "mode changes",
        gpus: &["a100-40gb", "h100-80gb"],
        steps: &[
            Mode(0, ON),
            Observe,
            Mode(0, OFF),
            Observe,
            Mode(1, ON),
            Mode(1, ON),
            Observe,
            Mode(1, OFF),
            Happens(|node| client(node, ClientKind::Holder, 0, false)),
            Happens(|node| client(node, ClientKind::Holder, 1, false)),
            Mode(0, ON),
            Mode(1, ON),
            Observe,
            Processes(0),
            Happens(clients_end),
            Mode(0, ON),
            Mode(1, ON),
            Observe,
            Events,
        ],
    },
    Case {
        name: "a lost GPU",
        gpus: &["h100-80gb", "h100-80gb"],
        steps: &[
            Mode(0, ON),
            CreateGi(0, 19, 0, 1),
            CreateCi(0, 0),
            Events,
            Happens(|node| node.lose_gpu(slot(0), 0).expect("a GPU")),
            Observe,
            Probe(0),
            Probe(1),
            Mode(0, OFF),
            CreateGi(0, 19, 1, 1),
            CreateCi(0, 0),
            DestroyCi(0, 0),
            DestroyGi(0, 0),
            Memory(0),
            MemoryOf(0, 0),
            Processes(0),
            Events,
            Events,
            Happens(|node| node.inject_xid(slot(1), 31, 0).expect("a GPU")),
            Events,
            Happens(|node| node.heal(Some(slot(0))).expect("a GPU")),
            Observe,
            Probe(0),
            DestroyCi(0, 0),
        ],
    },
    Case {
        name: "a GPU that was pulled out",
        gpus: &["t4", "h100-80gb"],
        steps: &[
            Happens(|node| node.unplug_gpu(slot(0)).expect("a GPU")),
            Probe(0),
            Memory(0),
            Mode(0, ON),
            DestroyGi(0, 0),
            Observe,
            Probe(1),
        ],
    },
    Case {
        name: "a GPU that wants a reset",
        gpus: &["h100-80gb"],
        steps: &[
            Mode(0, ON),
            CreateGi(0, 19, 0, 1),
            CreateCi(0, 0),
            Happens(|node| node.require_reset(slot(0)).expect("a GPU")),
            Observe,
            Probe(0),
            CreateGi(0, 19, 1, 1),
            CreateCi(0, 0),
            DestroyCi(0, 0),
            DestroyGi(0, 0),
            Mode(0, OFF),
            Memory(0),
            Processes(0),
            Happens(|node| node.reset_gpu(slot(0), 0).expect("idle")),
            Probe(0),
            Observe,
            DestroyGi(0, 0),
            Events,
        ],
    },
    Case {
        name: "the driver is unloaded and comes back",
        gpus: &["h100-80gb"],
        steps: &[
            Observe,
            Happens(|node| node.unload_driver().expect("idle")),
            Info,
            Observe,
            Probe(0),
            Mode(0, ON),
            CreateGi(0, 19, 1, 1),
            DestroyGi(0, 0),
            Memory(0),
            Processes(0),
            Events,
            Happens(Node::load_driver),
            Info,
            Observe,
            Probe(0),
        ],
    },
    Case {
        name: "the driver is replaced",
        gpus: &["h100-80gb"],
        steps: &[
            Happens(Node::mismatch_driver),
            Observe,
            Probe(0),
            Mode(0, ON),
            Memory(0),
        ],
    },
    Case {
        name: "errors of single functions",
        gpus: &["h100-80gb"],
        steps: &[
            Mode(0, ON),
            Happens(|node| {
                fault(
                    node,
                    "nvmlDeviceCreateGpuInstanceWithPlacement",
                    Code::UNKNOWN,
                );
            }),
            CreateGi(0, 15, 0, 2),
            CreateGi(0, 15, 0, 2),
            // The next profile of the same size is taken.
            Happens(|node| {
                fault(
                    node,
                    "nvmlGpuInstanceCreateComputeInstance",
                    Code::NOT_SUPPORTED,
                );
            }),
            CreateCi(0, 0),
            Happens(|node| fault(node, "nvmlComputeInstanceDestroy", Code::IN_USE)),
            DestroyCi(0, 0),
            DestroyCi(0, 0),
            Happens(|node| fault(node, "nvmlGpuInstanceDestroy", Code::IN_USE)),
            DestroyGi(0, 0),
            DestroyGi(0, 0),
            Happens(|node| fault(node, "nvmlDeviceSetMigMode", Code::NO_PERMISSION)),
            Mode(0, OFF),
            Happens(|node| fault(node, "nvmlDeviceGetMemoryInfo_v2", Code::UNKNOWN)),
            Memory(0),
            Happens(|node| {
                fault(
                    node,
                    "nvmlDeviceGetComputeRunningProcesses_v3",
                    Code::TIMEOUT,
                );
            }),
            Processes(0),
            Happens(|node| fault(node, "nvmlEventSetWait_v2", Code::UNKNOWN)),
            Events,
        ],
    },
    Case {
        name: "events",
        gpus: &["h100-80gb", "t4"],
        steps: &[
            Mode(0, ON),
            CreateGi(0, 19, 5, 1),
            CreateCi(0, 0),
            Events,
            Happens(|node| {
                let device = node.mig_device_by_index(slot(0), 0).expect("a device");
                let xid = |node: &mut Node, ci, xid| {
                    node.inject_mig_xid(slot(0), device.gi, ci, xid, 0)
                        .expect("an instance");
                };
                xid(node, None, 43);
                xid(node, Some(device.ci), 94);
                node.inject_xid(slot(1), 48, 0).expect("a GPU");
                node.inject_corrected_ecc(slot(0), 1, 0).expect("a GPU");
                node.inject_uncorrected_ecc(slot(0), 2, 0).expect("a GPU");
            }),
            Events,
            Probe(0),
            Probe(1),
        ],
    },
    Case {
        name: "memory and processes of clients",
        gpus: &["h100-80gb", "h100-80gb"],
        steps: &[
            Happens(|node| client(node, ClientKind::Mps, 0, false)),
            Happens(|node| client(node, ClientKind::Compute, 0, false)),
            Happens(|node| client(node, ClientKind::Graphics, 0, false)),
            Memory(0),
            Processes(0),
            Mode(1, ON),
            CreateGi(1, 9, 4, 4),
            CreateCi(1, 0),
            Happens(|node| client(node, ClientKind::Compute, 1, true)),
            Memory(1),
            MemoryOf(1, 0),
            Processes(1),
            DestroyCi(1, 0), // in use
            DestroyGi(1, 0),
            Happens(clients_end),
            Memory(1),
            Processes(1),
            DestroyCi(1, 0),
            DestroyGi(1, 0),
        ],
    },
];
