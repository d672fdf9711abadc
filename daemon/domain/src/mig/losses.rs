//! What the best place of a profile costs on a GPU, by lookup where a GPU's state is small.
//!
//! The state of a geometry that [follows from its slots](Geometry::follows_from_slots) is the mask of occupied slots
//! and the bit of exclusive media engines: 512 states with eight slots, 8192 with twelve (under 2 MB for the eleven
//! profiles of an RTX PRO 6000). All of them are tabulated, reachable or not, so no state is ever missing.

use crate::mig::geometry::Geometry;
use crate::mig::load::GpuLoad;
use crate::mig::room::room;

/// Most slots for which losses are tabulated.
const TABLE_SLOTS: u32 = 12;

/// The least loss of a profile on a GPU, and the starts that have it (a bit each; none: it does not fit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Least {
    pub(super) loss: u32,
    pub(super) starts: u64,
}

impl Least {
    /// From the rules, without a table.
    pub(super) fn compute(
        geometry: &Geometry,
        offered: &[usize],
        load: &GpuLoad,
        profile: usize,
    ) -> Self {
        let room_of = |load: &GpuLoad| room(geometry, offered, load);
        Self::compute_with(geometry, load, profile, room_of)
    }

    /// An instance more never makes room, so no difference is negative.
    fn compute_with(
        geometry: &Geometry,
        load: &GpuLoad,
        profile: usize,
        room_of: impl Fn(&GpuLoad) -> u32,
    ) -> Self {
        let before = room_of(load);
        let mut least = Self::default();
        for (start, after) in places(geometry, load, profile) {
            let loss = before - room_of(&after);
            if least.starts == 0 || loss < least.loss {
                least = Self { loss, starts: 0 };
            }
            if loss == least.loss {
                least.starts |= 1 << start;
            }
        }
        least
    }
}

/// [`Least`] of every profile in every state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Losses {
    slots: u32,
    /// By profile, then by state.
    least: Vec<Vec<Least>>,
}

impl Losses {
    /// Nothing where the state does not say all, or is too large.
    pub(super) fn tabulate(geometry: &Geometry, offered: &[usize]) -> Option<Self> {
        let slots = geometry.slots();
        if slots > TABLE_SLOTS || !geometry.follows_from_slots() {
            return None;
        }
        let states: Vec<GpuLoad> = [false, true]
            .into_iter()
            .flat_map(|media| (0..1_u64 << slots).map(move |mask| GpuLoad::in_state(mask, media)))
            .collect();
        let rooms: Vec<u32> = states
            .iter()
            .map(|load| room(geometry, offered, load))
            .collect();
        let room_of = |load: &GpuLoad| rooms.get(state(slots, load)).copied().unwrap_or(0);
        let of_profile = |profile| {
            let all = states.iter();
            all.map(|load| Least::compute_with(geometry, load, profile, room_of))
                .collect()
        };
        Some(Self {
            slots,
            least: (0..geometry.profiles().len()).map(of_profile).collect(),
        })
    }

    /// The entry of a GPU with this load.
    pub(super) fn least(&self, load: &GpuLoad, profile: usize) -> Least {
        let states = self.least.get(profile);
        let entry = states.and_then(|states| states.get(state(self.slots, load)));
        entry.copied().unwrap_or_default()
    }
}

/// Occupied slots, and the media engines as one bit more.
fn state(slots: u32, load: &GpuLoad) -> usize {
    let occupied = load.occupied() & ((1 << slots) - 1);
    let media = u64::from(load.exclusive_media()) << slots;
    usize::try_from(occupied | media).unwrap_or(usize::MAX)
}

/// The free places of a profile, each with the load that an instance there makes.
pub(super) fn places<'a>(
    geometry: &'a Geometry,
    load: &GpuLoad,
    profile: usize,
) -> impl Iterator<Item = (u32, GpuLoad)> + 'a {
    let load = *load;
    let fits = load.allowed(geometry, profile) > 0;
    let own = geometry.profiles().get(profile).filter(|_| fits);
    own.into_iter().flat_map(move |own| {
        let free = own.places.iter().filter(move |place| load.is_free(**place));
        free.map(move |place| {
            let mut after = load;
            after.put(own, profile, *place);
            (place.start, after)
        })
    })
}

/// The bits of a word, lowest first.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros());
        word &= word.wrapping_sub(1);
        lowest
    })
}
