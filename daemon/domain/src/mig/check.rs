//! A second opinion on what may lie on one GPU, for the moment before an instance is created.
//!
//! Shares no code with `geometry` and `load`, and decides by other means: ranges instead of masks, and the media
//! engines by the driver's profile names (`+me`, `+me.all`) instead of by maximum and placements. A mistake would have
//! to be made twice.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::mig::{MigProfile, MigProfileId};

/// The rule that a set of instances breaks. A place is a profile and its first slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BrokenRule {
    /// The GPU does not have the profile.
    #[error("the GPU has no MIG profile {profile}")]
    UnknownProfile {
        /// Its number.
        profile: MigProfileId,
    },
    /// The driver lists no such placement.
    #[error("MIG profile {profile} has no placement at {start}")]
    UnlistedPlacement {
        /// The profile's number.
        profile: MigProfileId,
        /// First slot.
        start: u32,
    },
    /// Two instances share a slot.
    #[error("MIG profile {} at {} and {} at {} share a slot", .first.0, .first.1, .second.0, .second.1)]
    Overlap {
        /// The place that was named first.
        first: (MigProfileId, u32),
        /// The other.
        second: (MigProfileId, u32),
    },
    /// More instances of a profile than the driver allows.
    #[error("{count} instances of MIG profile {profile} are more than {most}")]
    TooMany {
        /// The profile's number.
        profile: MigProfileId,
        /// How many there are.
        count: u32,
        /// How many there may be.
        most: u32,
    },
    /// More than one instance with the media engines that the GPU has once.
    #[error("MIG profiles {} and {} both need the GPU's media engines", .first, .second)]
    MediaEngines {
        /// A profile of the `+me` family.
        first: MigProfileId,
        /// Another, or the same.
        second: MigProfileId,
    },
}

/// Whether instances at these places, each a profile and its first slot, may lie on one GPU together.
///
/// # Errors
/// The first rule that they break.
pub fn check(profiles: &[MigProfile], placed: &[(MigProfileId, u32)]) -> Result<(), BrokenRule> {
    let mut counts: BTreeMap<MigProfileId, u32> = BTreeMap::new();
    let mut ranges = Vec::new();
    let mut with_engines = None;
    for (id, start) in placed.iter().copied() {
        let profile = profiles.iter().find(|profile| profile.id == id);
        let profile = profile.ok_or(BrokenRule::UnknownProfile { profile: id })?;
        let listed = profile.placements.iter().find(|p| p.start == start);
        let range = listed.ok_or(BrokenRule::UnlistedPlacement { profile: id, start })?;
        for (other, at) in &ranges {
            if range.overlaps(*at) {
                return Err(BrokenRule::Overlap {
                    first: (*other, at.start),
                    second: (id, start),
                });
            }
        }
        ranges.push((id, *range));
        let count = counts.entry(id).or_default();
        *count += 1;
        if *count > profile.max_instances {
            return Err(BrokenRule::TooMany {
                profile: id,
                count: *count,
                most: profile.max_instances,
            });
        }
        if has_media_engines(&profile.name)
            && let Some(first) = with_engines.replace(id)
        {
            return Err(BrokenRule::MediaEngines { first, second: id });
        }
    }
    Ok(())
}

/// `1g.10gb+me` and `1g.24gb+me.all`, but neither `1g.24gb-me` nor `1g.24gb+gfx`.
fn has_media_engines(name: &str) -> bool {
    let attributes = name.split('+').skip(1);
    attributes
        .flat_map(|one| one.split(['.', ',']))
        .any(|word| word == "me")
}
