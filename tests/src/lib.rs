//! Harness of the test tiers: a fake kubelet, simulated GPUs, the daemon as a process, bounded waits.
//!
//! - [`FakeKubelet`] speaks the kubelet's side of the device-plugin and `PodResources` protocols over
//!   real sockets and holds a plugin to the rules that a real kubelet enforces by crashing.
//! - [`NodeDirs`] is a node's file system in a temporary directory.
//! - [`SimNode`] is a node's GPUs, simulated; [`DaemonUnderTest`] is the real daemon on them.
//! - [`wait_until`] and its kin are the only way to wait.
//!
//! Nothing here is used by the daemon; the README's demo uses the fake kubelet as its stand-in.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness ends a test by a panic that says why"
)]

mod artifacts;
mod daemon;
mod fake_kubelet;
mod node_dirs;
mod sim_node;
mod wait;

pub use artifacts::{artifacts, program};
pub use daemon::{DaemonUnderTest, Frozen, daemon_config};
pub use fake_kubelet::{
    AllocatedResources, Builder, CHECKPOINT_FILE, Checkpoint, Clock, Container, ContainerSpec,
    DeviceNode, DuplicateRegistration, Event, FakeKubelet, Mount, Phase, PodError,
    PodResourcesMode, PodSpec, PodStatus, PodUid, Rpc, SocketStart, Start, TopologyPolicy,
    Violation,
};
pub use node_dirs::NodeDirs;
pub use sim_node::SimNode;
pub use wait::{PATIENCE, look_within, wait_for, wait_until};
