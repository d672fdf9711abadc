//! The way of every call: injected fault and delay → initialised? → body → call log, with panics caught.
//!
//! An injected code is taken as a `CUresult`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gpushared_driver_sim::{Code, Function, Node};
use gpushared_driver_sim_state::{client_is_alive, real_ns};

use crate::process::{Here, here, initialised, node};
use crate::status::{Result, Status};

/// Declares exported functions. The body runs with this process's state and the node locked.
macro_rules! entries {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) |$cx:pat_param| $body:block)*) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers are null or valid as CUDA documents for this function, during the call.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::status::Status {
            const FUNCTION: gpushared_driver_sim::Function =
                gpushared_driver_sim::Function::new(stringify!($name));
            $crate::entry::call(FUNCTION, &mut |$cx: &mut $crate::entry::Context<'_>| $body)
        }
    )*};
}
pub(crate) use entries;

/// One call at work.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The node.
    pub(crate) node: &'a mut Node,
    /// This process.
    pub(crate) here: &'a mut Here,
    /// The node's time.
    pub(crate) now_ns: u64,
}

impl Context<'_> {
    /// Forgets clients whose process is gone: for answers that depend on who is alive.
    pub(crate) fn reap(&mut self) {
        self.node.reap_clients(client_is_alive);
    }
}

/// Runs one call of an initialised process.
pub(crate) fn call(
    function: Function,
    body: &mut dyn FnMut(&mut Context<'_>) -> Result<()>,
) -> Status {
    observed(function, &mut |node, now_ns| {
        let mut state = here();
        let here = initialised(&mut state)?;
        body(&mut Context { node, here, now_ns })
    })
}

/// Runs one call that works without `cuInit`.
pub(crate) fn observed(
    function: Function,
    body: &mut dyn FnMut(&mut Node, u64) -> Result<()>,
) -> Status {
    guarded(&mut || {
        let shared = node()?;
        let entered = shared.with_unreaped(|node| node.enter(function, None));
        let entered = entered.map_err(|_| Status::UNKNOWN)?;
        std::thread::sleep(Duration::from_millis(entered.delay_ms.into()));
        let answer = shared.with_unreaped(|node| {
            let now_ns = node.now(real_ns());
            let verdict = entered.verdict.map_err(|code| Status(code.get()));
            let answer = verdict.and_then(|()| body(node, now_ns));
            let code = answer
                .err()
                .map_or(Code::SUCCESS, |Status(number)| Code::new(number));
            node.leave(function, None, std::process::id(), code, now_ns);
            answer
        });
        answer.map_err(|_| Status::UNKNOWN)?
    })
}

/// Runs what needs no node at all.
pub(crate) fn guarded(body: &mut dyn FnMut() -> Result<()>) -> Status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::SUCCESS,
        Ok(Err(status)) => status,
        Err(_panic) => Status::UNKNOWN,
    }
}
