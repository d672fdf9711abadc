//! One GPU: identity, health, sensors, memory and ECC. Its MIG half is in `mig`.

use crate::code::{Code, Result};
use crate::gpu_model::GpuModel;
use crate::ids::{GpuInstanceId, GpuSlot, derive_uuid, format_uuid, mix};
use crate::mig::{GpuInstance, MAX_GIS};
use crate::node::Node;
use crate::plain::{Plain, plain};

/// Health bit: every call on the GPU answers GPU_IS_LOST.
pub(crate) const LOST: u32 = 1;
/// Health bit: changing calls answer RESET_REQUIRED.
pub(crate) const RESET_REQUIRED: u32 = 2;
/// Health bit: unplugged.
pub(crate) const GONE: u32 = 4;

const MIB: u64 = 1 << 20;

plain! {
    /// ECC errors of one kind of counter (volatile: since reset; aggregate: for ever).
    pub struct EccCounters {
        /// Single-bit errors, corrected.
        pub corrected: u64,
        /// Double-bit errors, uncorrected.
        pub uncorrected: u64,
    }
}

plain! {
    /// What was done to a GPU, for tests.
    pub struct GpuCounters {
        /// GPU instances created.
        pub gi_creates: u64,
        /// GPU instances destroyed by a call (not by a reset).
        pub gi_destroys: u64,
        /// Compute instances created.
        pub ci_creates: u64,
        /// Compute instances destroyed by a call (not by a reset).
        pub ci_destroys: u64,
        /// MIG mode changes that took effect.
        pub mode_changes: u64,
        /// GPU resets.
        pub resets: u64,
    }
}

plain! {
    /// One GPU.
    pub struct Gpu {
        /// Position in [`GpuModel::all`].
        pub model: u32,
        /// Health bits: 1 lost, 2 reset required, 4 unplugged.
        pub health: u32,
        /// G of `/dev/nvidiaG`.
        pub minor: u32,
        /// PCI domain.
        pub pci_domain: u32,
        /// PCI bus.
        pub pci_bus: u32,
        /// PCI device.
        pub pci_device: u32,
        /// NUMA node, -1 = none.
        pub numa_node: i32,
        /// Persistence mode, 0 or 1.
        pub persistence_mode: u32,
        /// `nvmlComputeMode_t`: 0 default, 1 exclusive thread, 2 prohibited, 3 exclusive process.
        pub compute_mode: u32,
        /// ECC mode in effect, 0 or 1.
        pub ecc_current: u32,
        /// ECC mode after the next reset.
        pub ecc_pending: u32,
        /// MIG mode in effect, 0 or 1.
        pub mig_current: u32,
        /// MIG mode after the next reset or reboot.
        pub mig_pending: u32,
        /// Which published map from placements to GPU-instance ids this board follows.
        pub board_map: u32,
        /// Power limit in milliwatts.
        pub power_limit_mw: u32,
        /// Degrees added to the temperature that follows from work.
        pub temperature_offset: i32,
        /// The uuid without its `GPU-`.
        pub uuid: [u8; 16],
        /// Board serial number.
        pub serial: u64,
        /// ECC errors since reset.
        pub ecc_volatile: EccCounters,
        /// ECC errors for ever.
        pub ecc_aggregate: EccCounters,
        /// Pages retired for single-bit errors (models without row remapping).
        pub retired_pages_single: u64,
        /// Pages retired for double-bit errors (models without row remapping).
        pub retired_pages_double: u64,
        /// Rows remapped for correctable errors.
        pub remapped_rows_correctable: u64,
        /// Rows remapped for uncorrectable errors.
        pub remapped_rows_uncorrectable: u64,
        /// 1 while a page retirement or row remapping waits for a reset.
        pub remap_pending: u32,
        /// 1 after a row remapping failed.
        pub remap_failed: u32,
        /// Energy drawn up to `observed_ns`, in microjoules; see [`Node::observe_activity`].
        pub energy_uj: u64,
        /// Busy time up to `observed_ns`, in ns of the whole device.
        pub busy_ns: u64,
        /// When energy and busy time were last brought up to date; 0 = never.
        pub observed_ns: u64,
        /// What was done to this GPU.
        pub counters: GpuCounters,
        /// GPU instances; free ones have `in_use` 0.
        pub gis: [GpuInstance; MAX_GIS],
    }
}

/// A memory query's answer, in bytes: `used` does not include `reserved`, and the three parts add up to `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// All of it.
    pub total: u64,
    /// What the driver keeps for itself. `nvmlDeviceGetMemoryInfo` (v1) counts this as used.
    pub reserved: u64,
    /// Neither reserved nor used.
    pub free: u64,
    /// What clients hold.
    pub used: u64,
}

impl MemoryInfo {
    pub(crate) fn new(total: u64, reserved: u64, used: u64) -> Self {
        let reserved = reserved.min(total);
        let used = used.min(total - reserved);
        Self {
            total,
            reserved,
            free: total - reserved - used,
            used,
        }
    }
}

impl Gpu {
    pub(crate) fn new(seed: u64, slot: u32, model: u32) -> Result<Self> {
        let facts = GpuModel::get(model).ok_or(Code::INVALID_ARGUMENT)?;
        // Two boards on one host have different maps; which one is first depends on the seed.
        let first_map = u32::try_from(mix(seed) % 4).unwrap_or(0);
        Ok(Self {
            model,
            minor: slot,
            // One root bus per GPU, as on a server: 07, 0f, 17, …
            pci_bus: 7 + 8 * slot,
            numa_node: i32::from(slot >= 8),
            persistence_mode: 0,
            // Every product of the table has ECC memory, switched on in the factory.
            ecc_current: 1,
            ecc_pending: 1,
            board_map: (first_map + slot) % 4,
            power_limit_mw: facts.power_limit_w * 1000,
            uuid: derive_uuid(4, seed, 1, u64::from(slot)),
            serial: 1_650_000_000_000 + mix(seed ^ u64::from(slot)) % 99_999_999_999,
            ..Self::ZERO
        })
    }

    /// Recorded facts of the product.
    ///
    /// # Errors
    /// UNKNOWN: the model number is out of range (damaged state).
    pub fn model(&self) -> Result<&'static GpuModel> {
        GpuModel::get(self.model).ok_or(Code::UNKNOWN)
    }

    pub(crate) fn reachable(&self) -> Result<()> {
        if self.health & GONE != 0 {
            return Err(Code::NOT_FOUND);
        }
        if self.health & LOST != 0 {
            return Err(Code::GPU_IS_LOST);
        }
        Ok(())
    }

    /// `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    pub fn uuid(&self) -> String {
        format_uuid("GPU-", &self.uuid)
    }

    /// NVML's form of the PCI address, with eight digits of domain: `00000000:07:00.0`.
    pub fn pci_bus_id(&self) -> String {
        format!(
            "{:08X}:{:02X}:{:02X}.0",
            self.pci_domain, self.pci_bus, self.pci_device
        )
    }

    /// The kernel's form of the PCI address, as in `/sys/bus/pci/devices`: `0000:07:00.0`.
    pub fn pci_sysfs_name(&self) -> String {
        format!(
            "{:04x}:{:02x}:{:02x}.0",
            self.pci_domain, self.pci_bus, self.pci_device
        )
    }

    /// Thirteen digits.
    pub fn serial(&self) -> String {
        format!("{:013}", self.serial)
    }

    /// Whether MIG mode is in effect.
    pub fn mig_enabled(&self) -> bool {
        self.mig_current != 0
    }
}

impl Node {
    /// Memory of a whole GPU, with everything that its clients hold, in GPU instances or not.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn memory(&self, slot: GpuSlot) -> Result<MemoryInfo> {
        let model = self.gpu(slot)?.model()?;
        let used = self
            .clients_on(slot)
            .fold(0u64, |sum, c| sum.saturating_add(c.used_bytes));
        Ok(MemoryInfo::new(
            model.memory_mib * MIB,
            model.reserved_mib * MIB,
            used,
        ))
    }

    /// Memory of a GPU instance.
    ///
    /// # Errors
    /// As [`Self::gi`].
    pub fn gi_memory(&self, slot: GpuSlot, gi: GpuInstanceId) -> Result<MemoryInfo> {
        let profile = self.gi(slot, gi)?.profile(self.gpu(slot)?)?;
        let used = self
            .clients_on(slot)
            .filter(|client| client.gi == gi.get())
            .fold(0u64, |sum, c| sum.saturating_add(c.used_bytes));
        Ok(MemoryInfo::new(profile.memory_mib * MIB, 0, used))
    }

    /// Busy permille of a GPU, or of one of its GPU instances: what its clients declared and did, at most 1000.
    pub fn busy_permille(&self, slot: GpuSlot, gi: Option<GpuInstanceId>, now_ns: u64) -> u32 {
        let whole = self
            .clients_on(slot)
            .filter(|c| gi.is_none_or(|gi| c.gi == gi.get()));
        whole
            .fold(0u32, |sum, c| sum.saturating_add(c.busy_at(now_ns)))
            .min(1000)
    }

    /// `nvmlDeviceGetUtilizationRates`: GPU and memory percent.
    ///
    /// # Errors
    /// As [`Self::gpu`]; NOT_SUPPORTED while MIG mode is in effect.
    pub fn utilization_percent(&self, slot: GpuSlot, now_ns: u64) -> Result<(u32, u32)> {
        if self.gpu(slot)?.mig_enabled() {
            return Err(Code::NOT_SUPPORTED);
        }
        let busy = self.busy_permille(slot, None, now_ns);
        // Memory-bus activity is taken as half of the kernel activity.
        Ok((busy / 10, busy / 20))
    }

    /// Power draw in milliwatts: from idle to the limit with the work.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn power_mw(&self, slot: GpuSlot, now_ns: u64) -> Result<u32> {
        let gpu = self.gpu(slot)?;
        let idle = gpu.model()?.idle_w * 1000;
        let span = u64::from(gpu.power_limit_mw.saturating_sub(idle));
        let work = span * u64::from(self.busy_permille(slot, None, now_ns)) / 1000;
        Ok(idle + u32::try_from(work).unwrap_or(0))
    }

    /// Brings energy and busy time of a GPU up to date, so that both only grow: what it draws and does now is taken
    /// for the whole time since the last call. Faces call this before they read either.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn observe_activity(&mut self, slot: GpuSlot, now_ns: u64) -> Result<()> {
        let power_mw = self.power_mw(slot, now_ns)?;
        let busy = self.busy_permille(slot, None, now_ns);
        let gpu = self.gpu_any_mut(slot)?;
        let passed_ns = match gpu.observed_ns {
            0 => 0,
            before => now_ns.saturating_sub(before),
        };
        // A clock that was set back starts a new stretch.
        gpu.observed_ns = now_ns;
        let passed_us = passed_ns / 1000;
        gpu.energy_uj = gpu
            .energy_uj
            .saturating_add(passed_us.saturating_mul(power_mw.into()) / 1000);
        gpu.busy_ns = gpu
            .busy_ns
            .saturating_add(passed_us.saturating_mul(busy.into()));
        Ok(())
    }

    /// GPU temperature in degrees Celsius: 30 idle, 75 at full work.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn temperature(&self, slot: GpuSlot, now_ns: u64) -> Result<u32> {
        let gpu = self.gpu(slot)?;
        let warm = 30 + self.busy_permille(slot, None, now_ns) * 45 / 1000;
        Ok(warm.saturating_add_signed(gpu.temperature_offset))
    }

    /// SM and memory clock in MHz: the highest while there is work, low while idle.
    ///
    /// # Errors
    /// As [`Self::gpu`].
    pub fn clocks(&self, slot: GpuSlot, now_ns: u64) -> Result<(u32, u32)> {
        let model = self.gpu(slot)?.model()?;
        if self.busy_permille(slot, None, now_ns) == 0 {
            return Ok((210.max(model.sm_clock / 6), model.memory_clock));
        }
        Ok((model.sm_clock, model.memory_clock))
    }

    /// `nvmlDeviceSetPersistenceMode` (0 or 1).
    ///
    /// # Errors
    /// As [`Self::gpu`]; INVALID_ARGUMENT.
    pub fn set_persistence_mode(&mut self, slot: GpuSlot, mode: u32) -> Result<()> {
        self.gpu(slot)?;
        if mode > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        self.gpu_any_mut(slot)?.persistence_mode = mode;
        self.touch();
        Ok(())
    }

    /// `nvmlDeviceSetComputeMode` (0..=3).
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; INVALID_ARGUMENT; NOT_SUPPORTED while MIG mode is in effect.
    pub fn set_compute_mode(&mut self, slot: GpuSlot, mode: u32) -> Result<()> {
        let gpu = self.gpu_usable_mut(slot)?;
        if mode > 3 {
            return Err(Code::INVALID_ARGUMENT);
        }
        if gpu.mig_enabled() {
            return Err(Code::NOT_SUPPORTED);
        }
        gpu.compute_mode = mode;
        self.touch();
        Ok(())
    }

    /// `nvmlDeviceSetEccMode` (0 or 1): pending until a reset or reboot.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; INVALID_ARGUMENT.
    pub fn set_ecc_mode(&mut self, slot: GpuSlot, mode: u32) -> Result<()> {
        let gpu = self.gpu_usable_mut(slot)?;
        if mode > 1 {
            return Err(Code::INVALID_ARGUMENT);
        }
        gpu.ecc_pending = mode;
        self.touch();
        Ok(())
    }

    /// `nvmlDeviceSetPowerManagementLimit`, in milliwatts.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; INVALID_ARGUMENT outside idle..=the product's limit.
    pub fn set_power_limit_mw(&mut self, slot: GpuSlot, limit: u32) -> Result<()> {
        let gpu = self.gpu_usable_mut(slot)?;
        let model = gpu.model()?;
        if !(model.idle_w * 1000..=model.power_limit_w * 1000).contains(&limit) {
            return Err(Code::INVALID_ARGUMENT);
        }
        gpu.power_limit_mw = limit;
        self.touch();
        Ok(())
    }
}
