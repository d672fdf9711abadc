//! What a call works with: the locked node, the time, and handles turned into things of the model.
//!
//! Which handles a query takes:
//!
//! | method | GPU handle | MIG device handle | for |
//! |---|---|---|---|
//! | `target` | GPU | MIG device | name, UUID, memory, processes, GPM |
//! | `parent` | GPU | its GPU | facts of the chip |
//! | `board` | GPU | NOT_SUPPORTED | power, clocks, PCI, events: the board has them, not the instance |
//! | `whole` | GPU | NOT_SUPPORTED | as `board`, and NOT_SUPPORTED while MIG mode is in effect |
//! | `gpu` | GPU | INVALID_ARGUMENT | MIG administration, other changes |

use std::sync::atomic::{AtomicU8, Ordering};

use gpushared_driver_sim::{
    Code, ComputeInstanceId, GpuInstance, GpuInstanceId, GpuModel, GpuSlot, MigDevice, Node, Result,
};
use gpushared_driver_sim_state::client_is_alive;

use crate::abi::{ComputeInstanceHandle, DeviceHandle, GpuInstanceHandle};
use crate::handle::{Handle, Kind};

/// Environment variable that lets any user do what is root's.
const ANY_UID: &str = "GPUSIM_ANY_UID";

/// One call at work. The node's lock is held while this lives.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The node.
    pub(crate) node: &'a mut Node,
    /// The node's time.
    pub(crate) now_ns: u64,
}

/// What a device handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A GPU.
    Gpu(GpuSlot),
    /// A MIG device that exists.
    Mig(MigDevice),
}

impl Target {
    /// The GPU, or that of the MIG device.
    pub(crate) fn slot(self) -> GpuSlot {
        match self {
            Self::Gpu(slot) => slot,
            Self::Mig(device) => device.gpu,
        }
    }

    /// The instance ids, if it is a MIG device.
    pub(crate) fn instance(self) -> Option<(GpuInstanceId, ComputeInstanceId)> {
        match self {
            Self::Gpu(_) => None,
            Self::Mig(device) => Some((device.gi, device.ci)),
        }
    }
}

/// The handle of a GPU.
pub(crate) fn gpu_handle(slot: GpuSlot) -> DeviceHandle {
    Handle::gpu(slot.get()).to_raw()
}

impl Context<'_> {
    /// The handle of a GPU instance.
    ///
    /// # Errors
    /// As [`Node::gpu`]; NOT_FOUND. The same for the two below.
    pub(crate) fn gi_handle(&self, slot: GpuSlot, gi: GpuInstanceId) -> Result<GpuInstanceHandle> {
        let serial = self.node.gpu(slot)?.instance(gi)?.serial;
        Ok(Handle::gpu_instance(slot.get(), gi.get(), serial).to_raw())
    }

    /// The handle of a compute instance.
    pub(crate) fn ci_handle(&self, device: MigDevice) -> Result<ComputeInstanceHandle> {
        self.of_instance(Kind::ComputeInstance, device)
    }

    /// The handle of a MIG device.
    pub(crate) fn mig_handle(&self, device: MigDevice) -> Result<DeviceHandle> {
        self.of_instance(Kind::MigDevice, device)
    }

    fn of_instance(&self, kind: Kind, device: MigDevice) -> Result<usize> {
        let MigDevice { gpu, gi, ci } = device;
        let serial = self
            .node
            .gpu(gpu)?
            .instance(gi)?
            .compute_instance(ci)?
            .serial;
        Ok(Handle::compute_instance(kind, gpu.get(), gi.get(), ci.get(), serial).to_raw())
    }

    /// A GPU that answers, or a MIG device that exists on one.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is no device handle and for a MIG device that is gone; else as [`Node::gpu`].
    pub(crate) fn target(&self, raw: DeviceHandle) -> Result<Target> {
        let handle = Handle::from_raw(raw)?;
        let slot = GpuSlot::new(handle.slot.into());
        match handle.kind {
            Kind::Gpu => self.node.gpu(slot).map(|_| Target::Gpu(slot)),
            Kind::MigDevice => self.compute_instance(&handle).map(Target::Mig),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// The GPU of either kind of device.
    pub(crate) fn parent(&self, raw: DeviceHandle) -> Result<GpuSlot> {
        self.target(raw).map(Target::slot)
    }

    /// A GPU, for what only whole boards have.
    pub(crate) fn board(&self, raw: DeviceHandle) -> Result<GpuSlot> {
        match self.target(raw)? {
            Target::Gpu(slot) => Ok(slot),
            Target::Mig(_) => Err(Code::NOT_SUPPORTED),
        }
    }

    /// A GPU without MIG mode, for what MIG takes away.
    pub(crate) fn whole(&self, raw: DeviceHandle) -> Result<GpuSlot> {
        let slot = self.board(raw)?;
        if self.node.gpu(slot)?.mig_enabled() {
            Err(Code::NOT_SUPPORTED)
        } else {
            Ok(slot)
        }
    }

    /// A GPU, for what makes no sense on a MIG device.
    pub(crate) fn gpu(&self, raw: DeviceHandle) -> Result<GpuSlot> {
        match self.target(raw)? {
            Target::Gpu(slot) => Ok(slot),
            Target::Mig(_) => Err(Code::INVALID_ARGUMENT),
        }
    }

    /// A MIG device.
    pub(crate) fn mig(&self, raw: DeviceHandle) -> Result<MigDevice> {
        match self.target(raw)? {
            Target::Gpu(_) => Err(Code::INVALID_ARGUMENT),
            Target::Mig(device) => Ok(device),
        }
    }

    /// The ids behind a GPU instance handle.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is no such handle; NOT_FOUND for an instance that is gone.
    pub(crate) fn gi_ids(&self, raw: GpuInstanceHandle) -> Result<(GpuSlot, GpuInstanceId)> {
        let handle = Handle::from_raw(raw)?;
        if handle.kind != Kind::GpuInstance {
            return Err(Code::INVALID_ARGUMENT);
        }
        let ids = (
            GpuSlot::new(handle.slot.into()),
            GpuInstanceId::new(handle.gi.into()),
        );
        if !handle.is_of(self.node.gpu(ids.0)?.instance(ids.1)?.serial) {
            return Err(Code::NOT_FOUND);
        }
        Ok(ids)
    }

    /// A GPU instance that exists.
    ///
    /// # Errors
    /// INVALID_ARGUMENT also for an instance that is gone.
    pub(crate) fn gi(&self, raw: GpuInstanceHandle) -> Result<(GpuSlot, &GpuInstance)> {
        let (slot, gi) = self.gi_ids(raw).map_err(stale)?;
        Ok((slot, self.node.gpu(slot)?.instance(gi)?))
    }

    /// The ids behind a compute instance handle.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for what is no such handle; NOT_FOUND for an instance that is gone.
    pub(crate) fn ci_ids(&self, raw: ComputeInstanceHandle) -> Result<MigDevice> {
        let handle = Handle::from_raw(raw)?;
        if handle.kind != Kind::ComputeInstance {
            return Err(Code::INVALID_ARGUMENT);
        }
        self.find_instance(&handle)
    }

    /// A compute instance that exists.
    ///
    /// # Errors
    /// INVALID_ARGUMENT also for an instance that is gone.
    pub(crate) fn ci(&self, raw: ComputeInstanceHandle) -> Result<MigDevice> {
        self.ci_ids(raw).map_err(stale)
    }

    fn compute_instance(&self, handle: &Handle) -> Result<MigDevice> {
        self.find_instance(handle).map_err(stale)
    }

    fn find_instance(&self, handle: &Handle) -> Result<MigDevice> {
        let device = MigDevice {
            gpu: GpuSlot::new(handle.slot.into()),
            gi: GpuInstanceId::new(handle.gi.into()),
            ci: ComputeInstanceId::new(handle.ci.into()),
        };
        let instance = self
            .node
            .gpu(device.gpu)?
            .instance(device.gi)?
            .compute_instance(device.ci)?;
        if handle.is_of(instance.serial) {
            Ok(device)
        } else {
            Err(Code::NOT_FOUND)
        }
    }

    /// Recorded facts of a GPU.
    pub(crate) fn model(&self, slot: GpuSlot) -> Result<&'static GpuModel> {
        self.node.gpu(slot)?.model()
    }

    /// Forgets clients whose process is gone. For calls whose answer depends on who is alive; it costs a few
    /// microseconds per client.
    pub(crate) fn reap(&mut self) {
        self.node.reap_clients(client_is_alive);
    }

    /// Energy that a GPU has drawn, in millijoules; only grows.
    ///
    /// # Errors
    /// As [`Node::gpu`].
    pub(crate) fn energy_mj(&mut self, slot: GpuSlot) -> Result<u64> {
        self.node.observe_activity(slot, self.now_ns)?;
        Ok(self.node.gpu(slot)?.energy_uj / 1000)
    }

    /// Bytes over the bus of a GPU in one direction: 1 GiB per second of full work; only grows.
    ///
    /// # Errors
    /// As [`Node::gpu`].
    pub(crate) fn pcie_bytes(&mut self, slot: GpuSlot) -> Result<u64> {
        self.node.observe_activity(slot, self.now_ns)?;
        Ok(self.node.gpu(slot)?.busy_ns.saturating_mul(1 << 10) / 1_000_000 * (1 << 20) / 1000)
    }

    /// The leading number of the driver version, and the one after it.
    pub(crate) fn driver(&self) -> (u32, u32) {
        let mut parts = self
            .node
            .header
            .driver_version
            .as_str()
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Lets only root go on (unless the environment says that anybody may): changes, and what the header keeps for
    /// privileged users.
    ///
    /// # Errors
    /// NO_PERMISSION.
    pub(crate) fn privileged(&self) -> Result<()> {
        if is_privileged() {
            Ok(())
        } else {
            Err(Code::NO_PERMISSION)
        }
    }
}

/// A handle that was good once answers as one that never was.
fn stale(code: Code) -> Code {
    if code == Code::NOT_FOUND {
        Code::INVALID_ARGUMENT
    } else {
        code
    }
}

/// Whether this process may do what is root's. The user id is asked each time (setuid programs change it), the
/// environment once.
pub(crate) fn is_privileged() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    static ANYBODY: AtomicU8 = AtomicU8::new(UNKNOWN);
    let mut anybody = ANYBODY.load(Ordering::Relaxed);
    if anybody == UNKNOWN {
        anybody = if std::env::var_os(ANY_UID).is_some_and(|value| value == "1") {
            YES
        } else {
            NO
        };
        ANYBODY.store(anybody, Ordering::Relaxed);
    }
    // SAFETY: geteuid has no preconditions and cannot fail.
    anybody == YES || unsafe { libc::geteuid() } == 0
}
