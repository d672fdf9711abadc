//! The way of every call: initialised? → injected fault and delay → body → call log, with panics caught.
//!
//! The node is locked once for a call without a delay. A delay sleeps without the lock. No lock outlives a call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gpushared_driver_sim::{Code, DriverState, Function, GpuSlot, Node, Result};
use gpushared_driver_sim_state::SharedNode;

use crate::abi::Return;
use crate::context::Context;
use crate::handle::{Handle, Kind};
use crate::library;
use crate::pointer::{CText, In, Out};

/// Declares exported functions. `fn name(arguments) |cx| { body }` becomes an `extern "C"` function whose body
/// runs with the node locked and answers `Result<()>`.
macro_rules! entries {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) |$cx:pat_param| $body:block)*) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers are null or valid as NVML documents for this function, during the call.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::abi::Return {
            const FUNCTION: gpushared_driver_sim::Function =
                gpushared_driver_sim::Function::new(stringify!($name));
            let gpu = None$(.or_else(|| $crate::entry::Hint::gpu(&$arg)))*;
            $crate::entry::call(FUNCTION, gpu, &mut |$cx: &mut $crate::context::Context<'_>| $body)
        }
    )*};
}
pub(crate) use entries;

/// Which GPU a call concerns, as far as an argument tells: for faults of one GPU and for the call log.
pub(crate) trait Hint {
    /// The slot, if this argument is a handle that has one.
    fn gpu(&self) -> Option<GpuSlot> {
        None
    }
}

impl<T> Hint for Out<T> {}
impl<T> Hint for In<T> {}
impl Hint for CText {}
impl Hint for u32 {}
impl Hint for i32 {}
impl Hint for u64 {}
impl Hint for usize {
    fn gpu(&self) -> Option<GpuSlot> {
        let handle = Handle::from_raw(*self).ok()?;
        let has_slot = !matches!(handle.kind, Kind::EventSet | Kind::GpmSample);
        has_slot.then(|| GpuSlot::new(handle.slot.into()))
    }
}

/// Runs one call on the locked node. Not generic, so that 430 entry points share one copy of it.
pub(crate) fn call(
    function: Function,
    gpu: Option<GpuSlot>,
    body: &mut dyn FnMut(&mut Context<'_>) -> Result<()>,
) -> Return {
    guarded(&mut || {
        let shared = library::node()?;
        let real_ns = library::real_ns();
        let mut run = |node: &mut Node, verdict: Result<()>| {
            let now_ns = node.now(real_ns);
            let answer = verdict
                .and_then(|()| loaded(node))
                .and_then(|()| body(&mut Context { node, now_ns }));
            let code = answer.err().unwrap_or(Code::SUCCESS);
            node.leave(function, gpu, std::process::id(), code, now_ns);
            answer
        };
        let entered = shared.with_unreaped(|node| {
            let entered = node.enter(function, gpu);
            if entered.delay_ms == 0 {
                Ok(run(node, entered.verdict))
            } else {
                Err(entered)
            }
        });
        match entered.map_err(library::unreachable_node)? {
            Ok(answer) => answer,
            Err(entered) => {
                std::thread::sleep(Duration::from_millis(entered.delay_ms.into()));
                let answer = shared.with_unreaped(|node| run(node, entered.verdict));
                answer.map_err(library::unreachable_node)?
            }
        }
    })
}

/// A process that was initialised before the driver was unloaded gets no further. A version mismatch concerns who comes
/// later.
///
/// # Errors
/// DRIVER_NOT_LOADED.
pub(crate) fn loaded(node: &Node) -> Result<()> {
    match node.driver_state() {
        DriverState::Unloaded => Err(Code::DRIVER_NOT_LOADED),
        DriverState::Loaded | DriverState::Mismatch => Ok(()),
    }
}

/// Runs a call that takes the lock itself, or waits: fault and delay before it, its answer logged after it.
pub(crate) fn unlocked<T>(
    shared: &SharedNode,
    function: Function,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let entered = shared.with_unreaped(|node| node.enter(function, None));
    let entered = entered.map_err(library::unreachable_node)?;
    std::thread::sleep(Duration::from_millis(entered.delay_ms.into()));
    let answer = entered.verdict.and_then(|()| body());
    let code = answer.as_ref().err().copied().unwrap_or(Code::SUCCESS);
    let logged = shared.with_unreaped(|node| {
        let now_ns = node.now(library::real_ns());
        node.leave(function, None, std::process::id(), code, now_ns);
    });
    logged.map_err(library::unreachable_node)?;
    answer
}

/// A call that looks after the node itself: waits, or runs before initialisation.
pub(crate) fn guarded(body: &mut dyn FnMut() -> Result<()>) -> Return {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Code::SUCCESS.get(),
        Ok(Err(code)) => code.get(),
        Err(_panic) => Code::UNKNOWN.get(),
    }
}
