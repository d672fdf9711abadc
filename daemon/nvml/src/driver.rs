//! [`NvmlDriver`]: the port, method by method.

use std::path::PathBuf;

use gpushared_domain::health::Probe;
use gpushared_domain::ids::{ComputeInstanceId, GpuInstanceId, GpuUuid};
use gpushared_domain::inventory::{DriverInfo, Inventory};
use gpushared_domain::mig::{
    ComputeInstance, GpuInstance, MigModeActivation, MigProfileId, Placement,
};
use gpushared_domain::ports::{
    DeviceMemory, DriverFault, GpuDriver, GpuDriverError, GpuProcess, MigSwitch,
};

use crate::events::NvmlEvents;

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
pub struct NvmlDriver {}

impl NvmlDriver {
    /// Loads and initialises the driver's library. Call it once: the library stays loaded for the life of the
    /// process.
    ///
    /// # Errors
    /// [`DriverFault::LibraryMissing`]: no such library, or it cannot be loaded.
    /// [`DriverFault::FunctionMissing`]: the library is too old; the error names the function.
    /// [`DriverFault::DriverNotLoaded`]: no kernel module. [`DriverFault::VersionMismatch`]: the driver was replaced
    /// and needs a reboot or a reload. Any other fault: what `nvmlInit` said.
    pub fn open(_settings: &NvmlSettings) -> Result<Self, GpuDriverError> {
        Err(GpuDriverError::new("opening", DriverFault::LibraryMissing))
    }

    /// The node's events, to be waited for on another thread. GPUs that cannot be registered are left out and tried
    /// again later.
    ///
    /// # Errors
    /// When the library lacks events or refuses a set.
    pub fn events(&self) -> Result<NvmlEvents, GpuDriverError> {
        Err(GpuDriverError::new("opening", DriverFault::LibraryMissing))
    }
}

fn missing<T>() -> Result<T, GpuDriverError> {
    Err(GpuDriverError::new("calling", DriverFault::FunctionMissing))
}

impl GpuDriver for NvmlDriver {
    fn info(&mut self) -> Result<DriverInfo, GpuDriverError> {
        missing()
    }
    fn observe(&mut self) -> Result<Inventory, GpuDriverError> {
        missing()
    }
    fn probe(&mut self, _gpu: &GpuUuid) -> Probe {
        Probe::Lost
    }
    fn set_mig_mode(
        &mut self,
        _gpu: &GpuUuid,
        _enabled: MigSwitch,
    ) -> Result<MigModeActivation, GpuDriverError> {
        missing()
    }
    fn create_gpu_instance(
        &mut self,
        _gpu: &GpuUuid,
        _profile: MigProfileId,
        _placement: Placement,
    ) -> Result<GpuInstance, GpuDriverError> {
        missing()
    }
    fn create_compute_instance(
        &mut self,
        _gpu: &GpuUuid,
        _instance: GpuInstanceId,
    ) -> Result<ComputeInstance, GpuDriverError> {
        missing()
    }
    fn destroy_compute_instance(
        &mut self,
        _gpu: &GpuUuid,
        _instance: GpuInstanceId,
        _compute: ComputeInstanceId,
    ) -> Result<(), GpuDriverError> {
        missing()
    }
    fn destroy_gpu_instance(
        &mut self,
        _gpu: &GpuUuid,
        _instance: GpuInstanceId,
    ) -> Result<(), GpuDriverError> {
        missing()
    }
    fn memory(
        &mut self,
        _gpu: &GpuUuid,
        _instance: Option<GpuInstanceId>,
    ) -> Result<DeviceMemory, GpuDriverError> {
        missing()
    }
    fn processes(&mut self, _gpu: &GpuUuid) -> Result<Vec<GpuProcess>, GpuDriverError> {
        missing()
    }
}
