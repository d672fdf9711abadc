//! Primary contexts and the stack of current contexts of a thread.
//!
//! A context handle is a number that holds the ordinal of its device; it is valid while the primary context is
//! retained.

use std::cell::RefCell;

use crate::entry::{Context, entries};
use crate::pointer::Out;
use crate::status::{Result, Status};

/// Tag of a context handle, in its upper bits.
const TAG: usize = 0x71 << 40;

thread_local! {
    /// Ordinals of the current contexts of this thread, the current one last; `None` is "no context".
    static STACK: RefCell<Vec<Option<u32>>> = const { RefCell::new(Vec::new()) };
}

entries! {
    /// Retains the primary context; the first time it is created.
    fn cuDevicePrimaryCtxRetain(context: Out<usize>, device: i32) |cx| {
        context.require()?;
        let ordinal = ordinal_of(cx, device)?;
        cx.reap();
        cx.here.retain(cx.node, ordinal, cx.now_ns)?;
        context.set(to_handle(ordinal))
    }

    /// Releases the primary context.
    fn cuDevicePrimaryCtxRelease_v2(device: i32) |cx| {
        let ordinal = ordinal_of(cx, device)?;
        cx.here.release(cx.node, ordinal)
    }

    /// The first symbol.
    fn cuDevicePrimaryCtxRelease(device: i32) |cx| {
        let ordinal = ordinal_of(cx, device)?;
        cx.here.release(cx.node, ordinal)
    }

    /// Destroys the primary context whatever its count.
    fn cuDevicePrimaryCtxReset_v2(device: i32) |cx| {
        let ordinal = ordinal_of(cx, device)?;
        cx.here.destroy_context(cx.node, ordinal)
    }

    /// Whether the primary context exists; flags are always 0.
    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) |cx| {
        let ordinal = ordinal_of(cx, device)?;
        flags.set(0)?;
        active.set(i32::from(cx.here.has_context(ordinal)))
    }

    /// Replaces the current context; 0 takes it away.
    fn cuCtxSetCurrent(context: usize) |cx| {
        let entry = if context == 0 { None } else { Some(from_handle(cx, context)?) };
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            if entry.is_some() {
                stack.push(entry);
            }
        });
        Ok(())
    }

    /// The current context, or 0.
    fn cuCtxGetCurrent(context: Out<usize>) |_| {
        context.set(top().map_or(0, to_handle))
    }

    /// Makes a context current on top of the others.
    fn cuCtxPushCurrent_v2(context: usize) |cx| {
        let ordinal = from_handle(cx, context)?;
        STACK.with_borrow_mut(|stack| stack.push(Some(ordinal)));
        Ok(())
    }

    /// Takes the current context from the stack.
    fn cuCtxPopCurrent_v2(context: Out<usize>) |_| {
        let popped = STACK.with_borrow_mut(Vec::pop).flatten().ok_or(Status::INVALID_CONTEXT)?;
        context.set_if_wanted(to_handle(popped));
        Ok(())
    }

    /// Device of the current context.
    fn cuCtxGetDevice(device: Out<i32>) |cx| {
        device.require()?;
        let ordinal = current(cx)?;
        device.set(i32::try_from(ordinal).unwrap_or(i32::MAX))
    }

    /// Waits for work: there is never any.
    fn cuCtxSynchronize() |cx| {
        let ordinal = current(cx)?;
        let device = cx.here.device(ordinal.cast_signed())?;
        cx.node.gpu_usable(device.slot())?;
        Ok(())
    }
}

/// The device of the current context of this thread.
///
/// # Errors
/// INVALID_CONTEXT: none, or one that was destroyed.
pub(crate) fn current(cx: &Context<'_>) -> Result<u32> {
    top()
        .filter(|&ordinal| cx.here.has_context(ordinal))
        .ok_or(Status::INVALID_CONTEXT)
}

fn top() -> Option<u32> {
    STACK.with_borrow(|stack| stack.last().copied().flatten())
}

fn ordinal_of(cx: &Context<'_>, device: i32) -> Result<u32> {
    cx.here.device(device)?;
    u32::try_from(device).map_err(|_| Status::INVALID_DEVICE)
}

fn to_handle(ordinal: u32) -> usize {
    TAG | ordinal as usize
}

fn from_handle(cx: &Context<'_>, context: usize) -> Result<u32> {
    let ordinal = context
        .checked_sub(TAG)
        .and_then(|ordinal| u32::try_from(ordinal).ok());
    ordinal
        .filter(|&ordinal| cx.here.has_context(ordinal))
        .ok_or(Status::INVALID_CONTEXT)
}
