//! Events: one ring in the node, one [`EventSet`] with its own cursor per reader.

use crate::code::{Code, Result};
use crate::gpu::Gpu;
use crate::ids::{GpuSlot, MigDevice, NO_INSTANCE};
use crate::node::{MAX_GPUS, Node};
use crate::plain::plain;

/// Events that the ring keeps; a slower reader misses the older ones.
pub const RING: usize = 256;

/// `nvmlEventTypeSingleBitEccError`.
pub const SINGLE_BIT_ECC: u64 = 0x1;
/// `nvmlEventTypeDoubleBitEccError`.
pub const DOUBLE_BIT_ECC: u64 = 0x2;
/// `nvmlEventTypePState`.
pub const PSTATE: u64 = 0x4;
/// `nvmlEventTypeXidCriticalError`.
pub const XID: u64 = 0x8;
/// `nvmlEventTypeClock`.
pub const CLOCK: u64 = 0x10;
/// `nvmlEventMigConfigChange`.
pub const MIG_CONFIG_CHANGE: u64 = 0x100;

plain! {
    /// One event.
    pub struct Event {
        /// Number of the event, from 1.
        pub seq: u64,
        /// When.
        pub time_ns: u64,
        /// One bit of the event types.
        pub kind: u64,
        /// The Xid, or 0.
        pub data: u64,
        /// [`GpuSlot`].
        pub gpu: u32,
        /// GPU instance, or [`NO_INSTANCE`] for the whole GPU.
        pub gi: u32,
        /// Compute instance, or [`NO_INSTANCE`].
        pub ci: u32,
        /// Keeps the size a multiple of eight.
        pub reserved: u32,
    }
}

plain! {
    /// The last [`RING`] events.
    pub struct EventRing {
        /// Number of events ever.
        pub count: u64,
        /// Event `seq` lies at `seq % RING`.
        pub ring: [Event; RING],
    }
}

/// `nvmlEventSet_t`: belongs to one process; holds no more than a cursor and the registered types per GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSet {
    seen: u64,
    /// Registered types, and the number of the last event before the registration.
    registered: [(u64, u64); MAX_GPUS],
}

impl EventSet {
    /// `nvmlEventSetCreate`: a set that nothing is registered with.
    pub fn new(node: &Node) -> Self {
        Self {
            seen: node.events.count,
            registered: [(0, 0); MAX_GPUS],
        }
    }

    /// `nvmlDeviceRegisterEvents`: events from this moment on.
    ///
    /// # Errors
    /// As [`Node::gpu`]; NOT_SUPPORTED: a type that the GPU does not support.
    pub fn register(&mut self, node: &Node, slot: GpuSlot, types: u64) -> Result<()> {
        let supported = node.supported_events(slot)?;
        if types & !supported != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let entry = self
            .registered
            .get_mut(slot.get() as usize)
            .ok_or(Code::INVALID_ARGUMENT)?;
        if entry.0 == 0 {
            entry.1 = node.events.count;
        }
        entry.0 |= types;
        Ok(())
    }

    /// The next event for this set, if there is one; never blocks.
    pub fn poll(&mut self, node: &Node) -> Option<Event> {
        let count = node.events.count;
        // A damaged count may lie behind the cursor; then there is nothing to read.
        let oldest = count.saturating_sub(RING as u64);
        let mut seq = self.seen.max(oldest);
        while seq < count {
            seq += 1;
            self.seen = seq;
            let event = node.events.at(seq);
            let registered = self.registered.get(event.gpu as usize);
            let wanted =
                registered.is_some_and(|&(types, since)| types & event.kind != 0 && seq > since);
            if event.seq == seq && wanted {
                return Some(*event);
            }
        }
        None
    }

    /// Whether a GPU of this set is lost: `nvmlEventSetWait` then answers GPU_IS_LOST as soon as nothing is left to
    /// deliver.
    pub fn waits_for_lost(&self, node: &Node) -> bool {
        let mut entries = self.registered.iter().zip(0u32..);
        entries.any(|(&(types, _), slot)| types != 0 && node.is_lost(GpuSlot::new(slot)))
    }
}

impl EventRing {
    fn position(seq: u64) -> usize {
        // The remainder is smaller than the ring.
        usize::try_from(seq % RING as u64).unwrap_or(0)
    }

    fn at(&self, seq: u64) -> &Event {
        &self.ring[Self::position(seq)]
    }

    /// The last events, oldest first, at most `limit`.
    pub fn recent(&self, limit: usize) -> impl Iterator<Item = &Event> {
        let kept = self
            .count
            .min(RING as u64)
            .min(u64::try_from(limit).unwrap_or(u64::MAX));
        // As many as are kept, also when a damaged count lies at the end of the numbers.
        (self.count.saturating_sub(kept)..self.count)
            .map(|before| before.saturating_add(1))
            .map(|seq| self.at(seq))
            .filter(|event| event.seq != 0)
    }
}

impl Gpu {
    /// Bits of the event types that the product supports.
    fn supported_events(&self) -> Result<u64> {
        let ecc = if self.ecc_current != 0 {
            SINGLE_BIT_ECC | DOUBLE_BIT_ECC
        } else {
            0
        };
        let mig = if self.model()?.mig.is_some() {
            MIG_CONFIG_CHANGE
        } else {
            0
        };
        Ok(ecc | mig | PSTATE | XID | CLOCK)
    }
}

impl Node {
    /// `nvmlDeviceGetSupportedEventTypes`.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn supported_events(&self, slot: GpuSlot) -> Result<u64> {
        self.gpu(slot)?.supported_events()
    }

    /// Raises an event; the sequence number is filled in.
    pub fn raise(&mut self, event: Event) {
        let seq = self.events.count.wrapping_add(1);
        self.events.ring[EventRing::position(seq)] = Event { seq, ..event };
        self.events.count = seq;
        self.touch();
    }

    pub(crate) fn raise_mig_change(&mut self, slot: GpuSlot, now_ns: u64) {
        self.raise(Event::on(slot, MIG_CONFIG_CHANGE, 0, now_ns));
    }

    /// An Xid on a GPU. The model does nothing else: a lost GPU (79) is made by [`Self::lose_gpu`].
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn inject_xid(&mut self, slot: GpuSlot, xid: u64, now_ns: u64) -> Result<()> {
        self.gpu_any(slot)?;
        self.raise(Event::on(slot, XID, xid, now_ns));
        Ok(())
    }

    /// An Xid of a GPU instance (`ci` None) or of a compute instance.
    ///
    /// # Errors
    /// As [`Self::gi`] and [`Self::ci`].
    pub fn inject_mig_xid(
        &mut self,
        slot: GpuSlot,
        gi: crate::GpuInstanceId,
        ci: Option<crate::ComputeInstanceId>,
        xid: u64,
        now_ns: u64,
    ) -> Result<()> {
        match ci {
            Some(ci) => self.ci(slot, gi, ci).map(|_| ())?,
            None => self.gi(slot, gi).map(|_| ())?,
        }
        let ci = ci.map_or(NO_INSTANCE, crate::ComputeInstanceId::get);
        self.raise(Event {
            gi: gi.get(),
            ci,
            ..Event::on(slot, XID, xid, now_ns)
        });
        Ok(())
    }

    /// Corrected (single-bit) memory errors: volatile and aggregate counters, one event.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn inject_corrected_ecc(&mut self, slot: GpuSlot, errors: u64, now_ns: u64) -> Result<()> {
        let gpu = self.gpu_any_mut(slot)?;
        gpu.ecc_volatile.corrected = gpu.ecc_volatile.corrected.saturating_add(errors);
        gpu.ecc_aggregate.corrected = gpu.ecc_aggregate.corrected.saturating_add(errors);
        self.raise(Event::on(slot, SINGLE_BIT_ECC, 0, now_ns));
        Ok(())
    }

    /// Uncorrected (double-bit) memory errors: counters, a page retirement or row remapping that waits for a reset,
    /// one event.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn inject_uncorrected_ecc(
        &mut self,
        slot: GpuSlot,
        errors: u64,
        now_ns: u64,
    ) -> Result<()> {
        let gpu = self.gpu_any_mut(slot)?;
        gpu.ecc_volatile.uncorrected = gpu.ecc_volatile.uncorrected.saturating_add(errors);
        gpu.ecc_aggregate.uncorrected = gpu.ecc_aggregate.uncorrected.saturating_add(errors);
        let affected = if gpu.model()?.row_remapping == 1 {
            &mut gpu.remapped_rows_uncorrectable
        } else {
            &mut gpu.retired_pages_double
        };
        *affected = affected.saturating_add(errors);
        gpu.remap_pending = 1;
        self.raise(Event::on(slot, DOUBLE_BIT_ECC, 0, now_ns));
        Ok(())
    }
}

impl Event {
    /// An event of a whole GPU.
    pub fn on(slot: GpuSlot, kind: u64, data: u64, now_ns: u64) -> Self {
        Self {
            seq: 0,
            time_ns: now_ns,
            kind,
            data,
            gpu: slot.get(),
            gi: NO_INSTANCE,
            ci: NO_INSTANCE,
            reserved: 0,
        }
    }

    /// The MIG device it concerns, if it names a compute instance.
    pub fn mig_device(&self) -> Option<MigDevice> {
        (self.gi != NO_INSTANCE && self.ci != NO_INSTANCE).then(|| MigDevice {
            gpu: GpuSlot::new(self.gpu),
            gi: crate::GpuInstanceId::new(self.gi),
            ci: crate::ComputeInstanceId::new(self.ci),
        })
    }
}

#[cfg(test)]
mod tests;
