//! MIG mode: what is in effect, what is pending, and when a change takes effect.

use crate::code::{Code, Result};
use crate::gpu::Gpu;
use crate::gpu_model::MigModel;
use crate::ids::GpuSlot;
use crate::node::Node;

/// `nvmlDeviceGetMigMode`: 1 enabled, 0 disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigMode {
    /// In effect.
    pub current: u32,
    /// After the next reset or reboot.
    pub pending: u32,
}

impl Gpu {
    /// The MIG half of the product.
    ///
    /// # Errors
    /// NOT_SUPPORTED: the product has no MIG.
    pub fn mig_model(&self) -> Result<&'static MigModel> {
        self.model()?.mig.as_ref().ok_or(Code::NOT_SUPPORTED)
    }

    /// The pending mode takes effect. Instances of the old mode are gone.
    pub(crate) fn activate_mig_mode(&mut self) {
        self.clear_instances();
        if self.mig_current != self.mig_pending {
            self.mig_current = self.mig_pending;
            self.counters.mode_changes = self.counters.mode_changes.wrapping_add(1);
        }
    }
}

impl Node {
    /// `nvmlDeviceGetMigMode`.
    ///
    /// # Errors
    /// As [`Self::gpu`]; NOT_SUPPORTED: no MIG on this product.
    pub fn mig_mode(&self, slot: GpuSlot) -> Result<MigMode> {
        let gpu = self.gpu(slot)?;
        gpu.mig_model()?;
        Ok(MigMode {
            current: gpu.mig_current,
            pending: gpu.mig_pending,
        })
    }

    /// `nvmlDeviceSetMigMode`: answers the **activation status**, which the caller must look at as well: SUCCESS,
    /// RESET_REQUIRED (Ampere: pending until a reset or reboot) or IN_USE (a client holds the GPU; pending).
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; NOT_SUPPORTED: no MIG; INVALID_ARGUMENT: `mode` > 1; IN_USE: switching off while
    /// GPU instances exist.
    pub fn set_mig_mode(&mut self, slot: GpuSlot, mode: u32, now_ns: u64) -> Result<Code> {
        let needs_reset = self.gpu_usable(slot)?.mig_model()?.mode_change_needs_reset;
        if mode > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        let in_use = self.clients_on(slot).next().is_some();
        let gpu = self.gpu_any_mut(slot)?;
        if mode == 0 && gpu.instances().next().is_some() {
            return Err(Code::IN_USE);
        }
        gpu.mig_pending = mode;
        if gpu.mig_current == mode {
            self.touch();
            return Ok(Code::SUCCESS);
        }
        if in_use {
            self.touch();
            return Ok(Code::IN_USE);
        }
        if needs_reset {
            self.touch();
            return Ok(Code::RESET_REQUIRED);
        }
        gpu.activate_mig_mode();
        self.touch_layout();
        self.raise_mig_change(slot, now_ns);
        Ok(Code::SUCCESS)
    }

    /// `nvmlDeviceGetMaxMigDeviceCount`: 0 on products without MIG and while the mode is off.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn max_mig_devices(&self, slot: GpuSlot) -> Result<u32> {
        let gpu = self.gpu(slot)?;
        let mig = gpu.model()?.mig.as_ref().filter(|_| gpu.mig_enabled());
        Ok(mig.map_or(0, |mig| mig.max_gpu_instances))
    }
}
