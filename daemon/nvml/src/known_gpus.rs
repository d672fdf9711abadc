//! The GPUs that were described once: what does not change about them is kept, and a GPU whose handle may be from before
//! a reset is forgotten and looked up again by the next call.

use std::path::PathBuf;

use gpushared_domain::ids::{GpuIndex, GpuUuid};
use gpushared_domain::inventory::GpuState;
use gpushared_domain::ports::{DriverFault, GpuDriverError};
use nvml_wrapper::Nvml;

use crate::error::{error, fault};
use crate::gpu::Gpu;
use crate::raw::{Answer, Refusal};

/// The GPUs of the node, as far as they are known.
#[derive(Debug)]
pub(crate) struct KnownGpus {
    nvml: &'static Nvml,
    sysroot: PathBuf,
    known: Vec<Gpu>,
}

impl KnownGpus {
    pub(crate) fn new(nvml: &'static Nvml, sysroot: PathBuf) -> Self {
        Self {
            nvml,
            sysroot,
            known: Vec::new(),
        }
    }

    /// Is the GPU known?
    pub(crate) fn has(&self, uuid: &GpuUuid) -> bool {
        self.known.iter().any(|gpu| gpu.facts.uuid == *uuid)
    }

    /// Forgets all but these.
    pub(crate) fn keep(&mut self, mut wanted: impl FnMut(&GpuUuid) -> bool) {
        self.known.retain(|gpu| wanted(&gpu.facts.uuid));
    }

    /// The GPU at an index, described.
    pub(crate) fn look(&mut self, index: GpuIndex) -> Answer<GpuState> {
        let device = self.nvml.device_by_index(index.0)?;
        let uuid: GpuUuid = device.uuid()?.parse()?;
        let mut gpu = match self.take(&uuid) {
            Some(mut known) => {
                known.renew(device, index)?;
                known
            }
            None => Gpu::read(device, uuid, &self.sysroot)?,
        };
        let state = gpu.state()?;
        self.known.push(gpu);
        Ok(state)
    }

    pub(crate) fn take(&mut self, uuid: &GpuUuid) -> Option<Gpu> {
        let position = self.known.iter().position(|gpu| gpu.facts.uuid == *uuid)?;
        Some(self.known.swap_remove(position))
    }

    /// Does something with a GPU that is known, or looked up. Where that fails as with a handle from before a reset the
    /// GPU is forgotten.
    pub(crate) fn with<T, E: MayBeStale>(
        &mut self,
        uuid: &GpuUuid,
        look_up_failed: impl FnOnce(&Refusal) -> E,
        work: impl FnOnce(&mut Gpu) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut gpu = match self.take(uuid) {
            Some(known) => known,
            None => self
                .nvml
                .device_by_uuid(uuid.as_str())
                .map_err(Refusal::from)
                .and_then(|device| Gpu::read(device, uuid.clone(), &self.sysroot))
                .map_err(|refusal| look_up_failed(&refusal))?,
        };
        let result = work(&mut gpu);
        match &result {
            Err(error) if error.may_be_stale() => {}
            _ => self.known.push(gpu),
        }
        result
    }

    /// [`Self::with`], for what fails with the domain's error.
    pub(crate) fn on_gpu<T>(
        &mut self,
        uuid: &GpuUuid,
        work: impl FnOnce(&mut Gpu) -> Result<T, GpuDriverError>,
    ) -> Result<T, GpuDriverError> {
        let look_up = |refusal: &Refusal| error(format!("looking up {uuid}"), refusal);
        self.with(uuid, look_up, work)
    }
}

/// An error that a handle from before a reset would bring.
pub(crate) trait MayBeStale {
    fn may_be_stale(&self) -> bool;
}

impl MayBeStale for DriverFault {
    fn may_be_stale(&self) -> bool {
        matches!(
            self,
            Self::GpuLost | Self::ResetRequired | Self::NotFound | Self::InvalidArgument
        )
    }
}

impl MayBeStale for Refusal {
    fn may_be_stale(&self) -> bool {
        fault(self).may_be_stale()
    }
}

impl MayBeStale for GpuDriverError {
    fn may_be_stale(&self) -> bool {
        self.fault.may_be_stale()
    }
}
