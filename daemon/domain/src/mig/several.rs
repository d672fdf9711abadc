//! Places for several instances of one profile at once, for a container that asks for more than one device.
//!
//! One after the other would be wrong: two `1g` on an empty eight-slot GPU go to slots 6 and 4 that way and cost 20,
//! while 4 and 5 cost 18. So on each GPU every set of free places is tried depth first, the best set of each size is
//! kept, and the sizes are shared out over the GPUs. A cost is a difference of two states of a GPU, so it does not
//! depend on the order of the instances, and the costs of several GPUs add up: the answer is the best one.
//!
//! Ties are broken as for one instance: fullest GPUs first, then the smallest list of GPU and start.

use crate::mig::MigProfileId;
use crate::mig::load::GpuLoad;
use crate::mig::losses::places;
use crate::mig::placement::{Choice, PlacementTable};

/// Free places of one profile on one GPU of which all sets are tried; those with a higher start are left out. No known
/// profile has more than seven places.
const MOST_PLACES: usize = 16;

/// A set of places with its cost; sets of one size are compared field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Set {
    loss: u32,
    returning: u32,
    free_slots: u32,
    places: Vec<(usize, u32)>,
}

impl Set {
    fn with(&self, other: &Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            returning: self.returning + other.returning,
            free_slots: self.free_slots + other.free_slots,
            places: [self.places.as_slice(), &other.places].concat(),
        }
    }
}

/// The best set of each size; the index is the size.
type BySize = Vec<Option<Set>>;

impl PlacementTable {
    /// The best places for `count` instances of `profile` among those that `may_use` (GPU, start) admits; nothing if
    /// so many do not fit. Ascending by GPU and start; each [`Choice`] has the loss of the whole set.
    #[must_use]
    pub fn choose_several(
        &self,
        loads: &[GpuLoad],
        profile: MigProfileId,
        count: usize,
        may_use: impl Fn(usize, u32) -> bool,
    ) -> Option<Vec<Choice>> {
        let index = self.geometry().index(profile)?;
        let mut shared = vec![Some(Set::default())];
        for (gpu, load) in loads.iter().enumerate() {
            let mut free: Vec<u32> = places(self.geometry(), load, index)
                .map(|(start, _)| start)
                .filter(|start| may_use(gpu, *start))
                .collect();
            free.truncate(MOST_PLACES);
            let mut search = Search {
                table: self,
                profile: index,
                gpu,
                before: load,
                most: count,
                best: Vec::new(),
            };
            search.descend(load, &free, &mut Vec::new());
            shared = share(&shared, &search.best, count);
        }
        let best = shared.into_iter().nth(count)??;
        let choice = |(gpu, start)| Choice {
            gpu,
            start,
            loss: best.loss,
        };
        Some(best.places.iter().copied().map(choice).collect())
    }
}

/// All sets of places on one GPU.
#[derive(Debug)]
struct Search<'a> {
    table: &'a PlacementTable,
    profile: usize,
    gpu: usize,
    before: &'a GpuLoad,
    most: usize,
    best: BySize,
}

impl Search<'_> {
    /// Takes the set `chosen`, which makes `load`, then every larger one with places of `rest`.
    fn descend(&mut self, load: &GpuLoad, rest: &[u32], chosen: &mut Vec<u32>) {
        self.offer(load, chosen);
        if chosen.len() == self.most {
            return;
        }
        for (position, start) in rest.iter().enumerate() {
            let mut free = places(self.table.geometry(), load, self.profile);
            let Some((_, after)) = free.find(|(other, _)| other == start) else {
                continue;
            };
            chosen.push(*start);
            self.descend(&after, rest.get(position + 1..).unwrap_or_default(), chosen);
            chosen.pop();
        }
    }

    fn offer(&mut self, load: &GpuLoad, chosen: &[u32]) {
        let (table, before) = (self.table, self.before);
        let free_slots = chosen.iter().map(|_| table.free_slots(before)).sum();
        let set = Set {
            loss: table.room(before) - table.room(load),
            returning: table.returning_room(before) - table.returning_room(load),
            free_slots,
            places: chosen.iter().map(|start| (self.gpu, *start)).collect(),
        };
        if self.best.len() <= chosen.len() {
            self.best.resize(chosen.len() + 1, None);
        }
        if let Some(best) = self.best.get_mut(chosen.len()) {
            keep_better(best, set);
        }
    }
}

/// The best sets over some GPUs and one more.
fn share(so_far: &BySize, one_more: &BySize, most: usize) -> BySize {
    let mut shared: BySize = vec![None; (so_far.len() + one_more.len() - 1).min(most + 1)];
    for (size, set) in so_far.iter().enumerate() {
        for (more, added) in one_more.iter().enumerate() {
            if let (Some(set), Some(added), Some(best)) = (set, added, shared.get_mut(size + more))
            {
                keep_better(best, set.with(added));
            }
        }
    }
    shared
}

fn keep_better(best: &mut Option<Set>, set: Set) {
    if best.as_ref().is_none_or(|best| set < *best) {
        *best = Some(set);
    }
}
