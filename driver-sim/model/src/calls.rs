//! Call counts per function and a ring of the last calls: what tests ask to see which calls were made.

use crate::code::Code;
use crate::ids::GpuSlot;
use crate::node::Node;
use crate::plain::{Plain, Text, plain};

/// Calls that the ring keeps.
const RING: usize = 1024;
/// Functions that can be counted; all of NVML and what a test calls of CUDA.
const FUNCTIONS: usize = 1024;

/// A function of a face, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    name: &'static str,
    id: u64,
}

impl Function {
    /// The function with this name; to be made in a constant.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            id: Self::id_of(name),
        }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The numeric id: FNV-1a of the name, never 0.
    pub const fn id(self) -> u64 {
        self.id
    }

    /// The id of a name.
    pub const fn id_of(name: &str) -> u64 {
        let bytes = name.as_bytes();
        let mut hash = 0xCBF2_9CE4_8422_2325u64;
        let mut i = 0;
        while i < bytes.len() {
            // `u64::from` is not const.
            let byte = bytes[i] as u64;
            hash = (hash ^ byte).wrapping_mul(0x0100_0000_01B3);
            i += 1;
        }
        if hash == 0 { 1 } else { hash }
    }
}

plain! {
    /// How often a function was called.
    pub struct FunctionCount {
        /// [`Function::id`]; 0: this slot is free.
        pub id: u64,
        /// Calls.
        pub calls: u64,
        /// Calls that answered another code than SUCCESS.
        pub errors: u64,
        /// The name.
        pub name: Text<80>,
    }
}

plain! {
    /// One call.
    pub struct LoggedCall {
        /// Number of the call, from 1.
        pub seq: u64,
        /// When it returned.
        pub time_ns: u64,
        /// [`Function::id`].
        pub function: u64,
        /// Process of the caller.
        pub pid: u32,
        /// [`GpuSlot`], or `u32::MAX`.
        pub gpu: u32,
        /// What it answered.
        pub code: u32,
        /// Keeps the size a multiple of eight.
        pub reserved: u32,
    }
}

plain! {
    /// Counts and the last calls.
    pub struct CallLog {
        /// Number of calls ever logged.
        pub logged: u64,
        /// Call `seq` lies at `seq % RING`.
        pub ring: [LoggedCall; RING],
        /// A hash table by [`Function::id`].
        pub functions: [FunctionCount; FUNCTIONS],
    }
}

impl CallLog {
    fn position(&self, id: u64) -> Option<usize> {
        let first = usize::try_from(id % FUNCTIONS as u64).unwrap_or(0);
        let probes = (first..FUNCTIONS).chain(0..first);
        probes
            .into_iter()
            .find(|&at| matches!(self.functions[at].id, found if found == id || found == 0))
    }

    pub(crate) fn count(&mut self, function: Function) {
        let Some(at) = self.position(function.id()) else {
            return;
        };
        let slot = &mut self.functions[at];
        if slot.id == 0 {
            *slot = FunctionCount {
                id: function.id(),
                name: Text::new(function.name()),
                ..Plain::ZERO
            };
        }
        slot.calls = slot.calls.saturating_add(1);
    }

    /// How often the function of this name was called.
    pub fn calls_of(&self, name: &str) -> u64 {
        let id = Function::id_of(name);
        let slot = self.position(id).map(|at| &self.functions[at]);
        slot.filter(|slot| slot.id == id)
            .map_or(0, |slot| slot.calls)
    }

    /// Functions that were called, in no particular order.
    pub fn counts(&self) -> impl Iterator<Item = &FunctionCount> {
        self.functions.iter().filter(|slot| slot.id != 0)
    }

    /// The last calls, oldest first, at most `limit`.
    pub fn recent(&self, limit: usize) -> impl Iterator<Item = &LoggedCall> {
        let kept = self
            .logged
            .min(RING as u64)
            .min(u64::try_from(limit).unwrap_or(u64::MAX));
        // As many as are kept, also when a damaged count lies at the end of the numbers.
        (self.logged.saturating_sub(kept)..self.logged)
            .map(|before| &self.ring[Self::ring_position(before.saturating_add(1))])
    }

    /// The name of a function that was called.
    pub fn name_of(&self, id: u64) -> &str {
        let slot = self.position(id).map(|at| &self.functions[at]);
        slot.filter(|slot| slot.id == id)
            .map_or("", |slot| slot.name.as_str())
    }

    fn ring_position(seq: u64) -> usize {
        usize::try_from(seq % RING as u64).unwrap_or(0)
    }
}

impl Node {
    /// The end of every call of a face: logs its answer.
    pub fn leave(
        &mut self,
        function: Function,
        gpu: Option<GpuSlot>,
        pid: u32,
        answer: Code,
        now_ns: u64,
    ) {
        let calls = &mut self.calls;
        if answer != Code::SUCCESS
            && let Some(at) = calls.position(function.id())
        {
            calls.functions[at].errors = calls.functions[at].errors.saturating_add(1);
        }
        let seq = calls.logged.wrapping_add(1);
        calls.logged = seq;
        calls.ring[CallLog::ring_position(seq)] = LoggedCall {
            seq,
            time_ns: now_ns,
            function: function.id(),
            pid,
            gpu: gpu.map_or(u32::MAX, GpuSlot::get),
            code: answer.get(),
            reserved: 0,
        };
    }

    /// Forgets counts and the log.
    pub fn clear_calls(&mut self) {
        self.calls.logged = 0;
        self.calls.ring = Plain::ZERO;
        self.calls.functions = Plain::ZERO;
    }
}
