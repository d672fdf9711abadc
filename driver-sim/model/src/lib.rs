//! One deterministic model of a GPU node, as the NVIDIA driver would show it.
//!
//! [`Node`] is plain data of fixed size: it lives in ordinary memory ([`OwnedNode`], in-process tests) or in a file
//! mapped by every process of a simulated node (`gpushared-driver-sim-state`). There is no I/O, clock, environment
//! or randomness in here: time is an argument (`now_ns`), everything that looks random derives from the seed.
//!
//! Operations are methods of [`Node`], named after NVML's, and answer NVML's [`Code`]s:
//! - `node`, `gpu`: identity, inventory, sensors;  `mig/*`: MIG mode, GPU instances, compute instances;
//! - `client`: processes that hold memory and do work; `memory_limit`: limits per cgroup;  `event`: Xid, ECC, MIG change;
//! - `fault`, `calls`: errors and delays per function, call counts and log;  `lifecycle`: reset, reboot, loss;
//! - `in_process`: [`SimDriver`], the domain's hardware port over an owned node.
//!
//! Not modelled: vGPU, confidential computing, NVLink, GSP firmware, real clocks and power curves (figures follow
//! the declared work by a straight line), memory contents.
#![forbid(unsafe_code)]

pub mod calls;
pub mod client;
mod code;
pub mod event;
pub mod fault;
mod gpu;
pub mod gpu_model;
mod ids;
mod in_process;
mod lifecycle;
pub mod memory_limit;
mod mig;
mod node;
mod plain;
mod repair;

pub use calls::{Function, LoggedCall};
pub use client::{Client, ClientId, ClientKind, ClientSpec};
pub use code::{Code, Result};
pub use event::{Event, EventSet};
pub use fault::{Entered, FaultSpec};
pub use gpu::{EccCounters, Gpu, GpuCounters, MemoryInfo};
pub use gpu_model::{CiProfile, GiProfile, GpuModel, MigModel, Placement};
pub use ids::{ComputeInstanceId, GpuInstanceId, GpuSlot, MigDevice, NO_INSTANCE, Process};
pub use in_process::{SimDriver, SimEvents};
pub use lifecycle::DriverState;
pub use memory_limit::MemoryLimits;
pub use mig::{ComputeInstance, GpuInstance, MigAttributes, MigMode};
pub use node::{Header, MAX_CLIENTS, MAX_GPUS, Node, NodeSpec, OwnedNode};
pub use plain::{Plain, Text};
