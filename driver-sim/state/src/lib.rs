//! The simulated node as one file that every process maps, and the files around it.
//!
//! A node directory holds `state` (the mapped [`Node`](gpushared_driver_sim::Node) behind a robust process-shared
//! lock), the tree that programs look at beside NVML (`proc/`, `sys/`, `dev/`) and `lib/` with the simulated driver
//! libraries. There is no server process: whoever maps the file is a peer.
//!
//! - `shared`: [`SharedNode`], the door; `lock`: the mutex; `mapping`: the mapped file; `wake`: futex.
//! - `process`: is a client's process alive?  `tree`: `proc`, `sys` and `dev` files;  `libraries`: `lib/`.
//!
//! Trust: peers may die at any moment, with the lock too, and may leave any bytes in the node: the next one repairs it
//! and answers with codes. They are trusted not to touch the mutex and not to cut the file short. A process that does
//! can crash the others, so a node directory belongs to programs of one owner and is no boundary between tenants.
//!
//! Threads and channels: none.

mod error;
mod libraries;
mod lock;
mod mapping;
mod process;
mod shared;
mod tree;
mod wake;

pub use error::StateError;
pub use libraries::install_libraries;
pub use process::{client_is_alive, own_cgroup, pid_namespace, process_start_time};
pub use shared::{Change, NODE_VARIABLE, SharedNode, real_ns};
