//! The geometry of one GPU: its profiles and their places as bit masks, and which instances may lie side by side.
//!
//! Made from what the driver says of this very GPU, never from a built-in table and never from names, which change
//! with the driver. Three rules decide legality, and [`GpuLoad`](crate::mig::load::GpuLoad) applies them:
//!
//! 1. The memory slots of instances are disjoint.
//! 2. No profile has more instances than its maximum.
//! 3. Media engines. A profile whose maximum is one although it could lie in several places (`+me`, `+me.all`) is
//!    limited by engines that the GPU has once: at most one instance of all those profiles together. That is the
//!    whole engine rule on parts with eight slots. Where the engines of every profile are known, their sums are
//!    checked against the GPU's total as well, which is the largest figure of any profile.
//!
//! Not here: which place is best (`placement`), and the second opinion (`check`).

use std::collections::BTreeSet;

use thiserror::Error;

use crate::mig::{MigProfile, MigProfileId, Placement};

/// Most memory slots of a GPU: they are bits of a word. Known parts have 4, 8 and 12.
pub const MAX_SLOTS: u32 = 64;
/// Most profiles of a GPU. The NVML interface knows 18.
pub const MAX_PROFILES: usize = 32;

/// Media engines that one instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineUse {
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG decoders.
    pub jpeg: u32,
    /// Optical flow accelerators.
    pub optical_flow: u32,
}

impl EngineUse {
    /// No engine.
    pub const NONE: Self = Self {
        decoders: 0,
        encoders: 0,
        jpeg: 0,
        optical_flow: 0,
    };

    fn combine(self, other: Self, with: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            decoders: with(self.decoders, other.decoders),
            encoders: with(self.encoders, other.encoders),
            jpeg: with(self.jpeg, other.jpeg),
            optical_flow: with(self.optical_flow, other.optical_flow),
        }
    }

    /// Engine by engine: the larger figure.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.combine(other, u32::max)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.combine(other, u32::saturating_add)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.combine(other, u32::saturating_sub)
    }

    /// How many instances with these engines `available` is enough for; `u32::MAX` if they need none.
    pub(super) fn times_in(self, available: Self) -> u32 {
        let times = available.combine(self, |have, need| {
            have.checked_div(need).unwrap_or(u32::MAX)
        });
        [
            times.decoders,
            times.encoders,
            times.jpeg,
            times.optical_flow,
        ]
        .into_iter()
        .min()
        .unwrap_or(u32::MAX)
    }
}

/// One place of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    /// First memory slot.
    pub start: u32,
    /// Its slots; bit 0 is slot 0.
    pub mask: u64,
}

/// A profile as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileGeometry {
    /// The driver's number.
    pub id: MigProfileId,
    /// Memory slots of one instance; not its compute slices.
    pub slots: u32,
    /// Where it may lie, ascending by start.
    pub places: Vec<SlotRange>,
    /// Most instances on the GPU.
    pub max_instances: u32,
    /// Rule 3: shares the engines that the GPU has once.
    pub exclusive_media: bool,
    /// Engines of one instance; zero where there is no budget.
    pub engines: EngineUse,
}

/// The driver's profiles do not make a geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GeometryError {
    /// More profiles than [`MAX_PROFILES`].
    #[error("a GPU with {profiles} MIG profiles is more than {MAX_PROFILES}")]
    TooManyProfiles {
        /// How many.
        profiles: usize,
    },
    /// Two profiles have one number.
    #[error("MIG profile {profile} is there twice")]
    Duplicate {
        /// Its number.
        profile: MigProfileId,
    },
    /// A placement without slots, beyond slot 64, or of another size than the profile's first.
    #[error("placement {placement} of MIG profile {profile} cannot be")]
    Placement {
        /// The profile's number.
        profile: MigProfileId,
        /// The placement.
        placement: Placement,
    },
}

/// What the rules need to know of one GPU model. See the module docs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    slots: u32,
    profiles: Vec<ProfileGeometry>,
    budget: Option<EngineUse>,
}

impl Geometry {
    /// From the profiles that the driver lists; profiles without a placement are left out.
    ///
    /// # Errors
    /// Profiles that no GPU can have, see [`GeometryError`].
    pub fn new(profiles: &[MigProfile]) -> Result<Self, GeometryError> {
        Self::with_engines(profiles, |_| None)
    }

    /// As [`Geometry::new`], with the engines of an instance of each profile. Unless they are known for every
    /// profile they say nothing about the GPU's total, and none of them is used.
    ///
    /// # Errors
    /// As [`Geometry::new`].
    pub fn with_engines(
        profiles: &[MigProfile],
        engines: impl Fn(MigProfileId) -> Option<EngineUse>,
    ) -> Result<Self, GeometryError> {
        let placed = || profiles.iter().filter(|p| !p.placements.is_empty());
        let count = placed().count();
        if count > MAX_PROFILES {
            return Err(GeometryError::TooManyProfiles { profiles: count });
        }
        let known: Option<Vec<EngineUse>> = placed().map(|p| engines(p.id)).collect();
        let budget = known.as_ref().map(|all| {
            all.iter()
                .fold(EngineUse::NONE, |total, one| total.max(*one))
        });
        let engines_of = |index: usize| {
            let known = known.as_ref().and_then(|all| all.get(index));
            known.copied().unwrap_or(EngineUse::NONE)
        };
        let mut seen = BTreeSet::new();
        let mut geometry = Self {
            slots: 0,
            profiles: Vec::with_capacity(count),
            budget,
        };
        for (index, profile) in placed().enumerate() {
            if !seen.insert(profile.id) {
                return Err(GeometryError::Duplicate {
                    profile: profile.id,
                });
            }
            let own = profile_geometry(profile, engines_of(index))?;
            for place in &own.places {
                geometry.slots = geometry.slots.max(place.start + own.slots);
            }
            geometry.profiles.push(own);
        }
        Ok(geometry)
    }

    /// Memory slots of the GPU: the end of the last placement.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The profiles, in the driver's order.
    #[must_use]
    pub fn profiles(&self) -> &[ProfileGeometry] {
        &self.profiles
    }

    /// The profile with this number.
    #[must_use]
    pub fn profile(&self, id: MigProfileId) -> Option<&ProfileGeometry> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// The GPU's engines, where they are known.
    #[must_use]
    pub fn budget(&self) -> Option<EngineUse> {
        self.budget
    }

    /// Position in [`Geometry::profiles`].
    pub(super) fn index(&self, id: MigProfileId) -> Option<usize> {
        self.profiles.iter().position(|profile| profile.id == id)
    }

    /// Whether the occupied slots and the one bit of rule 3 say all about what else fits: no engine budget, and
    /// no maximum (other than rule 3's) below the number of places.
    pub(super) fn follows_from_slots(&self) -> bool {
        let by_slots =
            |p: &ProfileGeometry| p.exclusive_media || !limited(p.max_instances, &p.places);
        self.budget.is_none() && self.profiles.iter().all(by_slots)
    }
}

fn profile_geometry(
    profile: &MigProfile,
    engines: EngineUse,
) -> Result<ProfileGeometry, GeometryError> {
    let slots = profile.placements.first().map_or(0, |first| first.size);
    let mut places = Vec::with_capacity(profile.placements.len());
    for placement in &profile.placements {
        let Placement { start, size } = *placement;
        let end = start.checked_add(size);
        if size == 0 || size != slots || end.is_none_or(|end| end > MAX_SLOTS) {
            return Err(GeometryError::Placement {
                profile: profile.id,
                placement: *placement,
            });
        }
        places.push(SlotRange {
            start,
            mask: (u64::MAX >> (MAX_SLOTS - size)) << start,
        });
    }
    places.sort_unstable_by_key(|place| place.start);
    places.dedup();
    Ok(ProfileGeometry {
        id: profile.id,
        slots,
        exclusive_media: profile.max_instances == 1 && limited(1, &places),
        places,
        max_instances: profile.max_instances,
        engines,
    })
}

/// Whether the maximum is less than what the slots alone would allow. Overlapping places of one profile are counted
/// as if they were disjoint, which no known part has: then the maximum counts, which is never wrong.
fn limited(max_instances: u32, places: &[SlotRange]) -> bool {
    usize::try_from(max_instances).is_ok_and(|most| most < places.len())
}
