//! Driver-enforced memory limits per cgroup (R615, `nvmlDeviceSetMemoryLimits_v1`): a hard limit without any shim.
//!
//! A limit concerns one GPU and every client whose cgroup is the limit's or lies below it. The hard limit is kept by
//! [`Node::reserve_memory`]; the soft limit is stored and shown, eviction under pressure is not modelled. A client sees
//! the limit as its total only when it is set on the client's own cgroup.

use crate::client::{Client, ClientId};
use crate::code::{Code, Result};
use crate::gpu::MemoryInfo;
use crate::ids::GpuSlot;
use crate::node::Node;
use crate::plain::{Plain, Text, plain};

/// "No limit" (`MEMORY_LIMIT_MAX`).
pub const UNLIMITED: u64 = u64::MAX;
/// Most limits of a node.
pub(crate) const MAX_LIMITS: usize = 64;
/// The first driver branch that has them.
const FIRST_BRANCH: u32 = 615;

plain! {
    /// Limits of one cgroup on one GPU.
    pub struct MemoryLimit {
        /// 0: this slot is free.
        pub in_use: u32,
        /// [`GpuSlot`].
        pub gpu: u32,
        /// Soft limit in bytes.
        pub soft: u64,
        /// Hard limit in bytes, or [`UNLIMITED`].
        pub hard: u64,
        /// Path of the cgroup, from the root of the hierarchy.
        pub namespace: Text<256>,
    }
}

/// `nvmlDeviceGetMemoryLimits_v1`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Soft limit.
    pub soft: u64,
    /// Hard limit, or [`UNLIMITED`].
    pub hard: u64,
    /// What the clients of the cgroup and of those below it hold.
    pub used: u64,
}

/// Whether `inner` is `outer` or below it.
fn within(inner: &str, outer: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Node {
    fn admit_limits(&self, slot: GpuSlot, namespace: &str) -> Result<()> {
        let gpu = self.gpu(slot)?;
        let branch = self.header.driver_version.as_str().split('.').next();
        let branch: u32 = branch.and_then(|branch| branch.parse().ok()).unwrap_or(0);
        if branch < FIRST_BRANCH || gpu.mig_enabled() {
            return Err(Code::NOT_SUPPORTED);
        }
        if !namespace.starts_with('/') || namespace.len() > 255 {
            return Err(Code::INVALID_ARGUMENT);
        }
        if self.header.without_dmem != 0 {
            return Err(Code::NOT_FOUND);
        }
        Ok(())
    }

    /// `nvmlDeviceSetMemoryLimits_v1`. Soft 0 and hard [`UNLIMITED`] remove the limits.
    ///
    /// # Errors
    /// As [`Self::gpu`]; NOT_SUPPORTED: a driver before R615, or MIG mode in effect; INVALID_ARGUMENT: no path, or
    /// soft above hard, or one above the GPU's memory; NOT_FOUND: the node has no `dmem` controller; INSUFFICIENT_RESOURCES: too many limits.
    pub fn set_memory_limits(
        &mut self,
        slot: GpuSlot,
        namespace: &str,
        soft: u64,
        hard: u64,
    ) -> Result<()> {
        self.admit_limits(slot, namespace)?;
        let total = self.memory(slot)?.total;
        if soft > hard || soft > total || (hard > total && hard != UNLIMITED) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let limits = &mut self.memory_limits;
        let found = limits.iter().position(|limit| limit.is_of(slot, namespace));
        let at = found.or_else(|| limits.iter().position(|limit| limit.in_use == 0));
        let limit = limits
            .get_mut(at.unwrap_or(MAX_LIMITS))
            .ok_or(Code::INSUFFICIENT_RESOURCES)?;
        *limit = if soft == 0 && hard == UNLIMITED {
            Plain::ZERO
        } else {
            MemoryLimit {
                in_use: 1,
                gpu: slot.get(),
                soft,
                hard,
                namespace: Text::new(namespace),
            }
        };
        self.touch();
        Ok(())
    }

    /// `nvmlDeviceGetMemoryLimits_v1`; a cgroup without limits answers soft 0 and hard [`UNLIMITED`].
    ///
    /// # Errors
    /// As [`Self::set_memory_limits`].
    pub fn memory_limits(&self, slot: GpuSlot, namespace: &str) -> Result<MemoryLimits> {
        self.admit_limits(slot, namespace)?;
        let limit = self
            .memory_limits
            .iter()
            .find(|limit| limit.is_of(slot, namespace));
        let (soft, hard) = limit.map_or((0, UNLIMITED), |limit| (limit.soft, limit.hard));
        Ok(MemoryLimits {
            soft,
            hard,
            used: self.used_within(slot, namespace),
        })
    }

    fn used_within(&self, slot: GpuSlot, namespace: &str) -> u64 {
        let clients = self.clients_on(slot);
        let below = clients.filter(|client| within(client.cgroup.as_str(), namespace));
        below.fold(0, |sum, client| sum.saturating_add(client.used_bytes))
    }

    /// The cgroup that a client's process is in, as a path from the root of the hierarchy.
    ///
    /// # Errors
    /// NOT_FOUND: no such client.
    pub fn set_client_cgroup(&mut self, id: ClientId, path: &str) -> Result<()> {
        self.client_mut(id)?.cgroup = Text::new(path);
        self.touch();
        Ok(())
    }

    /// What the limits of its cgroups leave of `device` for this client.
    pub(crate) fn limited_by_cgroups(&self, client: &Client, device: MemoryInfo) -> MemoryInfo {
        let own = client.cgroup.as_str();
        let mut seen = device;
        let on_gpu = self
            .memory_limits
            .iter()
            .filter(|l| l.in_use != 0 && l.gpu == client.gpu);
        for limit in on_gpu.filter(|limit| limit.hard != UNLIMITED) {
            let namespace = limit.namespace.as_str();
            if own.is_empty() || !within(own, namespace) {
                continue;
            }
            let slot = GpuSlot::new(client.gpu);
            let inside = MemoryInfo::new(limit.hard, 0, self.used_within(slot, namespace));
            let free = seen.free.min(inside.free);
            if own == namespace && limit.hard < seen.total {
                seen = inside;
            }
            seen.free = free;
        }
        seen
    }
}

impl MemoryLimit {
    fn is_of(&self, slot: GpuSlot, namespace: &str) -> bool {
        self.in_use != 0 && self.gpu == slot.get() && self.namespace.as_str() == namespace
    }
}

#[cfg(test)]
mod tests;
