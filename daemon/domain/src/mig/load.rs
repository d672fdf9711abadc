//! What lies on one GPU, as far as the rules of its geometry need it: the only place where they are applied.
//!
//! A load belongs to one [`Geometry`] and is a plain value: copy it to try something. Occupied is every place that
//! is reserved, being built, in use, being destroyed, stuck or foreign; an instance that may be destroyed to make
//! room is left out by the caller.
//!
//! Invariants: the first slots are a subset of the occupied ones; an instance covers contiguous slots, so the
//! instances in a range of slots can be counted from these two words alone.

use thiserror::Error;

use crate::mig::geometry::{
    EngineUse, Geometry, MAX_PROFILES, MAX_SLOTS, ProfileGeometry, SlotRange,
};
use crate::mig::{MigProfileId, Placement};

/// Why an instance may not lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The GPU does not have the profile.
    #[error("the GPU has no MIG profile {profile}")]
    UnknownProfile {
        /// Its number.
        profile: MigProfileId,
    },
    /// The profile may not start there.
    #[error("MIG profile {profile} cannot start at slot {start}")]
    NoSuchPlace {
        /// The profile's number.
        profile: MigProfileId,
        /// First slot.
        start: u32,
    },
    /// One of its slots is taken.
    #[error("slots for MIG profile {profile} at {start} are taken")]
    Occupied {
        /// The profile's number.
        profile: MigProfileId,
        /// First slot.
        start: u32,
    },
    /// The profile's maximum is reached.
    #[error("no more instances of MIG profile {profile} are possible")]
    Maximum {
        /// Its number.
        profile: MigProfileId,
    },
    /// The media engines that it needs are taken.
    #[error("the media engines for MIG profile {profile} are taken")]
    MediaEngines {
        /// Its number.
        profile: MigProfileId,
    },
}

/// What lies on one GPU. The default is an empty GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuLoad {
    occupied: u64,
    first_slots: u64,
    exclusive_media: bool,
    engines: EngineUse,
    counts: [u8; MAX_PROFILES],
}

impl GpuLoad {
    /// An empty GPU.
    pub const EMPTY: Self = Self {
        occupied: 0,
        first_slots: 0,
        exclusive_media: false,
        engines: EngineUse::NONE,
        counts: [0; MAX_PROFILES],
    };

    /// Slots that are taken; bit 0 is slot 0.
    #[must_use]
    pub fn occupied(&self) -> u64 {
        self.occupied
    }

    /// How many slots are taken.
    #[must_use]
    pub fn occupied_slots(&self) -> u32 {
        self.occupied.count_ones()
    }

    /// Whether the engines that the GPU has once are taken.
    #[must_use]
    pub fn exclusive_media(&self) -> bool {
        self.exclusive_media
    }

    /// Puts an instance of `profile` at slot `start`.
    ///
    /// # Errors
    /// It may not lie there; the load is unchanged.
    pub fn add(
        &mut self,
        geometry: &Geometry,
        profile: MigProfileId,
        start: u32,
    ) -> Result<(), LoadError> {
        let (index, place) = find(geometry, profile, start)?;
        let Some(own) = geometry.profiles().get(index) else {
            return Err(LoadError::UnknownProfile { profile });
        };
        if self.occupied & place.mask != 0 {
            return Err(LoadError::Occupied { profile, start });
        }
        if self.media_taken(geometry, own) {
            return Err(LoadError::MediaEngines { profile });
        }
        if self.allowed(geometry, index) == 0 {
            return Err(LoadError::Maximum { profile });
        }
        self.put(own, index, place);
        Ok(())
    }

    /// A GPU with these instances.
    ///
    /// # Errors
    /// They may not lie side by side: the first that does not fit with those before it.
    pub fn of(
        geometry: &Geometry,
        instances: impl IntoIterator<Item = (MigProfileId, u32)>,
    ) -> Result<Self, LoadError> {
        let mut load = Self::EMPTY;
        for (profile, start) in instances {
            load.add(geometry, profile, start)?;
        }
        Ok(load)
    }

    /// Marks slots as taken by something that the geometry does not know, or that may not lie there.
    pub fn block(&mut self, placement: Placement) {
        let Placement { start, size } = placement;
        if size == 0 || start >= MAX_SLOTS {
            return;
        }
        self.occupied |= (u64::MAX >> (MAX_SLOTS - size.min(MAX_SLOTS - start))) << start;
        self.first_slots |= 1 << start;
    }

    /// A GPU of which only its state is known, see `losses`.
    pub(super) fn in_state(occupied: u64, exclusive_media: bool) -> Self {
        Self {
            occupied,
            exclusive_media,
            ..Self::EMPTY
        }
    }

    /// How many instances of the profile may still be added, slots apart: the rest of its maximum and of its media
    /// engines.
    pub(super) fn allowed(&self, geometry: &Geometry, index: usize) -> u32 {
        let (Some(own), Some(count)) = (geometry.profiles().get(index), self.counts.get(index))
        else {
            return 0;
        };
        if own.exclusive_media && self.exclusive_media {
            return 0;
        }
        let engines = geometry.budget().map_or(u32::MAX, |budget| {
            own.engines.times_in(budget.minus(self.engines))
        });
        own.max_instances
            .saturating_sub(u32::from(*count))
            .min(engines)
    }

    /// How many more instances of the profile fit.
    pub(super) fn fitting(&self, geometry: &Geometry, index: usize) -> u32 {
        let allowed = self.allowed(geometry, index);
        let free = geometry.profiles().get(index).map_or(0, |own| {
            let free = own.places.iter().filter(|place| self.is_free(**place));
            u32::try_from(free.count()).unwrap_or(u32::MAX)
        });
        free.min(allowed)
    }

    /// Is every slot of the place free?
    pub(super) fn is_free(&self, place: SlotRange) -> bool {
        self.occupied & place.mask == 0
    }

    /// How many instances lie in the place, wholly or in part: those that begin in it, and one that began before.
    pub(super) fn in_the_way(&self, place: SlotRange) -> u32 {
        let began_before = self.occupied & !self.first_slots & (1 << place.start) != 0;
        (self.first_slots & place.mask).count_ones() + u32::from(began_before)
    }

    /// Puts an instance where it may lie, unchecked.
    pub(super) fn put(&mut self, own: &ProfileGeometry, index: usize, place: SlotRange) {
        self.occupied |= place.mask;
        self.first_slots |= 1 << place.start;
        self.exclusive_media |= own.exclusive_media;
        self.engines = self.engines.plus(own.engines);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
    }

    fn media_taken(&self, geometry: &Geometry, own: &ProfileGeometry) -> bool {
        let short = |budget: EngineUse| own.engines.times_in(budget.minus(self.engines)) == 0;
        (own.exclusive_media && self.exclusive_media) || geometry.budget().is_some_and(short)
    }
}

fn find(
    geometry: &Geometry,
    profile: MigProfileId,
    start: u32,
) -> Result<(usize, SlotRange), LoadError> {
    let index = geometry.index(profile);
    let index = index.ok_or(LoadError::UnknownProfile { profile })?;
    let places = geometry
        .profiles()
        .get(index)
        .map_or(&[][..], |own| &own.places);
    let place = places.iter().find(|place| place.start == start);
    let place = place.ok_or(LoadError::NoSuchPlace { profile, start })?;
    Ok((index, *place))
}
