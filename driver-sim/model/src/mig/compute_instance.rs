//! Compute instances and the MIG devices that they are.

use crate::code::{Code, Result};
use crate::gpu::{Gpu, MemoryInfo};
use crate::gpu_model::{CiProfile, GiProfile, Placement};
use crate::ids::{ComputeInstanceId, GpuInstanceId, GpuSlot, MigDevice};
use crate::mig::gpu_instance::GpuInstance;
use crate::node::Node;
use crate::plain::{Plain, plain};

/// Compute-instance ids are 0..=7.
pub(super) const MAX_CIS: usize = 8;
/// One past the highest compute-instance profile enum value of the header.
const CI_PROFILE_COUNT: u32 = 9;
/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`, the only engine profile there is.
const ENGINE_PROFILE_SHARED: u32 = 0;

plain! {
    /// A compute instance.
    pub struct ComputeInstance {
        /// 0: this slot is free.
        pub in_use: u32,
        /// Its id in the GPU instance.
        pub id: u32,
        /// Profile id.
        pub profile_id: u32,
        /// First compute slice in the GPU instance; also its graphics-engine index.
        pub start: u32,
        /// Number of compute slices.
        pub size: u32,
        /// Index among the MIG devices of the GPU: the lowest free one when it was created.
        pub mig_index: u32,
        /// How many compute instances this GPU had made when it was created: tells it from an earlier one with its
        /// id.
        pub serial: u64,
    }
}

/// `nvmlDeviceGetAttributes_v2` of a MIG device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigAttributes {
    /// Multiprocessors of the compute instance.
    pub multiprocessors: u32,
    /// Copy engines of the GPU instance.
    pub copy_engines: u32,
    /// Decoders of the GPU instance.
    pub decoders: u32,
    /// Encoders of the GPU instance.
    pub encoders: u32,
    /// JPEG engines of the GPU instance.
    pub jpeg: u32,
    /// Optical-flow engines of the GPU instance.
    pub ofa: u32,
    /// Compute slices of the GPU instance.
    pub gi_slices: u32,
    /// Compute slices of the compute instance.
    pub ci_slices: u32,
    /// Memory of the GPU instance, in MiB.
    pub memory_mib: u64,
}

impl ComputeInstance {
    /// Its id.
    pub fn id(&self) -> ComputeInstanceId {
        ComputeInstanceId::new(self.id)
    }

    /// Where it lies in its GPU instance, in compute slices.
    pub fn placement(&self) -> Placement {
        Placement {
            start: self.start,
            size: self.size,
        }
    }
}

impl GpuInstance {
    /// Compute instances that exist.
    pub fn compute_instances(&self) -> impl Iterator<Item = &ComputeInstance> {
        self.cis.iter().filter(|ci| ci.in_use != 0)
    }

    /// The compute instance with this id.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn compute_instance(&self, id: ComputeInstanceId) -> Result<&ComputeInstance> {
        self.compute_instances()
            .find(|ci| ci.id == id.get())
            .ok_or(Code::NOT_FOUND)
    }

    /// Whether the driver would create `wanted` at `place` in this instance.
    pub(crate) fn place_for(&self, gi: &GiProfile, wanted: &CiProfile, place: Placement) -> bool {
        let existing = || {
            self.compute_instances()
                .filter_map(|ci| gi.ci_profile(ci.profile_id))
        };
        let same = existing()
            .filter(|p| p.id == wanted.id)
            .zip(1u32..)
            .last()
            .map_or(0, |(_, n)| n);
        let slices: u32 = existing().map(|p| p.slices).sum();
        let multiprocessors: u32 = existing().map(|p| p.sm).sum();
        same < wanted.max_instances
            && slices + wanted.slices <= gi.compute_slices
            && multiprocessors + wanted.sm <= gi.sm
            && !self
                .compute_instances()
                .any(|ci| ci.placement().overlaps(place))
    }

    fn put(&mut self, profile: &CiProfile, place: Placement, mig_index: u32) -> Result<u32> {
        let used = |id: u32| self.compute_instances().any(|ci| ci.id == id);
        let id = (0u32..8)
            .find(|&id| !used(id))
            .ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let free = self.cis.iter_mut().find(|ci| ci.in_use == 0);
        *free.ok_or(Code::INSUFFICIENT_RESOURCES)? = ComputeInstance {
            in_use: 1,
            id,
            profile_id: profile.id,
            start: place.start,
            size: place.size,
            mig_index,
            serial: 0,
        };
        Ok(id)
    }
}

impl Gpu {
    /// MIG devices that exist, in no particular order; `slot` is this GPU's.
    pub fn mig_devices(&self, slot: GpuSlot) -> impl Iterator<Item = MigDevice> + '_ {
        self.instances().flat_map(move |gi| {
            gi.compute_instances().map(move |ci| MigDevice {
                gpu: slot,
                gi: gi.id(),
                ci: ci.id(),
            })
        })
    }
}

impl Node {
    /// `nvmlGpuInstanceGetComputeInstanceProfileInfo[V]`.
    ///
    /// # Errors
    /// As [`Self::gi`]; INVALID_ARGUMENT: past the end of the enum, or an engine profile other than 0;
    /// NOT_SUPPORTED: no such profile in this GPU instance.
    pub fn ci_profile_by_enum(
        &self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        value: u32,
        engine_profile: u32,
    ) -> Result<&'static CiProfile> {
        let profile = self.gi(slot, gi)?.profile(self.gpu(slot)?)?;
        if value >= CI_PROFILE_COUNT || engine_profile != ENGINE_PROFILE_SHARED {
            return Err(Code::INVALID_ARGUMENT);
        }
        profile
            .ci_profiles
            .iter()
            .find(|ci| ci.nvml_enum == value)
            .ok_or(Code::NOT_SUPPORTED)
    }

    /// The compute-instance profile with this id in this GPU instance.
    ///
    /// # Errors
    /// As [`Self::gi`]; INVALID_ARGUMENT: unknown profile id.
    pub fn ci_profile_by_id(
        &self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        id: u32,
    ) -> Result<&'static CiProfile> {
        let profile = self.gi(slot, gi)?.profile(self.gpu(slot)?)?;
        profile.ci_profile(id).ok_or(Code::INVALID_ARGUMENT)
    }

    /// `nvmlGpuInstanceGetComputeInstancePossiblePlacements`, whatever exists.
    ///
    /// # Errors
    /// As [`Self::ci_profile_by_id`].
    pub fn ci_placements(
        &self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        profile_id: u32,
    ) -> Result<Vec<Placement>> {
        Ok(self
            .ci_profile_by_id(slot, gi, profile_id)?
            .placements()
            .collect())
    }

    /// `nvmlGpuInstanceGetComputeInstanceRemainingCapacity`.
    ///
    /// # Errors
    /// As [`Self::ci_profile_by_id`].
    pub fn ci_remaining_capacity(
        &self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        profile_id: u32,
    ) -> Result<u32> {
        let profile = self.ci_profile_by_id(slot, gi, profile_id)?;
        let mut trial = *self.gi(slot, gi)?;
        let gi_profile = trial.profile(self.gpu(slot)?)?;
        let mut count = 0;
        for place in profile.placements() {
            let fits = profile.creatable && trial.place_for(gi_profile, profile, place);
            if fits && trial.put(profile, place, 0).is_ok() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// `nvmlGpuInstanceCreateComputeInstance` and `…WithPlacement`.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`] and [`Self::gi`]; INVALID_ARGUMENT: unknown profile id, or a placement that the
    /// profile does not have; NOT_SUPPORTED: a profile that is listed but cannot be created;
    /// INSUFFICIENT_RESOURCES: slices, multiprocessors or the place are taken.
    pub fn create_ci(
        &mut self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        profile_id: u32,
        placement: Option<Placement>,
        now_ns: u64,
    ) -> Result<ComputeInstanceId> {
        self.gpu_usable(slot)?;
        let profile = self.ci_profile_by_id(slot, gi, profile_id)?;
        if !profile.creatable {
            return Err(Code::NOT_SUPPORTED);
        }
        let instance = self.gi(slot, gi)?;
        let gi_profile = instance.profile(self.gpu(slot)?)?;
        let fits = |place: &Placement| instance.place_for(gi_profile, profile, *place);
        let place = match placement {
            Some(place) if !profile.placements().any(|legal| legal == place) => {
                return Err(Code::INVALID_ARGUMENT);
            }
            Some(place) => fits(&place).then_some(place),
            None => profile.placements().find(fits),
        };
        let place = place.ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let gpu = self.gpu_any_mut(slot)?;
        let taken = |index: u32| {
            gpu.instances()
                .any(|gi| gi.compute_instances().any(|ci| ci.mig_index == index))
        };
        let mig_index = (0u32..).find(|&index| !taken(index)).ok_or(Code::UNKNOWN)?;
        let id = gpu.instance_mut(gi)?.put(profile, place, mig_index)?;
        gpu.counters.ci_creates = gpu.counters.ci_creates.wrapping_add(1);
        let serial = gpu.counters.ci_creates;
        let created = gpu
            .instance_mut(gi)?
            .cis
            .iter_mut()
            .find(|ci| ci.in_use != 0 && ci.id == id);
        created.ok_or(Code::UNKNOWN)?.serial = serial;
        self.touch_layout();
        self.raise_mig_change(slot, now_ns);
        Ok(ComputeInstanceId::new(id))
    }

    /// `nvmlComputeInstanceDestroy`.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`] and [`Self::ci`]; IN_USE: a client holds it.
    pub fn destroy_ci(&mut self, device: MigDevice, now_ns: u64) -> Result<()> {
        let slot = device.gpu;
        self.gpu_usable(slot)?;
        self.ci(slot, device.gi, device.ci)?;
        let holds = |c: &&crate::Client| c.gi == device.gi.get() && c.ci == device.ci.get();
        if self.clients_on(slot).find(holds).is_some() {
            return Err(Code::IN_USE);
        }
        let gpu = self.gpu_any_mut(slot)?;
        let cis = &mut gpu.instance_mut(device.gi)?.cis;
        let ci = cis
            .iter_mut()
            .find(|ci| ci.in_use != 0 && ci.id == device.ci.get());
        *ci.ok_or(Code::NOT_FOUND)? = Plain::ZERO;
        gpu.counters.ci_destroys = gpu.counters.ci_destroys.wrapping_add(1);
        self.touch_layout();
        self.raise_mig_change(slot, now_ns);
        Ok(())
    }

    /// `nvmlGpuInstanceGetComputeInstances`: ids of the instances of one profile, ascending.
    ///
    /// # Errors
    /// As [`Self::ci_profile_by_id`].
    pub fn cis(
        &self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        profile_id: u32,
    ) -> Result<Vec<ComputeInstanceId>> {
        self.ci_profile_by_id(slot, gi, profile_id)?;
        let all = self.gi(slot, gi)?.compute_instances();
        let of_profile = all.filter(|ci| ci.profile_id == profile_id);
        let mut ids: Vec<_> = of_profile.map(ComputeInstance::id).collect();
        ids.sort();
        Ok(ids)
    }

    /// `nvmlGpuInstanceGetComputeInstanceById`, `nvmlComputeInstanceGetInfo_v2`.
    ///
    /// # Errors
    /// As [`Self::gi`]; NOT_FOUND.
    pub fn ci(
        &self,
        slot: GpuSlot,
        gi: GpuInstanceId,
        ci: ComputeInstanceId,
    ) -> Result<&ComputeInstance> {
        self.gi(slot, gi)?.compute_instance(ci)
    }

    /// `nvmlDeviceGetMigDeviceHandleByIndex`.
    ///
    /// # Errors
    /// As [`Self::gpu`]; NOT_SUPPORTED: no MIG on this product; INVALID_ARGUMENT: index ≥ the maximum; NOT_FOUND.
    pub fn mig_device_by_index(&self, slot: GpuSlot, index: u32) -> Result<MigDevice> {
        let gpu = self.gpu(slot)?;
        if index >= gpu.mig_model()?.max_gpu_instances {
            return Err(Code::INVALID_ARGUMENT);
        }
        let mut devices = gpu.instances().flat_map(|gi| {
            gi.compute_instances()
                .filter(|ci| ci.mig_index == index)
                .map(move |ci| (gi, ci))
        });
        let (gi, ci) = devices.next().ok_or(Code::NOT_FOUND)?;
        Ok(MigDevice {
            gpu: slot,
            gi: gi.id(),
            ci: ci.id(),
        })
    }

    /// `nvmlDeviceGetUUID` of a MIG device.
    ///
    /// # Errors
    /// As [`Self::ci`].
    pub fn mig_uuid(&self, device: MigDevice) -> Result<String> {
        self.ci(device.gpu, device.gi, device.ci)?;
        self.gpu(device.gpu)?.mig_uuid(device)
    }

    /// `nvmlDeviceGetName` of a MIG device: `NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb`.
    ///
    /// # Errors
    /// As [`Self::ci`].
    pub fn mig_name(&self, device: MigDevice) -> Result<String> {
        let ci = self.ci(device.gpu, device.gi, device.ci)?;
        let profile = self.ci_profile_by_id(device.gpu, device.gi, ci.profile_id)?;
        Ok(format!(
            "{} MIG {}",
            self.gpu(device.gpu)?.model()?.name,
            profile.name
        ))
    }

    /// `nvmlDeviceGetAttributes_v2` of a MIG device.
    ///
    /// # Errors
    /// As [`Self::ci`].
    pub fn mig_attributes(&self, device: MigDevice) -> Result<MigAttributes> {
        let ci = self.ci(device.gpu, device.gi, device.ci)?;
        let gi = self
            .gi(device.gpu, device.gi)?
            .profile(self.gpu(device.gpu)?)?;
        let ci = gi.ci_profile(ci.profile_id).ok_or(Code::UNKNOWN)?;
        Ok(MigAttributes {
            multiprocessors: ci.sm,
            copy_engines: gi.copy_engines,
            decoders: gi.decoders,
            encoders: gi.encoders,
            jpeg: gi.jpeg,
            ofa: gi.ofa,
            gi_slices: gi.compute_slices,
            ci_slices: ci.slices,
            memory_mib: gi.memory_mib,
        })
    }

    /// Memory of a MIG device: that of its GPU instance, which its compute instances share.
    ///
    /// # Errors
    /// As [`Self::ci`].
    pub fn mig_memory(&self, device: MigDevice) -> Result<MemoryInfo> {
        self.ci(device.gpu, device.gi, device.ci)?;
        self.gi_memory(device.gpu, device.gi)
    }
}
