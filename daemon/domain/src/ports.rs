//! The door to the hardware, as the domain sees it.
//!
//! Callers run every method on the one thread that owns the driver; a method may block for as long as the driver
//! does (seconds, or for ever on a sick GPU), so nobody else may wait for it without a deadline of their own.
//! Implementers: `gpushared-nvml` over the driver's library, `gpushared-driver-sim` in process.

use std::fmt;
use std::time::Duration;

use crate::health::Probe;
use crate::ids::{ComputeInstanceId, GpuInstanceId, GpuUuid, HostPid};
use crate::inventory::{DriverInfo, Inventory};
use crate::mig::{ComputeInstance, GpuInstance, MigModeActivation, MigProfileId, Placement};

/// What the driver answered instead of success, as NVML codes have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DriverFault {
    /// The library `libnvidia-ml.so.1` could not be loaded.
    #[error("libnvidia-ml.so.1 could not be loaded")]
    LibraryMissing,
    /// The library lacks a function that is needed.
    #[error("the driver's library has no such function")]
    FunctionMissing,
    /// The kernel module is not loaded.
    #[error("the NVIDIA driver is not loaded")]
    DriverNotLoaded,
    /// Library and kernel module differ: the driver was replaced under us.
    #[error("driver and library versions differ")]
    VersionMismatch,
    /// Not on this GPU, or not in this mode.
    #[error("not supported")]
    NotSupported,
    /// Not with our rights.
    #[error("no permission")]
    NoPermission,
    /// An argument that the driver does not know.
    #[error("invalid argument")]
    InvalidArgument,
    /// No such thing (any more).
    #[error("not found")]
    NotFound,
    /// Somebody uses it.
    #[error("in use")]
    InUse,
    /// The place is taken, or the profile's maximum is reached.
    #[error("insufficient resources")]
    InsufficientResources,
    /// The GPU is off the bus.
    #[error("GPU is lost")]
    GpuLost,
    /// The GPU wants a reset.
    #[error("GPU needs a reset")]
    ResetRequired,
    /// No answer in time.
    #[error("timeout")]
    Timeout,
    /// Any other NVML code.
    #[error("NVML code {0}")]
    Other(u32),
}

/// What can be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Worth another try later.
    Temporary,
    /// The same call fails again until somebody changes something.
    Permanent,
    /// The GPU is in trouble, not the call.
    GpuTrouble,
    /// The driver as a whole is: the process has to start again.
    DriverTrouble,
}

/// A driver call that failed: what was wanted, and the driver's answer as source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuDriverError {
    /// What was being done and to what, e.g. `creating 19@3 on GPU-…`.
    pub doing: String,
    /// The answer.
    pub fault: DriverFault,
}

impl GpuDriverError {
    /// With what was being done.
    #[must_use]
    pub fn new(doing: impl Into<String>, fault: DriverFault) -> Self {
        Self {
            doing: doing.into(),
            fault,
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self.fault {
            DriverFault::InUse | DriverFault::Timeout => ErrorClass::Temporary,
            DriverFault::GpuLost | DriverFault::ResetRequired => ErrorClass::GpuTrouble,
            DriverFault::DriverNotLoaded
            | DriverFault::VersionMismatch
            | DriverFault::LibraryMissing => ErrorClass::DriverTrouble,
            _ => ErrorClass::Permanent,
        }
    }
}

impl fmt::Display for GpuDriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl std::error::Error for GpuDriverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// Device memory at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All of it.
    pub total: u64,
    /// Taken by clients, and by the driver where it does not tell that apart.
    pub used: u64,
    /// Kept by the driver; `None` where it does not say.
    pub reserved: Option<u64>,
}

/// A process with a context on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuProcess {
    /// Its id in the host's PID namespace.
    pub pid: HostPid,
    /// Its device memory in bytes; `None` where the driver does not say.
    pub used_memory: Option<u64>,
    /// GPU instance, with MIG.
    pub gpu_instance: Option<GpuInstanceId>,
    /// Compute instance, with MIG.
    pub compute_instance: Option<ComputeInstanceId>,
}

/// Something that the driver reported by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuEvent {
    /// The GPU, or the parent GPU of a MIG device.
    pub gpu: GpuUuid,
    /// GPU instance, where the event is of one.
    pub gpu_instance: Option<GpuInstanceId>,
    /// Compute instance, where the event is of one.
    pub compute_instance: Option<ComputeInstanceId>,
    /// What.
    pub kind: GpuEventKind,
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuEventKind {
    /// Critical Xid.
    Xid(u64),
    /// Single-bit ECC error, corrected.
    SingleBitEcc,
    /// Double-bit ECC error, not corrected.
    DoubleBitEcc,
    /// Somebody changed the MIG layout.
    MigConfigChange,
}

/// The GPUs of this node.
pub trait GpuDriver: Send {
    /// The driver and its library.
    ///
    /// # Errors
    /// When the driver does not answer at all.
    fn info(&mut self) -> Result<DriverInfo, GpuDriverError>;

    /// Everything at this moment. A GPU that cannot be described is listed in `unreadable`, not an error.
    ///
    /// # Errors
    /// When the driver as a whole does not answer.
    fn observe(&mut self) -> Result<Inventory, GpuDriverError>;

    /// A cheap look at one GPU; must go through to the GPU, not be answered from a cache.
    fn probe(&mut self, gpu: &GpuUuid) -> Probe;

    /// Turns MIG mode on or off. The result says whether it is in force.
    ///
    /// # Errors
    /// When the driver refuses.
    fn set_mig_mode(
        &mut self,
        gpu: &GpuUuid,
        enabled: MigSwitch,
    ) -> Result<MigModeActivation, GpuDriverError>;

    /// Makes a GPU instance at exactly that placement; one that came out elsewhere is destroyed again.
    ///
    /// # Errors
    /// When the driver refuses, or placed it elsewhere.
    fn create_gpu_instance(
        &mut self,
        gpu: &GpuUuid,
        profile: MigProfileId,
        placement: Placement,
    ) -> Result<GpuInstance, GpuDriverError>;

    /// Makes the compute instance that covers the whole GPU instance.
    ///
    /// # Errors
    /// When every profile that covers it is refused.
    fn create_compute_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
    ) -> Result<ComputeInstance, GpuDriverError>;

    /// Destroys a compute instance. One that is gone already counts as success.
    ///
    /// # Errors
    /// When the driver refuses ([`DriverFault::InUse`] while somebody uses it).
    fn destroy_compute_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
        compute: ComputeInstanceId,
    ) -> Result<(), GpuDriverError>;

    /// Destroys a GPU instance without compute instances. One that is gone already counts as success.
    ///
    /// # Errors
    /// When the driver refuses.
    fn destroy_gpu_instance(
        &mut self,
        gpu: &GpuUuid,
        instance: GpuInstanceId,
    ) -> Result<(), GpuDriverError>;

    /// Memory of a GPU, or of one of its GPU instances.
    ///
    /// # Errors
    /// When the driver does not answer for it.
    fn memory(
        &mut self,
        gpu: &GpuUuid,
        instance: Option<GpuInstanceId>,
    ) -> Result<DeviceMemory, GpuDriverError>;

    /// Compute processes on a GPU with all its instances, MPS clients among them.
    ///
    /// # Errors
    /// When the driver does not answer for it.
    fn processes(&mut self, gpu: &GpuUuid) -> Result<Vec<GpuProcess>, GpuDriverError>;
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigSwitch {
    /// MIG mode on.
    On,
    /// MIG mode off.
    Off,
}

/// Events of the node's GPUs, waited for on a thread of its own.
pub trait GpuEvents: Send {
    /// The next event, or `None` after `timeout`. Blocks.
    ///
    /// # Errors
    /// When the wait itself fails; [`DriverFault::GpuLost`] may name no GPU.
    fn wait(&mut self, timeout: Duration) -> Result<Option<GpuEvent>, GpuDriverError>;
}
