//! [`NvmlEvents`]: Xids, ECC errors and MIG changes, waited for on a thread of their own.
//!
//! The set is rebuilt whenever a wait fails: a lost GPU makes each wait on its set fail at once, and its registration
//! does not come back with it. GPUs that are not in the set (lost, unplugged, new) are tried again now and then. An
//! event that falls into such a gap is lost; probes see what matters of it.

use std::thread;
use std::time::{Duration, Instant};

use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId, GpuUuid};
use gpushared_domain::ports::{GpuDriverError, GpuEvent, GpuEventKind, GpuEvents};
use nvml_wrapper::{Device, Nvml};

use crate::error::error;
use crate::raw::Answer;
use crate::raw::events::{EventSet, RawEvent, same_device, supported, types};

const WANTED: u64 =
    types::XID | types::SINGLE_BIT_ECC | types::DOUBLE_BIT_ECC | types::MIG_CONFIG_CHANGE;
/// Between two tries to register GPUs that are not in the set.
const RETRY: Duration = Duration::from_secs(10);

/// Events of all GPUs of the node.
#[derive(Debug)]
pub struct NvmlEvents {
    nvml: &'static Nvml,
    set: EventSet,
    registered: Vec<(Device<'static>, GpuUuid)>,
    next_try: Instant,
}

impl NvmlEvents {
    pub(crate) fn new(nvml: &'static Nvml) -> Result<Self, GpuDriverError> {
        let mut events = Self {
            nvml,
            set: new_set(nvml)?,
            registered: Vec::new(),
            next_try: Instant::now(),
        };
        events.register();
        Ok(events)
    }

    /// GPUs whose events are waited for.
    pub fn registered(&self) -> impl Iterator<Item = &GpuUuid> {
        self.registered.iter().map(|(_, uuid)| uuid)
    }

    /// Makes the set anew with the GPUs that are there: after a reset, or when one came back. Events that wait in the
    /// old set are lost.
    ///
    /// # Errors
    /// When the library refuses a set; the old one stays.
    pub fn renew(&mut self) -> Result<(), GpuDriverError> {
        self.set = new_set(self.nvml)?;
        self.registered.clear();
        self.register();
        Ok(())
    }

    /// Adds GPUs that are not in the set; those that refuse are left for later.
    fn register(&mut self) {
        self.next_try = Instant::now() + RETRY;
        let Ok(count) = self.nvml.device_count() else {
            return;
        };
        if usize::try_from(count) == Ok(self.registered.len()) {
            return;
        }
        for index in 0..count {
            if let Err(refusal) = self.register_gpu(index) {
                tracing::debug!(index, %refusal, "GPU reports no events");
            }
        }
    }

    fn register_gpu(&mut self, index: u32) -> Answer<()> {
        let device = self.nvml.device_by_index(index)?;
        let uuid: GpuUuid = device.uuid()?.parse()?;
        if self.registered.iter().any(|(_, known)| *known == uuid) {
            return Ok(());
        }
        // One kind that the GPU does not have would refuse them all.
        let kinds = supported(&device)? & WANTED;
        if kinds != 0 {
            self.set.register(&device, kinds)?;
        }
        self.registered.push((device, uuid));
        Ok(())
    }

    fn event(&self, raw: &RawEvent) -> Option<GpuEvent> {
        let kind = match raw.kind {
            types::XID => GpuEventKind::Xid(raw.data),
            types::SINGLE_BIT_ECC => GpuEventKind::SingleBitEcc,
            types::DOUBLE_BIT_ECC => GpuEventKind::DoubleBitEcc,
            types::MIG_CONFIG_CHANGE => GpuEventKind::MigConfigChange,
            _ => return None,
        };
        // By handle, not by asking: a GPU that just died does not tell its UUID any more.
        let known = self
            .registered
            .iter()
            .find(|(device, _)| same_device(device, &raw.device))
            .map(|(_, uuid)| uuid.clone());
        let gpu = known.or_else(|| parent_uuid(&raw.device))?;
        Some(GpuEvent {
            gpu,
            gpu_instance: raw.gpu_instance.map(GpuInstanceId),
            compute_instance: raw.compute_instance.map(ComputeInstanceId),
            kind,
        })
    }
}

impl GpuEvents for NvmlEvents {
    fn wait(&mut self, timeout: Duration) -> Result<Option<GpuEvent>, GpuDriverError> {
        if Instant::now() >= self.next_try {
            self.register();
        }
        if self.registered.is_empty() {
            // Nothing to wait on; drivers differ in what they say to an empty set.
            thread::sleep(timeout.min(RETRY));
            return Ok(None);
        }
        match self.set.wait(timeout) {
            Ok(None) => Ok(None),
            Ok(Some(raw)) => Ok(self.event(&raw)),
            Err(refusal) => {
                let failed = error("waiting for events of GPUs", &refusal);
                self.renew()?;
                Err(failed)
            }
        }
    }
}

fn new_set(nvml: &'static Nvml) -> Result<EventSet, GpuDriverError> {
    EventSet::new(nvml).map_err(|refusal| error("making an event set", &refusal))
}

/// The GPU of a device that is not registered: its own UUID, or its parent's for a MIG device.
fn parent_uuid(device: &Device<'static>) -> Option<GpuUuid> {
    let uuid = device.uuid().ok()?;
    match uuid.parse() {
        Ok(uuid) => Some(uuid),
        Err(_) => device.mig_parent_device().ok()?.uuid().ok()?.parse().ok(),
    }
}
