//! On random histories: the rule against the second opinion, the table against the computation, one against several.

use proptest::prelude::*;

use super::recorded::{Model, models};
use crate::mig::MigProfileId;
use crate::mig::check::check;
use crate::mig::load::GpuLoad;
use crate::mig::placement::{Choice, PlacementTable, TieBreak};

/// Geometries that differ: four slots, eight, twelve.
const MODELS: [&str; 3] = ["A30-24GB", "A100-80GB", "RTX-PRO-6000-96GB"];

/// A request for the profile at an index, or a departure of the instance at an index; both wrap around.
#[derive(Debug, Clone, Copy)]
enum Event {
    Request(usize),
    Departure(usize),
}

#[derive(Debug, Clone)]
struct History {
    model: Model,
    gpus: usize,
    offered: Vec<MigProfileId>,
    tie_break: TieBreak,
    events: Vec<Event>,
}

fn histories() -> impl Strategy<Value = History> {
    let all: Vec<Model> = models()
        .into_iter()
        .filter(|model| MODELS.contains(&model.key.as_str()))
        .collect();
    let event = prop_oneof![
        3 => any::<usize>().prop_map(Event::Request),
        1 => any::<usize>().prop_map(Event::Departure),
    ];
    let events = proptest::collection::vec(event, 0..40);
    let tie_break = prop_oneof![Just(TieBreak::FullestGpu), Just(TieBreak::ReturningRoom)];
    let model = (0..all.len()).prop_map(move |index| all[index].clone());
    (model, 1_usize..4, any::<u32>(), tie_break, events).prop_map(
        |(model, gpus, offer, tie_break, events)| {
            let ids = model.ids().into_iter().enumerate();
            let offered = ids.filter(|(index, _)| offer >> index & 1 == 1);
            History {
                offered: offered.map(|(_, id)| id).collect(),
                model,
                gpus,
                tie_break,
                events,
            }
        },
    )
}

/// Instances on each GPU.
type Node = Vec<Vec<(MigProfileId, u32)>>;

/// Replays a history, placing by `table`; `look` sees each request before it is placed.
fn replay(
    history: &History,
    table: &PlacementTable,
    mut look: impl FnMut(&Node, &[GpuLoad], MigProfileId, Option<Choice>),
) {
    let mut node: Node = vec![Vec::new(); history.gpus];
    let ids = history.model.ids();
    for event in &history.events {
        match event {
            Event::Departure(index) => {
                let on = node.iter().map(Vec::len).sum::<usize>().max(1);
                let mut rest = index % on;
                for gpu in &mut node {
                    if rest < gpu.len() {
                        gpu.remove(rest);
                        break;
                    }
                    rest -= gpu.len();
                }
            }
            Event::Request(index) => {
                let profile = ids[index % ids.len()];
                let load = |gpu: &Vec<_>| GpuLoad::of(table.geometry(), gpu.iter().copied());
                let loads: Result<Vec<GpuLoad>, _> = node.iter().map(load).collect();
                let loads = loads.expect("what was chosen is legal");
                let choice = table.choose(&loads, profile);
                look(&node, &loads, profile, choice);
                if let Some(choice) = choice {
                    node[choice.gpu].push((profile, choice.start));
                }
            }
        }
    }
}

fn with(gpu: &[(MigProfileId, u32)], place: (MigProfileId, u32)) -> Vec<(MigProfileId, u32)> {
    [gpu, &[place]].concat()
}

fn tables(history: &History) -> [PlacementTable; 2] {
    let geometry = history.model.geometry();
    [
        PlacementTable::new(&geometry, &history.offered, history.tie_break),
        PlacementTable::without_table(&geometry, &history.offered, history.tie_break),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_choice_is_legal_and_a_refusal_means_that_nothing_fits(history in histories()) {
        let profiles = &history.model.profiles;
        let [table, _] = tables(&history);
        replay(&history, &table, |node, _, profile, choice| {
            let own = profiles.iter().find(|own| own.id == profile).expect("a known profile");
            let legal = |gpu: &Vec<_>, start| check(profiles, &with(gpu, (profile, start))).is_ok();
            match choice {
                Some(choice) => assert!(legal(&node[choice.gpu], choice.start), "{choice:?}"),
                None => {
                    let free = node.iter().any(|gpu| own.placements.iter().any(|p| legal(gpu, p.start)));
                    assert!(!free, "{profile} would fit on {node:?}");
                }
            }
        });
    }

    #[test]
    fn table_and_computation_choose_alike_and_always_the_same(history in histories()) {
        let [table, computed] = tables(&history);
        replay(&history, &table, |_, loads, profile, choice| {
            assert_eq!(table.choose(loads, profile), choice);
            assert_eq!(computed.choose(loads, profile), choice);
            assert_eq!(table.ranked(loads, profile).first().copied(), choice);
            let one = table.choose_several(loads, profile, 1, |_, _| true);
            assert_eq!(one.and_then(|one| one.first().copied()), choice);
        });
    }

    #[test]
    fn all_free_places_are_ranked_once_each(history in histories()) {
        let [table, _] = tables(&history);
        replay(&history, &table, |_, loads, profile, _| {
            let fitting: u32 = loads.iter().map(|load| table.fitting(load, profile)).sum();
            let ranked = table.ranked(loads, profile);
            let mut places: Vec<_> = ranked.iter().map(|one| (one.gpu, one.start)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), ranked.len());
            assert!(places.len() >= usize::try_from(fitting).expect("a few"));
            assert!(ranked.is_sorted_by_key(|one| one.loss));
        });
    }

    #[test]
    fn engine_totals_only_take_choices_away(history in histories()) {
        let geometry = history.model.geometry_with_engines();
        let table = PlacementTable::new(&geometry, &history.offered, history.tie_break);
        let without = history.model.geometry();
        replay(&history, &table, |node, _, profile, choice| {
            if let Some(choice) = choice {
                let placed = with(&node[choice.gpu], (profile, choice.start));
                assert_eq!(check(&history.model.profiles, &placed), Ok(()));
                GpuLoad::of(&without, placed).expect("legal without engine totals, too");
            }
        });
    }

    #[test]
    fn two_at_once_cost_no_more_than_any_two(history in histories()) {
        let [table, _] = tables(&history);
        replay(&history, &table, |_, loads, profile, _| {
            let room = |loads: &[GpuLoad]| loads.iter().map(|load| table.room(load)).sum::<u32>();
            let mut least: Option<u32> = None;
            for first in table.ranked(loads, profile) {
                let mut after = loads.to_vec();
                let added = after[first.gpu].add(table.geometry(), profile, first.start);
                added.expect("a ranked place is free");
                for second in table.ranked(&after, profile) {
                    let loss = room(loads) - room(&after) + second.loss;
                    least = Some(least.map_or(loss, |least| least.min(loss)));
                }
            }
            let two = table.choose_several(loads, profile, 2, |_, _| true);
            assert_eq!(two.map(|two| two[0].loss), least);
        });
    }
}
