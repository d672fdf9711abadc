//! MIG of a GPU: mode, GPU instances and compute instances, with the driver's answers.
//!
//! ```text
//! mode off ──set_mig_mode(1)──▶ pending (Ampere, or a client holds the GPU) ──reset_gpu──▶ mode on
//!     └──────── idle Hopper or later: at once ────────────────────────────────────────────▶ mode on
//! mode on ──create_gi──▶ GI ──create_ci──▶ CI = MIG device ──destroy_ci──▶ GI ──destroy_gi──▶ (free)
//! ```
//! Invariants (checked by the property tests): placements of GPU instances are disjoint and legal, ids are unique,
//! the sum of each media engine stays within the GPU's total, no profile exceeds its maximum, compute instances
//! stay within slices and multiprocessors of their GPU instance.

mod compute_instance;
mod gpu_instance;
mod mode;
mod naming;
#[cfg(test)]
mod tests;

pub use compute_instance::{ComputeInstance, MigAttributes};
pub use gpu_instance::GpuInstance;
pub(crate) use gpu_instance::MAX_GIS;
pub use mode::MigMode;
pub(crate) use naming::gpu_instance_id;
