//! Event sets. A wait sleeps in the kernel until the node changes: nothing is polled, and no lock is held.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gpushared_driver_sim::{Code, Event, EventSet, Function, GpuSlot, NO_INSTANCE, Result};
use gpushared_driver_sim_state::SharedNode;

use crate::abi::event::{EventDataV1, EventDataV2};
use crate::abi::{DeviceHandle, EventSetHandle, Return};
use crate::context::{gpu_handle, is_privileged};
use crate::entry::{entries, guarded, loaded, unlocked};
use crate::library;
use crate::local::{EVENT_SETS, hold};
use crate::pointer::Out;

entries! {
    /// An empty set.
    fn nvmlEventSetCreate(set: Out<EventSetHandle>) |cx| {
        set.require()?;
        set.set(EVENT_SETS.insert(EventSet::new(cx.node)))
    }

    /// Adds types of a GPU to a set; a GPU that lacks one of them adds none.
    fn nvmlDeviceRegisterEvents(device: DeviceHandle, types: u64, set: EventSetHandle) |cx| {
        let gpu = cx.board(device)?;
        let set = EVENT_SETS.get(set)?;
        hold(&set).register(cx.node, gpu, types)
    }

    /// Types that a GPU supports.
    fn nvmlDeviceGetSupportedEventTypes(device: DeviceHandle, types: Out<u64>) |cx| {
        let gpu = cx.board(device)?;
        types.set(cx.node.supported_events(gpu)?)
    }

    /// Frees a set; a wait on it goes on to its end.
    fn nvmlEventSetFree(set: EventSetHandle) |_| {
        EVENT_SETS.remove(set)
    }
}

/// `nvmlEventSetWait_v2`: the next event with its instances, or TIMEOUT, or GPU_IS_LOST when a GPU of the set is.
///
/// # Safety
/// `data` is null or valid for writing one `nvmlEventData_t`, during the call.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlEventSetWait_v2(
    set: EventSetHandle,
    data: Out<EventDataV2>,
    timeout_ms: u32,
) -> Return {
    const FUNCTION: Function = Function::new("nvmlEventSetWait_v2");
    guarded(&mut || {
        data.require()?;
        data.set(wait(FUNCTION, set, timeout_ms)?)
    })
}

/// `nvmlEventSetWait`: the same, without the instances.
///
/// # Safety
/// `data` is null or valid for writing the first 24 bytes of `nvmlEventData_t`, during the call.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlEventSetWait(
    set: EventSetHandle,
    data: Out<EventDataV1>,
    timeout_ms: u32,
) -> Return {
    const FUNCTION: Function = Function::new("nvmlEventSetWait");
    guarded(&mut || {
        data.require()?;
        data.set(wait(FUNCTION, set, timeout_ms)?.v1)
    })
}

/// Waits for the next event of a set.
fn wait(function: Function, set: EventSetHandle, timeout_ms: u32) -> Result<EventDataV2> {
    let shared = library::node()?;
    unlocked(&shared, function, || {
        let set = EVENT_SETS.get(set)?;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        loop {
            // Taken before looking, so that what happens in between is not slept through.
            let seen = shared.change();
            if let Some(event) = next(&shared, &set)? {
                return Ok(event_data(&event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Code::TIMEOUT);
            }
            // Woken or not: look once more; a change may be anything, and the deadline is checked after.
            shared.wait(seen, left);
        }
    })
}

fn next(shared: &SharedNode, set: &Mutex<EventSet>) -> Result<Option<Event>> {
    shared
        .with_unreaped(|node| {
            loaded(node)?;
            let mut set = hold(set);
            // Events of single instances are for the privileged; others get those of the whole GPU.
            let mine = |event: &Event| event.gi == NO_INSTANCE || is_privileged();
            match std::iter::from_fn(|| set.poll(node)).find(mine) {
                None if set.waits_for_lost(node) => Err(Code::GPU_IS_LOST),
                found => Ok(found),
            }
        })
        .map_err(library::unreachable_node)?
}

fn event_data(event: &Event) -> EventDataV2 {
    EventDataV2 {
        v1: EventDataV1 {
            device: gpu_handle(GpuSlot::new(event.gpu)),
            kind: event.kind,
            data: event.data,
        },
        gpu_instance: event.gi,
        compute_instance: event.ci,
    }
}
