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
//! Where it is simpler than a driver, or may differ:
//! - process ids are shown as the client's own PID namespace numbers them, not as the reader's does;
//! - RESET_REQUIRED is the answer of changing calls only, others go on (not verified against hardware);
//! - the serial number in an instance's handle wraps after 65,536 creates on its GPU: a stale handle that old may name
//!   another instance with the same ids;
//! - unloading the driver is refused for clients of a GPU only; processes that merely have this library initialised do
//!   not hold it, and get DRIVER_NOT_LOADED from then on.
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
