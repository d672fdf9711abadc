//! Resets, reboots, the driver going and coming, GPUs that are lost or unplugged, and healing.
//!
//! | | GPU reset | driver reload | reboot |
//! |---|---|---|---|
//! | instances | gone | gone | gone |
//! | MIG mode, Ampere | pending takes effect | pending takes effect | pending takes effect |
//! | MIG mode, Hopper and later | off | off | off |
//! | reset required, volatile ECC | cleared | cleared | cleared |
//! | lost GPU | stays lost | stays lost | back |
//! | persistence and compute mode | stay | default | default |

use crate::code::{Code, Result};
use crate::event::{Event, XID};
use crate::gpu::{GONE, Gpu, LOST, RESET_REQUIRED};
use crate::ids::GpuSlot;
use crate::node::Node;
use crate::plain::Plain;

/// The kernel driver as `nvmlInit` finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DriverState {
    /// Loaded, same version as the library.
    Loaded = 0,
    /// Not loaded: `nvmlInit` answers DRIVER_NOT_LOADED.
    Unloaded = 1,
    /// Loaded in another version: `nvmlInit` answers LIB_RM_VERSION_MISMATCH.
    Mismatch = 2,
}

impl DriverState {
    /// The state with this number; numbers that mean nothing are a driver that is not loaded.
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Loaded,
            2 => Self::Mismatch,
            _ => Self::Unloaded,
        }
    }
}

impl Gpu {
    /// What a secondary bus reset does.
    fn reset(&mut self) {
        let persists = self.mig_model().is_ok_and(|mig| mig.mode_persists_reboot);
        if !persists {
            self.mig_pending = 0;
        }
        self.activate_mig_mode();
        self.health &= !RESET_REQUIRED;
        self.ecc_volatile = Plain::ZERO;
        self.ecc_current = self.ecc_pending;
        self.remap_pending = 0;
    }

    /// What a fresh load of the driver does on top.
    fn cold_start(&mut self) {
        self.reset();
        self.persistence_mode = 0;
        self.compute_mode = 0;
        self.power_limit_mw = self.model().map_or(0, |model| model.power_limit_w * 1000);
    }
}

impl Node {
    /// `nvmlInit`.
    ///
    /// # Errors
    /// DRIVER_NOT_LOADED; LIB_RM_VERSION_MISMATCH.
    pub fn init(&self) -> Result<()> {
        match self.driver_state() {
            DriverState::Loaded => Ok(()),
            DriverState::Unloaded => Err(Code::DRIVER_NOT_LOADED),
            DriverState::Mismatch => Err(Code::LIB_RM_VERSION_MISMATCH),
        }
    }

    /// The kernel driver as it is.
    pub fn driver_state(&self) -> DriverState {
        DriverState::from_number(self.header.driver_state)
    }

    /// `nvidia-smi --gpu-reset`.
    ///
    /// # Errors
    /// As [`Self::gpu`], GPU_IS_LOST included (a GPU that fell off the bus needs a reboot); IN_USE: a client holds
    /// the GPU.
    pub fn reset_gpu(&mut self, slot: GpuSlot, now_ns: u64) -> Result<()> {
        self.gpu(slot)?;
        if self.clients_on(slot).next().is_some() {
            return Err(Code::IN_USE);
        }
        let gpu = self.gpu_any_mut(slot)?;
        gpu.reset();
        gpu.counters.resets = gpu.counters.resets.wrapping_add(1);
        self.touch_layout();
        self.raise_mig_change(slot, now_ns);
        Ok(())
    }

    /// The node goes down and comes up: clients are gone, every GPU that is plugged in is back.
    pub fn reboot(&mut self) {
        self.clients = Plain::ZERO;
        self.memory_limits = Plain::ZERO;
        for gpu in &mut self.gpus {
            gpu.cold_start();
            gpu.health &= GONE;
        }
        self.header.driver_state = DriverState::Loaded as u32;
        self.header.boots = self.header.boots.wrapping_add(1);
        self.touch_layout();
    }

    /// `rmmod nvidia`.
    ///
    /// # Errors
    /// IN_USE: a client holds a GPU.
    pub fn unload_driver(&mut self) -> Result<()> {
        if self.clients.iter().any(|client| client.pid != 0) {
            return Err(Code::IN_USE);
        }
        for gpu in &mut self.gpus {
            gpu.cold_start();
        }
        self.header.driver_state = DriverState::Unloaded as u32;
        self.touch_layout();
        Ok(())
    }

    /// `modprobe nvidia`, also the end of a version mismatch. Loading a loaded driver changes nothing.
    pub fn load_driver(&mut self) {
        self.header.driver_state = DriverState::Loaded as u32;
        self.touch_layout();
    }

    /// The driver's libraries were upgraded while the old kernel module stays: `nvmlInit` fails from now on, while
    /// processes that are initialised go on.
    pub fn mismatch_driver(&mut self) {
        self.header.driver_state = DriverState::Mismatch as u32;
        self.touch_layout();
    }

    /// The GPU falls off the bus: Xid 79, and every call on it answers GPU_IS_LOST. Clients stay in the list until
    /// their processes end.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn lose_gpu(&mut self, slot: GpuSlot, now_ns: u64) -> Result<()> {
        self.gpu_any_mut(slot)?.health |= LOST;
        self.raise(Event::on(slot, XID, 79, now_ns));
        Ok(())
    }

    /// The GPU needs a reset before it can be used again.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn require_reset(&mut self, slot: GpuSlot) -> Result<()> {
        self.gpu_any_mut(slot)?.health |= RESET_REQUIRED;
        self.touch();
        Ok(())
    }

    /// The GPU is pulled: it is no longer counted, its handles answer NOT_FOUND, its instances and clients are gone.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn unplug_gpu(&mut self, slot: GpuSlot) -> Result<()> {
        let gpu = self.gpu_any_mut(slot)?;
        gpu.health |= GONE;
        gpu.clear_instances();
        self.drop_clients(slot);
        self.touch_layout();
        Ok(())
    }

    /// Undoes loss, unplugging and "reset required", of one GPU or of all; for all, faults, delays and the driver's
    /// state too. Instances of a GPU that was merely lost are still there.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: no such slot.
    pub fn heal(&mut self, slot: Option<GpuSlot>) -> Result<()> {
        match slot {
            Some(slot) => {
                self.gpu_any_mut(slot)?.health = 0;
                for fault in self
                    .faults
                    .iter_mut()
                    .filter(|fault| fault.gpu == slot.get())
                {
                    *fault = Plain::ZERO;
                }
            }
            None => {
                for gpu in &mut self.gpus {
                    gpu.health = 0;
                }
                self.faults = Plain::ZERO;
                self.header.driver_state = DriverState::Loaded as u32;
            }
        }
        self.touch_layout();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
