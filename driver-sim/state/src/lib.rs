//! The simulated node as one file that every process maps, and the files around it.
//!
//! A node directory holds `state` (the mapped [`Node`](gpushared_driver_sim::Node) behind a robust process-shared
//! lock), the tree that programs look at beside NVML (`proc/`, `sys/`, `dev/`) and `lib/` with the simulated driver
//! libraries. There is no server process: whoever maps the file is a peer.
//!
//! - `shared`: [`SharedNode`], the door; `lock`: the mutex; `mapping`: the mapped file; `wake`: futex.
//! - `process`: is a client's process alive?  `tree`: `proc`, `sys` and `dev` files;  `libraries`: `lib/`.
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
