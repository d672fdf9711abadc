//! `libcuda.so.1` of the simulated node: the seam between CUDA programs and the node that NVML shows.
//!
//! There is: initialisation; devices by ordinal under `CUDA_VISIBLE_DEVICES` (index, GPU UUID, MIG UUID) with
//! name, UUID, memory and the usual attributes; primary contexts; the current context of a thread; device memory
//! as accounting (a pointer is a number, nothing lies behind it); lookup by name and version; error texts. A
//! process with a context is a client of the node: NVML shows it, with its memory, on its GPU or MIG device.
//!
//! There is **not**: data in device memory, copies, streams, events, modules, kernels, launches, explicit
//! contexts, the pitch, managed, host, async, pool and VMM families, graphs, IPC, MPS limits, the exports of
//! what is absent. A program that needs more finds the symbol missing. `cuGetExportTable` refuses every private
//! table, always: a rule of this project, not a gap.
//!
//! - `entry`: the way of every call (initialised, faults, delay, body, log, panics);  `process`: this process's
//!   devices, contexts and allocations;  `visible`: which devices a process sees;  `pointer`: the caller's memory;
//! - `device`, `context`, `memory`, `lookup`, `texts`: the exported functions;  `status`: result codes.
//!
//! Threads: none of its own. Locks: this process's state, then the node's; neither across a call. In a child
//! after `fork` every call on devices, `cuInit` with them, answers NOT_INITIALIZED, as in the real driver.

mod context;
mod device;
mod entry;
mod lookup;
mod memory;
mod pointer;
mod process;
mod status;
mod texts;
mod visible;
