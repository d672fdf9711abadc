//! The daemon on a real Kubernetes: one node, end to end.
//!
//! Everything but the GPUs is real: apiserver, scheduler, kubelet, containerd, runc, pods. The
//! unmodified kubelet is what the fake one of the component tier is checked against. Start it by
//! `tests/node/run`, which builds the components and gives the cases namespaces of their own; each
//! case boots a node of its own and says in one line how it ended.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends by a panic and says so on its output"
)]

mod api;
mod case;
mod component;
mod containerd;
mod control_plane;
mod daemon;
mod gpus;
mod kubelet;
mod leftovers;
mod machine;
mod pod_resources;
mod pods;
mod wait;

mod basics;
mod capacity;
mod devices;
mod health;
mod polling;
mod reboot;
mod reference;
mod refusal;
mod restarts;
mod takeover;

/// The node's address: not a loopback one, which the kubelet refuses, but on the loopback interface
/// of the run's network namespace.
const NODE_ADDRESS: &str = "198.51.100.1";
