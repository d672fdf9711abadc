//! The size of the state space of each geometry, and when a set of instances fits on empty GPUs. The expected numbers
//! come from a brute-force enumeration by another program.

use std::collections::BTreeSet;

use super::recorded::{
    G1, G1_DOUBLE, G2, G3, G4, G7, Model, SIX, additions, eight_slots, layouts, model_named,
};
use crate::mig::MigProfileId;
use crate::mig::geometry::Geometry;

/// Layouts, maximal ones, multisets, maximal multisets, occupancy masks.
fn sizes(geometry: &Geometry) -> [usize; 5] {
    let all = layouts(geometry);
    let multiset = |layout: &[(MigProfileId, u32)]| {
        let mut profiles: Vec<MigProfileId> = layout.iter().map(|(profile, _)| *profile).collect();
        profiles.sort_unstable();
        profiles
    };
    let maximal: Vec<_> = all
        .iter()
        .filter(|(load, _)| additions(geometry, load).is_empty())
        .collect();
    let multisets: BTreeSet<_> = all.iter().map(|(_, layout)| multiset(layout)).collect();
    let maximal_multisets: BTreeSet<_> = maximal.iter().map(|(_, l)| multiset(l)).collect();
    let masks: BTreeSet<u64> = all.iter().map(|(load, _)| load.occupied()).collect();
    [
        all.len(),
        maximal.len(),
        multisets.len(),
        maximal_multisets.len(),
        masks.len(),
    ]
}

fn ids(numbers: [u32; 3]) -> [MigProfileId; 3] {
    numbers.map(MigProfileId)
}

#[test]
fn a30_has_76_layouts_and_26_without_media_engines() {
    let a30 = model_named("A30-24GB");
    assert_eq!(sizes(&a30.geometry()), [76, 17, 20, 8, 16]);
    assert_eq!(sizes(&a30.geometry_with_engines()), [76, 17, 20, 8, 16]);
    let plain = a30.only(&ids([14, 5, 0])).geometry();
    assert_eq!(sizes(&plain), [26, 5, 10, 4, 16]);
}

#[test]
fn eight_slots_have_19_maximal_layouts_of_five_profiles() {
    let plain = eight_slots().only(&[G1, G2, G3, G4, G7]).geometry();
    assert_eq!(sizes(&plain), [298, 19, 38, 14, 144]);
}

#[test]
fn eight_slots_have_2319_layouts_of_seven_profiles() {
    let six = eight_slots().only(&SIX).geometry();
    assert_eq!(sizes(&six), [723, 78, 78, 38, 192]);
    let all = eight_slots().geometry();
    assert_eq!(sizes(&all), [2319, 239, 128, 64, 192]);
    let states: BTreeSet<_> = layouts(&all)
        .iter()
        .map(|(load, _)| (load.occupied(), load.exclusive_media()))
        .collect();
    assert_eq!(states.len(), 382);
}

#[test]
fn known_engines_change_nothing_on_eight_slots() {
    let complete = |model: &Model| model.engines.len() == model.profiles.len();
    let models = super::recorded::models();
    let eight = |model: &&Model| model.geometry().slots() == 8 && complete(model);
    let mut seen = 0;
    for model in models.iter().filter(eight) {
        assert_eq!(
            sizes(&model.geometry_with_engines())[0],
            2319,
            "{}",
            model.key
        );
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} models have all engines");
}

#[test]
fn engine_totals_restrict_rtx_pro_further() {
    let rtx = model_named("RTX-PRO-6000-96GB");
    assert_eq!(sizes(&rtx.geometry()), [1009, 458, 150, 88, 16]);
    assert_eq!(sizes(&rtx.geometry_with_engines()), [717, 302, 115, 64, 16]);
    let plain = rtx.only(&ids([14, 5, 0])).geometry();
    assert_eq!(sizes(&plain), [26, 5, 10, 4, 16]);
}

/// Counts of 1g, double-memory 1g, 2g, 3g, 4g, 7g.
type Counts = [u32; 6];

/// Whether so many fit on `gpus` empty eight-slot GPUs, in closed form.
fn fits(gpus: u32, [n1, nd, n2, n3, n4, n7]: Counts) -> bool {
    fits_or_none(gpus, nd, n2, n3, n4, n7).is_some_and(|room| n1 <= room)
}

/// Room for 1g beside the others. 3g go to right halves first, double-memory 1g to the pair of slots 6 and 7.
fn fits_or_none(gpus: u32, nd: u32, n2: u32, n3: u32, n4: u32, n7: u32) -> Option<u32> {
    let cut = gpus.checked_sub(n7)?;
    let right_3g = n3.min(cut);
    let left = cut.checked_sub(n4)?.checked_sub(n3 - right_3g)?;
    let right = cut - right_3g;
    let special = nd.min(right);
    let pairs = (2 * left + right)
        .checked_sub(n2)?
        .checked_sub(nd - special)?;
    Some(2 * pairs + right - special)
}

#[test]
fn packability_in_closed_form_agrees_with_search_on_one_and_two_gpus() {
    let geometry = eight_slots().only(&SIX).geometry();
    let counts = |layout: &[(MigProfileId, u32)]| -> Counts {
        SIX.map(|id| {
            let same = layout.iter().filter(|(profile, _)| *profile == id);
            u32::try_from(same.count()).expect("a few")
        })
    };
    let one: BTreeSet<Counts> = layouts(&geometry).iter().map(|(_, l)| counts(l)).collect();
    let sum = |a: &Counts, b: &Counts| -> Counts { std::array::from_fn(|i| a[i] + b[i]) };
    let two: BTreeSet<Counts> = one
        .iter()
        .flat_map(|a| one.iter().map(move |b| sum(a, b)))
        .collect();
    for (gpus, possible) in [(1, &one), (2, &two)] {
        // One more than fits of each profile alone, so that every "too many" is tried as well.
        let most = [7, 4, 3, 2, 1, 1].map(|alone| alone * gpus + 2);
        let cases: u32 = most.iter().product();
        for case in 0..cases {
            let mut rest = case;
            let wanted: Counts = most.map(|limit| {
                let digit = rest % limit;
                rest /= limit;
                digit
            });
            let expected = possible.contains(&wanted);
            assert_eq!(fits(gpus, wanted), expected, "{wanted:?} on {gpus}");
        }
    }
}

#[test]
fn names_of_the_six_are_those_of_the_data() {
    let model = eight_slots();
    let name = |id| {
        let own = model.profiles.iter().find(|own| own.id == id);
        own.map(|own| own.name.clone()).unwrap_or_default()
    };
    assert_eq!([name(G1), name(G1_DOUBLE)], ["1g.10gb", "1g.20gb"]);
    assert_eq!([name(G2), name(G3)], ["2g.20gb", "3g.40gb"]);
    assert_eq!([name(G4), name(G7)], ["4g.40gb", "7g.80gb"]);
}
