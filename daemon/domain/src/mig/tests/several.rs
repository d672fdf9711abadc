//! Several places at once.

use super::recorded::{G1, G1_ME, G2, SIX, eight_slots};
use crate::mig::MigProfileId;
use crate::mig::load::GpuLoad;
use crate::mig::placement::{PlacementTable, TieBreak};

fn chosen(loads: &[GpuLoad], profile: MigProfileId, count: usize) -> Option<Vec<(usize, u32)>> {
    let geometry = eight_slots().geometry();
    let table = PlacementTable::new(&geometry, &SIX, TieBreak::FullestGpu);
    let chosen = table.choose_several(loads, profile, count, |_, _| true)?;
    Some(
        chosen
            .iter()
            .map(|choice| (choice.gpu, choice.start))
            .collect(),
    )
}

const EMPTY: GpuLoad = GpuLoad::EMPTY;

#[test]
fn two_small_instances_share_the_slots_of_a_larger_one() {
    assert_eq!(chosen(&[EMPTY], G1, 2), Some(vec![(0, 4), (0, 5)]));
}

#[test]
fn a_set_spans_gpus_when_one_is_too_small() {
    let four = chosen(&[EMPTY; 2], G2, 4).expect("they fit");
    assert_eq!(four, [(0, 0), (0, 2), (0, 4), (1, 4)]);
    assert_eq!(chosen(&[EMPTY; 2], G2, 7), None);
    assert_eq!(chosen(&[EMPTY; 2], G1_ME, 2), Some(vec![(0, 6), (1, 6)]));
}

#[test]
fn none_wanted_is_none_chosen() {
    assert_eq!(chosen(&[EMPTY], G1, 0), Some(Vec::new()));
    assert_eq!(chosen(&[], G1, 0), Some(Vec::new()));
    assert_eq!(chosen(&[], G1, 1), None);
}

#[test]
fn places_that_may_not_be_used_are_left_out() {
    let geometry = eight_slots().geometry();
    let table = PlacementTable::new(&geometry, &SIX, TieBreak::FullestGpu);
    let odd = |_, start: u32| start % 2 == 1;
    let chosen = table
        .choose_several(&[EMPTY], G1, 2, odd)
        .expect("they fit");
    assert!(chosen.iter().all(|choice| choice.start % 2 == 1));
    assert_eq!(table.choose_several(&[EMPTY], G1, 4, odd), None);
}
