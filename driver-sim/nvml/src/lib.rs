//! `libnvidia-ml.so.1` of the simulated node: the C interface of NVML over the shared state of a node.
//!
//! Every public NVML name is exported. Implemented functions decode handles, ask the model
//! (`gpushared-driver-sim`) under the node's lock, and write the answer in the layout of the version that was
//! asked; all others answer NOT_SUPPORTED. Clients are processes that load a driver by its soname and know
//! nothing of a simulator.
//!
//! - `entry`: the way of every call (initialised, faults, delay, body, log, panics);  `calls/*`: the functions;
//! - `abi/*`: the C types;  `pointer`: the caller's memory;  `handle`, `context`: handles to things of the model;
//! - `library`: initialisation and the node of this process;  `local`: event sets and samples of this process.
//!
//! Decided here: `info.device` of a compute instance is the MIG device; unversioned symbols keep their first
//! layout; what the header keeps for root needs root or `GPUSIM_ANY_UID=1`; private tables are refused.
//!
//! Not covered: vGPU, confidential computing, NVLink (links exist and are down), accounting history, system
//! event sets, operational events of R610, power profiles and smoothing, anything Windows.
//!
//! Threads: none of its own. Locks: the node's (never across a call), one per event set or sample, one for the
//! initialisation count; taken in the order count, node, table, entry.

mod abi;
mod calls;
mod context;
mod entry;
mod handle;
mod library;
mod local;
mod marker;
mod pointer;
