//! An event set, raw: instance ids survive, and a GPU that refuses costs only itself.

use std::ptr;
use std::time::Duration;

use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t};

use super::{Answer, Refusal, check, code, device, function};

/// No GPU or compute instance.
const NO_INSTANCE: u32 = u32::MAX;

/// Event types, as bits.
pub(crate) mod types {
    pub(crate) const SINGLE_BIT_ECC: u64 = 0x1;
    pub(crate) const DOUBLE_BIT_ECC: u64 = 0x2;
    pub(crate) const XID: u64 = 0x8;
    pub(crate) const MIG_CONFIG_CHANGE: u64 = 0x100;
}

/// A set of GPUs and event types to wait on.
#[derive(Debug)]
pub(crate) struct EventSet {
    raw: nvmlEventSet_t,
    nvml: &'static Nvml,
}

// SAFETY: NVML is documented as thread-safe and ties a set to no thread; the set is used through `&mut self` only.
unsafe impl Send for EventSet {}

/// What came.
#[derive(Debug)]
pub(crate) struct RawEvent {
    /// The GPU.
    pub(crate) device: Device<'static>,
    /// One of [`types`].
    pub(crate) kind: u64,
    /// The Xid, of an Xid event.
    pub(crate) data: u64,
    pub(crate) gpu_instance: Option<u32>,
    pub(crate) compute_instance: Option<u32>,
}

impl EventSet {
    /// An empty set.
    pub(crate) fn new(nvml: &'static Nvml) -> Answer<Self> {
        let create = function(&nvml.lib().nvmlEventSetCreate, "nvmlEventSetCreate")?;
        // Looked up before there is a set to wait on, so that an old library is refused at once.
        function(&nvml.lib().nvmlEventSetWait_v2, "nvmlEventSetWait_v2")?;
        function(
            &nvml.lib().nvmlDeviceRegisterEvents,
            "nvmlDeviceRegisterEvents",
        )?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` takes the set's handle and lives over the call.
        check(unsafe { create(&raw mut raw) })?;
        Ok(Self { raw, nvml })
    }

    /// Adds a GPU with these event types.
    pub(crate) fn register(&mut self, of: &Device<'static>, kinds: u64) -> Answer<()> {
        let register = function(
            &self.nvml.lib().nvmlDeviceRegisterEvents,
            "nvmlDeviceRegisterEvents",
        )?;
        // SAFETY: both handles came from this library and are alive.
        check(unsafe { register(device::handle(of), kinds, self.raw) })
    }

    /// The next event, or `None` after `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Answer<Option<RawEvent>> {
        let wait = function(&self.nvml.lib().nvmlEventSetWait_v2, "nvmlEventSetWait_v2")?;
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let mut data = nvmlEventData_t {
            device: ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: NO_INSTANCE,
            computeInstanceId: NO_INSTANCE,
        };
        // SAFETY: the set is alive, the structure is the function's own and lives over the call.
        match check(unsafe { wait(self.raw, &raw mut data, milliseconds) }) {
            Ok(()) => {}
            Err(Refusal::Code(code::TIMEOUT)) => return Ok(None),
            Err(refusal) => return Err(refusal),
        }
        let instance = |id: u32| (id != NO_INSTANCE).then_some(id);
        Ok(Some(RawEvent {
            device: device::from_handle(data.device, self.nvml),
            kind: data.eventType,
            data: data.eventData,
            gpu_instance: instance(data.gpuInstanceId),
            compute_instance: instance(data.computeInstanceId),
        }))
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        if let Ok(free) = &self.nvml.lib().nvmlEventSetFree {
            // SAFETY: the set is freed once, here, and nothing waits on it (`&mut self`). A refusal leaks it.
            let _code = unsafe { free(self.raw) };
        }
    }
}

/// The event types that a GPU can report.
pub(crate) fn supported(of: &Device<'static>) -> Answer<u64> {
    let get = function(
        &of.nvml().lib().nvmlDeviceGetSupportedEventTypes,
        "nvmlDeviceGetSupportedEventTypes",
    )?;
    let mut kinds = 0;
    // SAFETY: the number lives over the call.
    check(unsafe { get(device::handle(of), &raw mut kinds) })?;
    Ok(kinds)
}

/// Do the two stand for one GPU? By handle: NVML gives the same handle for a GPU as long as it is there.
pub(crate) fn same_device(one: &Device<'static>, other: &Device<'static>) -> bool {
    device::handle(one) == device::handle(other)
}
