//! GPU instances: profiles, placements, create and destroy.

use crate::code::{Code, Result};
use crate::gpu::Gpu;
use crate::gpu_model::{GiProfile, MigModel, Placement};
use crate::ids::{GpuInstanceId, GpuSlot};
use crate::mig::compute_instance::{ComputeInstance, MAX_CIS};
use crate::mig::naming::gpu_instance_id;
use crate::node::Node;
use crate::plain::{Plain, plain};

/// GPU-instance ids are 0..=14.
pub(crate) const MAX_GIS: usize = 15;
/// One past the highest GPU-instance profile enum value of the header.
const GI_PROFILE_COUNT: u32 = 0x12;

plain! {
    /// A GPU instance.
    pub struct GpuInstance {
        /// 0: this slot is free.
        pub in_use: u32,
        /// Its id.
        pub id: u32,
        /// Profile id.
        pub profile_id: u32,
        /// First memory slice.
        pub start: u32,
        /// Number of memory slices.
        pub size: u32,
        /// Creation time, seconds.
        pub created_s: u32,
        /// How many GPU instances this GPU had made when it was created: tells it from an earlier one with its id.
        pub serial: u64,
        /// Compute instances; free ones have `in_use` 0.
        pub cis: [ComputeInstance; MAX_CIS],
    }
}

impl GpuInstance {
    /// Its id.
    pub fn id(&self) -> GpuInstanceId {
        GpuInstanceId::new(self.id)
    }

    /// Where it lies.
    pub fn placement(&self) -> Placement {
        Placement {
            start: self.start,
            size: self.size,
        }
    }

    /// Its profile on `gpu`.
    ///
    /// # Errors
    /// UNKNOWN: damaged state.
    pub fn profile(&self, gpu: &Gpu) -> Result<&'static GiProfile> {
        gpu.mig_model()?
            .gi_profile(self.profile_id)
            .ok_or(Code::UNKNOWN)
    }
}

impl Gpu {
    /// GPU instances that exist.
    pub fn instances(&self) -> impl Iterator<Item = &GpuInstance> {
        self.gis.iter().filter(|gi| gi.in_use != 0)
    }

    /// The GPU instance with this id.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn instance(&self, id: GpuInstanceId) -> Result<&GpuInstance> {
        self.instances()
            .find(|gi| gi.id == id.get())
            .ok_or(Code::NOT_FOUND)
    }

    pub(super) fn instance_mut(&mut self, id: GpuInstanceId) -> Result<&mut GpuInstance> {
        self.gis
            .iter_mut()
            .find(|gi| gi.in_use != 0 && gi.id == id.get())
            .ok_or(Code::NOT_FOUND)
    }

    /// Every instance vanishes, without being destroyed by a call.
    pub(crate) fn clear_instances(&mut self) {
        self.gis = Plain::ZERO;
    }

    fn profile_by_id(&self, id: u32) -> Result<(&'static MigModel, &'static GiProfile)> {
        let mig = self.mig_model()?;
        Ok((mig, mig.gi_profile(id).ok_or(Code::INVALID_ARGUMENT)?))
    }

    fn mig_enabled_or(&self) -> Result<()> {
        self.mig_model()?;
        if self.mig_enabled() {
            Ok(())
        } else {
            Err(Code::NOT_SUPPORTED)
        }
    }

    /// Whether the driver would create `profile` at `place` on this GPU.
    pub(crate) fn may_place(&self, mig: &MigModel, profile: &GiProfile, place: Placement) -> bool {
        self.engines_suffice(mig, profile)
            && !self.instances().any(|gi| gi.placement().overlaps(place))
    }

    /// Room for one more instance of `profile`, apart from its place: number of instances, media engines.
    fn engines_suffice(&self, mig: &MigModel, profile: &GiProfile) -> bool {
        let existing = || {
            self.instances()
                .filter_map(|gi| mig.gi_profile(gi.profile_id))
        };
        let same = existing()
            .filter(|p| p.id == profile.id)
            .zip(1u32..)
            .last()
            .map_or(0, |(_, n)| n);
        let engines: [fn(&GiProfile) -> u32; 4] =
            [|p| p.decoders, |p| p.encoders, |p| p.jpeg, |p| p.ofa];
        same < profile.max_instances
            && engines.iter().all(|count| {
                let total = mig.gi_profiles.iter().map(count).max().unwrap_or(0);
                let taken: u32 = existing().map(count).sum();
                taken + count(profile) <= total
            })
    }
}

impl Node {
    /// `nvmlDeviceGetGpuInstanceProfileInfo[V]`; answered also while MIG mode is off.
    ///
    /// # Errors
    /// As [`Self::gpu`]; INVALID_ARGUMENT: past the end of the enum; NOT_SUPPORTED: no such profile on this GPU.
    pub fn gi_profile_by_enum(&self, slot: GpuSlot, value: u32) -> Result<&'static GiProfile> {
        let mig = self.gpu(slot)?.mig_model()?;
        if value >= GI_PROFILE_COUNT {
            return Err(Code::INVALID_ARGUMENT);
        }
        mig.gi_profile_by_enum(value).ok_or(Code::NOT_SUPPORTED)
    }

    /// `nvmlDeviceGetGpuInstanceProfileInfoByIdV`; answered also while MIG mode is off.
    ///
    /// # Errors
    /// As [`Self::gpu`]; NOT_SUPPORTED: no MIG; INVALID_ARGUMENT: unknown profile id.
    pub fn gi_profile_by_id(&self, slot: GpuSlot, id: u32) -> Result<&'static GiProfile> {
        Ok(self.gpu(slot)?.profile_by_id(id)?.1)
    }

    /// `nvmlDeviceGetGpuInstancePossiblePlacements_v2`; answered also while MIG mode is off, and whatever exists.
    ///
    /// # Errors
    /// As [`Self::gi_profile_by_id`].
    pub fn gi_placements(&self, slot: GpuSlot, profile_id: u32) -> Result<&'static [Placement]> {
        Ok(self.gi_profile_by_id(slot, profile_id)?.placements)
    }

    /// `nvmlDeviceGetGpuInstanceRemainingCapacity`: how many more of this profile could be created.
    ///
    /// # Errors
    /// As [`Self::gi_profile_by_id`]; NOT_SUPPORTED while MIG mode is off.
    pub fn gi_remaining_capacity(&self, slot: GpuSlot, profile_id: u32) -> Result<u32> {
        let gpu = self.gpu(slot)?;
        let (mig, profile) = gpu.profile_by_id(profile_id)?;
        gpu.mig_enabled_or()?;
        // Placements of one profile never overlap each other, but engines run out: try on a copy.
        let mut trial = *gpu;
        let mut count = 0;
        for &place in profile.placements {
            if trial.may_place(mig, profile, place) && trial.put(mig, profile, place, 0).is_ok() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// `nvmlDeviceCreateGpuInstance` (no placement: the driver's own order) and `…WithPlacement`.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; NOT_SUPPORTED: no MIG or mode off; INVALID_ARGUMENT: unknown profile id or a
    /// placement that the profile does not have; INSUFFICIENT_RESOURCES: place occupied, `+me` used, engines or
    /// instances used up.
    pub fn create_gi(
        &mut self,
        slot: GpuSlot,
        profile_id: u32,
        placement: Option<Placement>,
        now_ns: u64,
    ) -> Result<GpuInstanceId> {
        let gpu = self.gpu_usable_mut(slot)?;
        gpu.mig_enabled_or()?;
        let (mig, profile) = gpu.profile_by_id(profile_id)?;
        let place = match placement {
            Some(place) if !profile.placements.contains(&place) => {
                return Err(Code::INVALID_ARGUMENT);
            }
            Some(place) => gpu.may_place(mig, profile, place).then_some(place),
            None => profile
                .driver_order
                .iter()
                .filter_map(|&start| {
                    profile
                        .placements
                        .iter()
                        .find(|p| p.start == start)
                        .copied()
                })
                .find(|&place| gpu.may_place(mig, profile, place)),
        };
        let place = place.ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let id = gpu.put(mig, profile, place, now_ns)?;
        gpu.counters.gi_creates = gpu.counters.gi_creates.wrapping_add(1);
        let serial = gpu.counters.gi_creates;
        gpu.instance_mut(id)?.serial = serial;
        self.touch_layout();
        self.raise_mig_change(slot, now_ns);
        Ok(id)
    }

    /// `nvmlGpuInstanceDestroy`.
    ///
    /// # Errors
    /// As [`Self::gpu_usable`]; NOT_SUPPORTED: mode off; NOT_FOUND: no such instance; IN_USE: it holds a compute
    /// instance, or a client.
    pub fn destroy_gi(&mut self, slot: GpuSlot, gi: GpuInstanceId, now_ns: u64) -> Result<()> {
        let gpu = self.gpu_usable(slot)?;
        gpu.mig_enabled_or()?;
        let instance = gpu.instance(gi)?;
        let held = self.clients_on(slot).any(|client| client.gi == gi.get());
        if held || instance.compute_instances().next().is_some() {
            return Err(Code::IN_USE);
        }
        let gpu = self.gpu_any_mut(slot)?;
        *gpu.instance_mut(gi)? = Plain::ZERO;
        gpu.counters.gi_destroys = gpu.counters.gi_destroys.wrapping_add(1);
        self.touch_layout();
        self.raise_mig_change(slot, now_ns);
        Ok(())
    }

    /// `nvmlDeviceGetGpuInstances`: ids of the instances of one profile, ascending.
    ///
    /// # Errors
    /// As [`Self::gi_profile_by_id`]; NOT_SUPPORTED while MIG mode is off.
    pub fn gis(&self, slot: GpuSlot, profile_id: u32) -> Result<Vec<GpuInstanceId>> {
        let gpu = self.gpu(slot)?;
        gpu.profile_by_id(profile_id)?;
        gpu.mig_enabled_or()?;
        let of_profile = gpu.instances().filter(|gi| gi.profile_id == profile_id);
        let mut ids: Vec<_> = of_profile.map(GpuInstance::id).collect();
        ids.sort();
        Ok(ids)
    }

    /// `nvmlDeviceGetGpuInstanceById`, `nvmlGpuInstanceGetInfo`.
    ///
    /// # Errors
    /// As [`Self::gpu`]; NOT_SUPPORTED: mode off; NOT_FOUND.
    pub fn gi(&self, slot: GpuSlot, gi: GpuInstanceId) -> Result<&GpuInstance> {
        let gpu = self.gpu(slot)?;
        gpu.mig_enabled_or()?;
        gpu.instance(gi)
    }
}

impl Gpu {
    /// Writes the instance into a free slot. The caller has checked that it may lie there.
    fn put(
        &mut self,
        mig: &MigModel,
        profile: &GiProfile,
        place: Placement,
        now_ns: u64,
    ) -> Result<GpuInstanceId> {
        let id = gpu_instance_id(self.board_map, mig.grid_slots, place);
        let free = self.gis.iter_mut().find(|gi| gi.in_use == 0);
        let free = free.ok_or(Code::INSUFFICIENT_RESOURCES)?;
        *free = GpuInstance {
            in_use: 1,
            id: id.get(),
            profile_id: profile.id,
            start: place.start,
            size: place.size,
            created_s: u32::try_from(now_ns / 1_000_000_000).unwrap_or(u32::MAX),
            ..Plain::ZERO
        };
        Ok(id)
    }
}
