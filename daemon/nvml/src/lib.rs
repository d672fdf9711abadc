//! The hardware door: [`gpushared_domain::ports::GpuDriver`] over the driver's own `libnvidia-ml.so.1`.
//!
//! nvml-wrapper is used where it is right; [`raw`] calls the library's functions themselves where the wrapper lacks
//! or breaks something, and is the only place with unsafe code. No decisions are made here: which profile, which
//! placement and what to do about an error is the domain's and the daemon's.
//!
//! # Threads
//! [`NvmlDriver`] belongs to one thread and blocks for as long as the driver does. [`NvmlEvents`] belongs to a
//! second thread that does nothing but wait. NVML itself is thread-safe.
//!
//! # Lowest driver
//! Whole GPUs: R450 (the first with MIG functions). MIG devices: R470, the first whose MIG devices have UUIDs of
//! their own. A library without a needed function is refused at [`NvmlDriver::open`], with the function's name.
//!
//! # Life of the library
//! Each [`NvmlDriver::open`] loads and initialises the library once and never shuts it down (see [`library`]): after
//! a driver upgrade ([`DriverFault::VersionMismatch`](gpushared_domain::ports::DriverFault::VersionMismatch)) the
//! process has to start again.

mod driver;
mod error;
mod events;
mod gpu;
mod health;
mod instances;
mod known_gpus;
mod library;
mod numa;
mod profile_name;
mod raw;

pub use driver::{NvmlDriver, NvmlSettings};
pub use events::NvmlEvents;
