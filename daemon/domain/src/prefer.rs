//! Which of the free devices a container should get, when the kubelet asks.
//!
//! A hint, so it never fails: what cannot be met is met as far as possible. Devices of one request are kept
//! together (MIG devices on one GPU, whole GPUs on one NUMA node), and the smallest group that has enough is
//! taken, so that larger requests find room later.

use std::collections::BTreeMap;

use crate::device_id::PluginDeviceId;
use crate::ids::GpuUuid;
use crate::slice::Place;

/// Devices that are better used together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Numa(Option<u32>),
    Gpu(GpuUuid),
}

/// Chooses `size` of `available`, all of `must_include` among them.
///
/// `order` gives each device its position in our list and its NUMA node; a device that it does not know is left
/// to the kubelet. The answer may be shorter than `size`.
#[must_use]
pub fn prefer(
    available: &[PluginDeviceId],
    must_include: &[PluginDeviceId],
    size: usize,
    order: impl Fn(&PluginDeviceId) -> Option<(usize, Option<u32>)>,
) -> Vec<PluginDeviceId> {
    let mut chosen: Vec<PluginDeviceId> = Vec::with_capacity(size);
    for id in must_include.iter().take(size) {
        if !chosen.contains(id) {
            chosen.push(id.clone());
        }
    }
    let group_of = |id: &PluginDeviceId, numa| match id.place() {
        Place::Gpu(_) => Group::Numa(numa),
        Place::Mig { gpu, .. } => Group::Gpu(gpu.clone()),
    };
    let mut groups: BTreeMap<Group, Vec<(usize, &PluginDeviceId)>> = BTreeMap::new();
    for id in available.iter().filter(|id| !must_include.contains(id)) {
        if let Some((position, numa)) = order(id) {
            groups
                .entry(group_of(id, numa))
                .or_default()
                .push((position, id));
        }
    }
    let started: Vec<Group> = chosen
        .iter()
        .filter_map(|id| order(id).map(|(_, numa)| group_of(id, numa)))
        .collect();
    let mut rest: Vec<(Group, Vec<(usize, &PluginDeviceId)>)> = groups.into_iter().collect();
    for (_, members) in &mut rest {
        members.sort_unstable();
        members.dedup();
    }
    while chosen.len() < size && !rest.is_empty() {
        let wanted = size - chosen.len();
        let best = rest
            .iter()
            .enumerate()
            .min_by_key(|(_, (group, members))| {
                let enough = members.len() >= wanted;
                // the group that is begun; then the tightest that is enough; then the largest that is not
                let fit = if enough {
                    members.len()
                } else {
                    usize::MAX - members.len()
                };
                let first = members
                    .first()
                    .map_or(usize::MAX, |(position, _)| *position);
                (!started.contains(group), !enough, fit, first)
            })
            .map(|(index, _)| index);
        let Some(best) = best else { break };
        let (_, members) = rest.swap_remove(best);
        chosen.extend(members.into_iter().take(wanted).map(|(_, id)| id.clone()));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mig::MigProfileId;
    use proptest::prelude::*;

    fn gpu(n: usize) -> PluginDeviceId {
        format!("GPU-00000000-0000-0000-0000-{n:012}")
            .parse()
            .expect("valid")
    }

    fn mig(n: usize, start: u32) -> PluginDeviceId {
        let gpu = gpu(n).place().gpu().clone();
        Place::Mig {
            gpu,
            profile: MigProfileId(19),
            start,
        }
        .into()
    }

    /// GPUs 0 to 3 on NUMA node 0, 4 to 7 on node 1.
    fn eight(id: &PluginDeviceId) -> Option<(usize, Option<u32>)> {
        let index = (0..8).find(|&n| gpu(n).place().gpu() == id.place().gpu())?;
        let start = match id.place() {
            Place::Mig { start, .. } => *start as usize,
            Place::Gpu(_) => 0,
        };
        Some((index * 8 + start, Some(u32::from(index > 3))))
    }

    #[test]
    fn one_mig_device_comes_from_the_fullest_gpu() {
        let free: Vec<_> = (0..7)
            .map(|s| mig(0, s))
            .chain([mig(1, 2), mig(1, 5)])
            .collect();
        assert_eq!(prefer(&free, &[], 1, eight), [mig(1, 2)]);
        assert_eq!(
            prefer(&free, &[], 3, eight),
            [mig(0, 0), mig(0, 1), mig(0, 2)]
        );
    }

    #[test]
    fn whole_gpus_stay_on_one_numa_node() {
        let free: Vec<_> = [0, 4, 5, 6].map(gpu).into();
        assert_eq!(prefer(&free, &[], 2, eight), [gpu(4), gpu(5)]);
        assert_eq!(prefer(&free, &[], 1, eight), [gpu(0)]);
        assert_eq!(prefer(&free, &[gpu(0)], 2, eight)[0], gpu(0));
        assert_eq!(prefer(&free, &[gpu(6)], 2, eight), [gpu(6), gpu(4)]);
    }

    #[test]
    fn too_large_a_request_gets_what_there_is() {
        let free: Vec<_> = [0, 4].map(gpu).into();
        assert_eq!(prefer(&free, &[], 5, eight).len(), 2);
        assert!(prefer(&[], &[], 5, eight).is_empty());
    }

    proptest! {
        #[test]
        fn the_answer_is_drawn_from_what_is_free_without_repeats(
            free in proptest::collection::vec((0_usize..8, 0_u32..7), 0..40),
            must in 0_usize..4,
            size in 0_usize..20,
        ) {
            let free: Vec<_> = free.into_iter().map(|(n, start)| mig(n, start)).collect();
            let must: Vec<_> = free.iter().take(must).cloned().collect();
            let answer = prefer(&free, &must, size, eight);
            let mut distinct = answer.clone();
            distinct.sort();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), answer.len());
            prop_assert!(answer.iter().all(|id| free.contains(id)));
            let mut all = free.clone();
            all.sort();
            all.dedup();
            prop_assert_eq!(answer.len(), size.min(all.len()));
        }
    }
}
