//! Where an instance goes: the place that costs the least future room ("grad-active").
//!
//! With `F` the room of a GPU over the offered profiles (see `room`), a free place `k` on a GPU with load `m` costs
//! `loss = F(m) - F(m + k)`. The least loss wins. Between places of equal loss [`TieBreak`] decides, then the lower
//! GPU index, then the lower start. Integers only, nothing is drawn by chance, so equal inputs give equal answers; the
//! GPU index must be stable over restarts (order by PCI bus id).
//!
//! Nothing is ever moved, nothing is known of departures, and a request is refused only when no place is free. On
//! recorded request traces the rule accepts more than any first-fit order (`benches`, bench `placement`).
//!
//! What else fits on a GPU of up to twelve slots follows from its occupied slots and one bit for the media
//! engines, so losses are looked up: one entry per state and profile. For other geometries the same numbers are
//! computed each time.

use crate::mig::MigProfileId;
use crate::mig::geometry::Geometry;
use crate::mig::load::GpuLoad;
use crate::mig::losses::{Least, Losses, bits, places};
use crate::mig::room::{returning_room, room};

/// What decides between places of equal loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TieBreak {
    /// The GPU that is fullest before placing: grad-active as it was published.
    FullestGpu,
    /// The least loss of returning room (see the module `room`), then the fullest GPU: instances gather where
    /// something has to go anyway, and large places need few departures.
    #[default]
    ReturningRoom,
}

/// A place on one of the GPUs that were asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Index into the loads.
    pub gpu: usize,
    /// First slot.
    pub start: u32,
    /// Room that it costs, in slots summed over the offered profiles.
    pub loss: u32,
}

/// What is compared, smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    loss: u32,
    returning: u32,
    free_slots: u32,
    gpu: usize,
    start: u32,
}

impl Cost {
    fn choice(self) -> Choice {
        Choice {
            gpu: self.gpu,
            start: self.start,
            loss: self.loss,
        }
    }
}

/// The rule for GPUs of one geometry and the profiles that the node offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementTable {
    geometry: Geometry,
    offered: Vec<usize>,
    tie_break: TieBreak,
    /// Nothing where every loss is computed when it is asked for.
    losses: Option<Losses>,
}

impl PlacementTable {
    /// For GPUs of `geometry` on a node that offers these profiles; those that the GPU does not have are ignored.
    #[must_use]
    pub fn new(geometry: &Geometry, offered: &[MigProfileId], tie_break: TieBreak) -> Self {
        let mut table = Self::without_table(geometry, offered, tie_break);
        table.losses = Losses::tabulate(geometry, &table.offered);
        table
    }

    /// As [`PlacementTable::new`], computing everything when it is asked for: for large geometries, and to check the
    /// table against.
    #[must_use]
    pub fn without_table(
        geometry: &Geometry,
        offered: &[MigProfileId],
        tie_break: TieBreak,
    ) -> Self {
        let profiles = geometry.profiles().iter().enumerate();
        let offered = profiles.filter(|(_, own)| offered.contains(&own.id));
        Self {
            offered: offered.map(|(index, _)| index).collect(),
            geometry: geometry.clone(),
            tie_break,
            losses: None,
        }
    }

    /// The geometry that the loads belong to.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Room that is left on a GPU, in slots summed over the offered profiles.
    #[must_use]
    pub fn room(&self, load: &GpuLoad) -> u32 {
        room(&self.geometry, &self.offered, load)
    }

    /// How many more instances of `profile` fit on a GPU.
    #[must_use]
    pub fn fitting(&self, load: &GpuLoad, profile: MigProfileId) -> u32 {
        let index = self.geometry.index(profile);
        index.map_or(0, |index| load.fitting(&self.geometry, index))
    }

    /// The best place for one instance of `profile`, offered or not; nothing if it fits nowhere.
    #[must_use]
    pub fn choose(&self, loads: &[GpuLoad], profile: MigProfileId) -> Option<Choice> {
        let index = self.geometry.index(profile)?;
        let least: Vec<Least> = loads.iter().map(|load| self.least(load, index)).collect();
        let fits = least.iter().filter(|least| least.starts != 0);
        let loss = fits.map(|least| least.loss).min()?;
        let mut best: Option<Cost> = None;
        for (gpu, (least, load)) in least.iter().zip(loads).enumerate() {
            if least.loss != loss {
                continue;
            }
            let before = self.returning_room(load);
            for start in bits(least.starts) {
                let cost = self.cost(loss, before, gpu, load, index, start);
                best = Some(best.map_or(cost, |best| best.min(cost)));
            }
        }
        best.map(Cost::choice)
    }

    /// All free places for `profile`, best first: for a caller who has to leave some out.
    #[must_use]
    pub fn ranked(&self, loads: &[GpuLoad], profile: MigProfileId) -> Vec<Choice> {
        let Some(index) = self.geometry.index(profile) else {
            return Vec::new();
        };
        let mut costs = Vec::new();
        for (gpu, load) in loads.iter().enumerate() {
            let (room, returning) = (self.room(load), self.returning_room(load));
            for (start, after) in places(&self.geometry, load, index) {
                let loss = room - self.room(&after);
                costs.push(self.cost(loss, returning, gpu, load, index, start));
            }
        }
        costs.sort_unstable();
        costs.into_iter().map(Cost::choice).collect()
    }

    /// Returning room where it decides, else nothing.
    pub(super) fn returning_room(&self, load: &GpuLoad) -> u32 {
        match self.tie_break {
            TieBreak::FullestGpu => 0,
            TieBreak::ReturningRoom => returning_room(&self.geometry, &self.offered, load),
        }
    }

    /// Slots that nothing occupies.
    pub(super) fn free_slots(&self, load: &GpuLoad) -> u32 {
        self.geometry.slots().saturating_sub(load.occupied_slots())
    }

    /// The cost of a free place whose loss and whose GPU's returning room are known.
    fn cost(
        &self,
        loss: u32,
        returning: u32,
        gpu: usize,
        load: &GpuLoad,
        index: usize,
        start: u32,
    ) -> Cost {
        let own = self.geometry.profiles().get(index);
        let place = own.and_then(|own| own.places.iter().find(|place| place.start == start));
        let after = own.zip(place).map_or(0, |(own, place)| {
            let mut after = *load;
            after.put(own, index, *place);
            self.returning_room(&after)
        });
        Cost {
            loss,
            returning: returning - after,
            free_slots: self.free_slots(load),
            gpu,
            start,
        }
    }

    /// Looked up or computed.
    fn least(&self, load: &GpuLoad, index: usize) -> Least {
        let known = self.losses.as_ref().map(|losses| losses.least(load, index));
        known.unwrap_or_else(|| Least::compute(&self.geometry, &self.offered, load, index))
    }
}
