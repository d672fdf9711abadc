//! Faults: errors and delays per function, checked when a face enters a function.
//!
//! A latency is a fault without an error: code SUCCESS, a delay, for ever.

use crate::calls::Function;
use crate::code::{Code, Result};
use crate::ids::GpuSlot;
use crate::node::Node;
use crate::plain::{Plain, Text, plain};

/// `remaining` of a fault that never ends.
pub const FOR_EVER: u32 = u32::MAX;
/// "Every GPU".
const ANY_GPU: u32 = u32::MAX;

plain! {
    /// One fault.
    pub struct Fault {
        /// [`Function::id`] of the function it concerns; 0 = every function.
        pub function: u64,
        /// Name of the function, for showing.
        pub name: Text<80>,
        /// [`GpuSlot`] it concerns, or `u32::MAX`.
        pub gpu: u32,
        /// The code that the function answers; 0 = it does its work.
        pub code: u32,
        /// How many more calls it concerns; 0 = this slot is free, [`FOR_EVER`] = all.
        pub remaining: u32,
        /// Calls that are let through first.
        pub skip: u32,
        /// Delay before the answer, in milliseconds.
        pub delay_ms: u32,
        /// Keeps the size a multiple of eight.
        pub reserved: u32,
    }
}

/// What is set.
#[derive(Clone, Debug)]
pub struct FaultSpec<'a> {
    /// Function name; `*` = every function.
    pub function: &'a str,
    /// Only calls on this GPU, or all.
    pub gpu: Option<GpuSlot>,
    /// The answer; SUCCESS = only delay.
    pub code: Code,
    /// How many calls it concerns, or all.
    pub count: Option<u32>,
    /// Calls that are let through first.
    pub skip: u32,
    /// Delay before the answer, in milliseconds.
    pub delay_ms: u32,
}

impl<'a> FaultSpec<'a> {
    /// `function` answers `code` for ever, on every GPU, at once.
    pub fn new(function: &'a str, code: Code) -> Self {
        Self {
            function,
            gpu: None,
            code,
            count: None,
            skip: 0,
            delay_ms: 0,
        }
    }
}

/// What a face does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Entered {
    /// Wait this long first, without the lock.
    pub delay_ms: u32,
    /// Then answer this error, or do the work.
    pub verdict: Result<()>,
}

impl Fault {
    fn concerns(&self, function: Function, gpu: Option<GpuSlot>) -> bool {
        self.remaining != 0
            && (self.function == 0 || self.function == function.id())
            && (self.gpu == ANY_GPU || gpu.is_some_and(|gpu| gpu.get() == self.gpu))
    }
}

impl Node {
    /// Sets a fault.
    ///
    /// # Errors
    /// INSUFFICIENT_RESOURCES: no free fault slot; INVALID_ARGUMENT: a count of 0, or no such GPU.
    pub fn set_fault(&mut self, spec: &FaultSpec<'_>) -> Result<()> {
        if let Some(gpu) = spec.gpu {
            self.gpu_any(gpu)?;
        }
        if spec.count == Some(0) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let free = self.faults.iter_mut().find(|fault| fault.remaining == 0);
        *free.ok_or(Code::INSUFFICIENT_RESOURCES)? = Fault {
            function: if spec.function == "*" {
                0
            } else {
                Function::id_of(spec.function)
            },
            name: Text::new(spec.function),
            gpu: spec.gpu.map_or(ANY_GPU, GpuSlot::get),
            code: spec.code.get(),
            remaining: spec.count.unwrap_or(FOR_EVER),
            skip: spec.skip,
            delay_ms: spec.delay_ms,
            reserved: 0,
        };
        self.touch();
        Ok(())
    }

    /// Removes every fault (of one function, if given).
    pub fn clear_faults(&mut self, function: Option<&str>) {
        let id = function.map(Function::id_of);
        for fault in &mut self.faults {
            if id.is_none_or(|id| fault.function == id) {
                *fault = Plain::ZERO;
            }
        }
        self.touch();
    }

    /// Faults that are set.
    pub fn active_faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.remaining != 0)
    }

    /// The start of every call of a face: counts it and asks the faults. Delays of several faults add up; the first
    /// error wins. The face then calls [`Self::leave`] with the answer.
    pub fn enter(&mut self, function: Function, gpu: Option<GpuSlot>) -> Entered {
        self.calls.count(function);
        let mut entered = Entered {
            delay_ms: 0,
            verdict: Ok(()),
        };
        for fault in self
            .faults
            .iter_mut()
            .filter(|fault| fault.concerns(function, gpu))
        {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            if fault.remaining != FOR_EVER {
                fault.remaining -= 1;
            }
            entered.delay_ms = entered.delay_ms.saturating_add(fault.delay_ms);
            if entered.verdict.is_ok() {
                entered.verdict = Code::new(fault.code).ok();
            }
        }
        entered
    }
}

#[cfg(test)]
mod tests;
