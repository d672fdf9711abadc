//! The machine apart from the GPU: what the daemon reads and writes on the node.
//!
//! | module | what it does |
//! |---|---|
//! | [`journal`] | the durable record of leases and health, written before each effect |
//! | [`cdi`] | one CDI spec for each grant |
//! | [`device_nodes`] | which `/dev` nodes a slice needs |
//! | [`driver_files`] | which of the host's driver files a container needs |
//! | [`container_runtime`] | whether the node's runtime takes CDI devices |
//! | [`pod_resources`] | who holds what, asked of the kubelet |
//! | [`kubelet_checkpoint`] | the same from the kubelet's own file, as a hint |
//! | [`node_lock`] | one daemon per node |
//! | [`notify`] | systemd's readiness protocol |
//! | [`boot_id`] | which boot this is |
//!
//! Every root folder is an argument, so that a test runs a whole node in a temporary directory. Nothing here knows
//! NVML. There are no threads and no tasks; only [`pod_resources`] is async.
#![forbid(unsafe_code)]

pub mod boot_id;
pub mod cdi;
pub mod container_runtime;
pub mod device_nodes;
pub mod driver_files;
pub mod journal;
pub mod kubelet_checkpoint;
pub mod node_lock;
pub mod notify;
pub mod pod_resources;
