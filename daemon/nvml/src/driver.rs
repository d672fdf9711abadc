//! [`NvmlDriver`]: the port, method by method.

use std::path::PathBuf;

use gpushared_domain::health::Probe;
use gpushared_domain::ids::{ComputeInstanceId, GpuIndex, GpuInstanceId, GpuUuid, HostPid};
use gpushared_domain::inventory::{DriverInfo, Inventory};
use gpushared_domain::mig::{
    ComputeInstance, GpuInstance, MigModeActivation, MigProfileId, Placement,
};
use gpushared_domain::ports::{DeviceMemory, GpuDriver, GpuDriverError, GpuProcess, MigSwitch};
use nvml_wrapper::Nvml;

use crate::error::{error, fault, is_of_driver, probe};
use crate::events::NvmlEvents;
use crate::gpu::Gpu;
use crate::known_gpus::KnownGpus;
use crate::raw::gpu_instance::GpuInstanceHandle;
use crate::raw::{Answer, Refusal, code, memory, processes};
use crate::{health, library};

/// Where the driver is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlSettings {
    /// The library file; `None` lets the loader find `libnvidia-ml.so.1` by its soname.
    pub library: Option<PathBuf>,
    /// `/`, or the root of a simulated or relocated node: `sys/bus/pci` below it tells NUMA nodes.
    pub sysroot: PathBuf,
}

impl Default for NvmlSettings {
    fn default() -> Self {
        Self {
            library: None,
            sysroot: PathBuf::from("/"),
        }
    }
}

/// The GPUs of this node through NVML.
#[derive(Debug)]
pub struct NvmlDriver {
    nvml: &'static Nvml,
    info: DriverInfo,
    gpus: KnownGpus,
}

impl NvmlDriver {
    /// Loads and initialises the driver's library. Call it once: the library stays loaded for the life of the
    /// process.
    ///
    /// # Errors
    /// [`DriverFault::LibraryMissing`]: no such library, or it cannot be loaded.
    /// [`DriverFault::FunctionMissing`]: the library is too old; the error names the function.
    /// [`DriverFault::DriverNotLoaded`]: no kernel module. [`DriverFault::VersionMismatch`]: the driver was replaced
    /// and needs a reboot or a reload. Any other fault: what `nvmlInit` said.
    ///
    /// [`DriverFault::LibraryMissing`]: gpushared_domain::ports::DriverFault::LibraryMissing
    /// [`DriverFault::FunctionMissing`]: gpushared_domain::ports::DriverFault::FunctionMissing
    /// [`DriverFault::DriverNotLoaded`]: gpushared_domain::ports::DriverFault::DriverNotLoaded
    /// [`DriverFault::VersionMismatch`]: gpushared_domain::ports::DriverFault::VersionMismatch
    pub fn open(settings: &NvmlSettings) -> Result<Self, GpuDriverError> {
        let (nvml, info) = library::open(settings.library.as_deref())?;
        Ok(Self {
            nvml,
            info,
            gpus: KnownGpus::new(nvml, settings.sysroot.clone()),
        })
    }

    /// The node's events, to be waited for on another thread. GPUs that cannot be registered are left out and tried
    /// again later.
    ///
    /// # Errors
    /// When the library lacks events or refuses a set.
    pub fn events(&self) -> Result<NvmlEvents, GpuDriverError> {
        NvmlEvents::new(self.nvml)
    }
}

impl GpuDriver for NvmlDriver {
    fn info(&mut self) -> Result<DriverInfo, GpuDriverError> {
        self.info = library::info(self.nvml)
            .map_err(|refusal| error("asking for the driver's versions", &refusal))?;
        Ok(self.info.clone())
    }

    fn observe(&mut self) -> Result<Inventory, GpuDriverError> {
        let count = self
            .nvml
            .device_count()
            .map_err(|why| error("counting GPUs", &why.into()))?;
        let mut inventory = Inventory {
            driver: self.info.clone(),
            gpus: Vec::new(),
            unreadable: Vec::new(),
        };
        for index in (0..count).map(GpuIndex) {
            match self.gpus.look(index) {
                Ok(state) => inventory.gpus.push(state),
                Err(refusal) if is_of_driver(&refusal) => {
                    return Err(error(format!("describing GPU {index}"), &refusal));
                }
                Err(refusal) => inventory.unreadable.push((index, why(&refusal))),
            }
        }
        // GPUs that are gone.
        self.gpus.keep(|uuid| inventory.gpu(uuid).is_some());
        Ok(inventory)
    }

    fn probe(&mut self, gpu: &GpuUuid) -> Probe {
        let known = self.gpus.has(gpu);
        let look = |driver: &mut Self| {
            driver
                .gpus
                .with(gpu, Refusal::clone, |gpu| health::look_at(&gpu.device))
        };
        match look(self) {
            Ok(answers) => answers,
            // The first try may have gone to a handle from before a reset; it is forgotten by now.
            Err(_) if known => look(self).unwrap_or_else(|refusal| probe(&refusal)),
            Err(refusal) => probe(&refusal),
        }
    }

    fn set_mig_mode(
        &mut self,
        gpu: &GpuUuid,
        enabled: MigSwitch,
    ) -> Result<MigModeActivation, GpuDriverError> {
        let (on, word) = match enabled {
            MigSwitch::On => (true, "on"),
            MigSwitch::Off => (false, "off"),
        };
        let status = self.gpus.on_gpu(gpu, |known| {
            known
                .device
                .set_mig_mode(on)
                .map_err(|why| error(format!("turning MIG mode {word} on {gpu}"), &why.into()))
        })?;
        // The change may have reset the GPU: handle and minor are looked up again.
        drop(self.gpus.take(gpu));
        Ok(activation(status))
    }

    fn create_gpu_instance(
        &mut self,
        gpu: &GpuUuid,
        profile: MigProfileId,
        placement: Placement,
    ) -> Result<GpuInstance, GpuDriverError> {
        self.gpus
            .on_gpu(gpu, |gpu| gpu.create_gpu_instance(profile, placement))
    }

    fn create_compute_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
    ) -> Result<ComputeInstance, GpuDriverError> {
        self.gpus
            .on_gpu(gpu, |gpu| gpu.create_compute_instance(instance))
    }

    fn destroy_compute_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
        compute: ComputeInstanceId,
    ) -> Result<(), GpuDriverError> {
        self.gpus
            .on_gpu(gpu, |gpu| gpu.destroy_compute_instance(instance, compute))
    }

    fn destroy_gpu_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
    ) -> Result<(), GpuDriverError> {
        self.gpus
            .on_gpu(gpu, |gpu| gpu.destroy_gpu_instance(instance))
    }

    fn memory(
        &mut self,
        gpu: &GpuUuid,
        instance: Option<GpuInstanceId>,
    ) -> Result<DeviceMemory, GpuDriverError> {
        let doing = || match instance {
            Some(instance) => format!("reading memory of GPU instance {instance} on {gpu}"),
            None => format!("reading memory of {gpu}"),
        };
        self.gpus.on_gpu(gpu, |known| {
            let memory = match instance {
                Some(instance) => instance_memory(known, instance),
                None => memory::memory(&known.device),
            };
            let memory = memory.map_err(|refusal| error(doing(), &refusal))?;
            Ok(DeviceMemory {
                total: memory.total,
                used: memory.used,
                reserved: memory.reserved,
            })
        })
    }

    fn processes(&mut self, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, GpuDriverError> {
        self.gpus.on_gpu(gpu, |known| {
            let list = processes::compute(&known.device)
                .map_err(|refusal| error(format!("listing processes on {gpu}"), &refusal))?;
            Ok(list
                .into_iter()
                .map(|process| GpuProcess {
                    pid: HostPid(process.pid),
                    used_memory: process.used_memory,
                    gpu_instance: process.gpu_instance.map(GpuInstanceId),
                    compute_instance: process.compute_instance.map(ComputeInstanceId),
                })
                .collect())
        })
    }
}

/// The number that a mode change brought besides success: it was accepted, which is not that it is in force.
fn activation(status: u32) -> MigModeActivation {
    match status {
        0 => MigModeActivation::Active,
        code::RESET_REQUIRED => MigModeActivation::ResetRequired,
        code::IN_USE => MigModeActivation::InUse,
        other => MigModeActivation::Outstanding(other),
    }
}

/// Of the MIG device of the instance's first compute instance: compute instances share their GPU instance's memory.
fn instance_memory(gpu: &mut Gpu, instance: GpuInstanceId) -> Answer<memory::Memory> {
    let handle = GpuInstanceHandle::by_id(&gpu.device, instance.0)?;
    let info = handle.info()?;
    let compute = gpu.compute_instances(&handle, &info)?;
    let (_, device) = compute.first().ok_or(Refusal::Code(code::NOT_FOUND))?;
    memory::memory(device)
}

/// Why a GPU is unreadable, for people.
fn why(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Code(_) => fault(refusal).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_mode_change_is_not_taken_for_one_in_force() {
        assert_eq!(activation(0), MigModeActivation::Active);
        assert_eq!(activation(19), MigModeActivation::InUse);
        assert_eq!(activation(16), MigModeActivation::ResetRequired);
        assert_eq!(activation(999), MigModeActivation::Outstanding(999));
    }
}
