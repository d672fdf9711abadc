//! What a geometry refuses, and what may not lie on a GPU, by the rules and by the second opinion.

use super::recorded::{G1, G1_ME, G2, G3, G4, eight_slots, model_named, models};
use crate::mig::check::{BrokenRule, check};
use crate::mig::geometry::{EngineUse, Geometry, GeometryError};
use crate::mig::load::{GpuLoad, LoadError};
use crate::mig::placement::{PlacementTable, TieBreak};
use crate::mig::{MigProfile, MigProfileId, Placement};

fn profile(id: u32, max_instances: u32, placements: &[(u32, u32)]) -> MigProfile {
    let placement = |(start, size): &(u32, u32)| Placement {
        start: *start,
        size: *size,
    };
    MigProfile {
        id: MigProfileId(id),
        name: format!("{id}g"),
        compute_slices: 1,
        max_instances,
        memory_mib: 1,
        multiprocessors: 1,
        placements: placements.iter().map(placement).collect(),
    }
}

#[test]
fn profiles_that_no_gpu_can_have_are_refused() {
    let placement = |start, size| GeometryError::Placement {
        profile: MigProfileId(1),
        placement: Placement { start, size },
    };
    let refused = |profiles: &[MigProfile]| Geometry::new(profiles).expect_err("refused");
    assert_eq!(refused(&[profile(1, 1, &[(0, 0)])]), placement(0, 0));
    assert_eq!(refused(&[profile(1, 1, &[(60, 5)])]), placement(60, 5));
    assert_eq!(
        refused(&[profile(1, 1, &[(u32::MAX, 2)])]),
        placement(u32::MAX, 2)
    );
    assert_eq!(
        refused(&[profile(1, 1, &[(0, 2), (2, 1)])]),
        placement(2, 1)
    );
    let twice = [profile(1, 1, &[(0, 1)]), profile(1, 1, &[(1, 1)])];
    assert_eq!(
        refused(&twice),
        GeometryError::Duplicate {
            profile: MigProfileId(1)
        }
    );
    let many: Vec<_> = (0..33).map(|id| profile(id, 1, &[(0, 1)])).collect();
    assert_eq!(
        refused(&many),
        GeometryError::TooManyProfiles { profiles: 33 }
    );
}

#[test]
fn a_profile_without_placements_is_left_out() {
    let geometry = Geometry::new(&[profile(1, 1, &[]), profile(2, 1, &[(0, 64)])]).expect("fine");
    assert_eq!(geometry.profiles().len(), 1);
    assert_eq!(
        (geometry.slots(), geometry.profiles()[0].places[0].mask),
        (64, u64::MAX)
    );
}

/// The rules tell it by maximum and placements, the second opinion by name.
#[test]
fn media_engines_are_recognised_alike_by_rule_and_by_name() {
    for model in models() {
        let geometry = model.geometry();
        for own in &model.profiles {
            let rule = geometry.profile(own.id).expect("there").exclusive_media;
            assert_eq!(rule, own.name.contains("+me"), "{} {}", model.key, own.name);
        }
    }
}

#[test]
fn places_of_one_profile_are_disjoint_on_every_part() {
    for model in models() {
        for own in model.geometry().profiles() {
            let sum: u32 = own.places.iter().map(|place| place.mask.count_ones()).sum();
            let union = own.places.iter().fold(0, |all, place| all | place.mask);
            assert_eq!(sum, union.count_ones(), "{} {}", model.key, own.id);
        }
    }
}

#[test]
fn each_broken_rule_is_named() {
    let model = eight_slots();
    let geometry = model.geometry();
    let both = |placed: &[(MigProfileId, u32)]| {
        let load = GpuLoad::of(&geometry, placed.iter().copied()).expect_err("illegal");
        (load, check(&model.profiles, placed).expect_err("illegal"))
    };
    let unknown = MigProfileId(99);
    assert_eq!(
        both(&[(unknown, 0)]),
        (
            LoadError::UnknownProfile { profile: unknown },
            BrokenRule::UnknownProfile { profile: unknown }
        )
    );
    assert_eq!(
        both(&[(G2, 6)]),
        (
            LoadError::NoSuchPlace {
                profile: G2,
                start: 6
            },
            BrokenRule::UnlistedPlacement {
                profile: G2,
                start: 6
            }
        )
    );
    assert_eq!(
        both(&[(G4, 0), (G1, 3)]),
        (
            LoadError::Occupied {
                profile: G1,
                start: 3
            },
            BrokenRule::Overlap {
                first: (G4, 0),
                second: (G1, 3)
            }
        )
    );
    assert_eq!(
        both(&[(G1_ME, 0), (G1_ME, 1)]).0,
        LoadError::MediaEngines { profile: G1_ME }
    );
    let a30 = model_named("A30-24GB");
    let mixed = [(MigProfileId(21), 0), (MigProfileId(6), 2)];
    assert_eq!(
        check(&a30.profiles, &mixed),
        Err(BrokenRule::MediaEngines {
            first: mixed[0].0,
            second: mixed[1].0
        })
    );
    assert_eq!(check(&model.profiles, &[(G3, 4), (G3, 0)]), Ok(()));
}

#[test]
fn a_maximum_below_the_places_counts() {
    let two_of_four = [profile(1, 2, &[(0, 1), (1, 1), (2, 1), (3, 1)])];
    let geometry = Geometry::new(&two_of_four).expect("fine");
    let id = MigProfileId(1);
    let mut load = GpuLoad::of(&geometry, [(id, 0), (id, 1)]).expect("two may be");
    assert_eq!(
        load.add(&geometry, id, 2),
        Err(LoadError::Maximum { profile: id })
    );
    let placed = [(id, 0), (id, 1), (id, 2)];
    let broken = BrokenRule::TooMany {
        profile: id,
        count: 3,
        most: 2,
    };
    assert_eq!(check(&two_of_four, &placed), Err(broken));
}

#[test]
fn all_decoders_in_one_instance_leave_none_for_another() {
    let rtx = model_named("RTX-PRO-6000-96GB");
    let geometry = rtx.geometry_with_engines();
    let (all_engines, plain, without) = (MigProfileId(65), MigProfileId(14), MigProfileId(67));
    let mut load = GpuLoad::of(&geometry, [(all_engines, 0)]).expect("it fits");
    let refused = LoadError::MediaEngines { profile: plain };
    assert_eq!(load.add(&geometry, plain, 3), Err(refused));
    assert_eq!(load.add(&geometry, without, 3), Ok(()));
}

#[test]
fn engines_known_in_part_are_not_used() {
    let some = |id| (id == G1).then(EngineUse::default);
    let geometry = Geometry::with_engines(&eight_slots().profiles, some).expect("fine");
    assert_eq!(geometry.budget(), None);
}

#[test]
fn blocked_slots_stay_within_the_word() {
    let mut load = GpuLoad::default();
    load.block(Placement { start: 64, size: 1 });
    load.block(Placement { start: 3, size: 0 });
    assert_eq!(load, GpuLoad::default());
    load.block(Placement { start: 62, size: 9 });
    assert_eq!((load.occupied(), load.occupied_slots()), (0b11 << 62, 2));
}

#[test]
fn a_gpu_of_64_slots_is_placed_without_a_table() {
    let ones: Vec<(u32, u32)> = (0..64).map(|start| (start, 1)).collect();
    let profiles = [profile(1, 64, &ones), profile(2, 2, &[(0, 32), (32, 32)])];
    let (one, half) = (MigProfileId(1), MigProfileId(2));
    let geometry = Geometry::new(&profiles).expect("fine");
    let table = PlacementTable::new(&geometry, &[one, half], TieBreak::ReturningRoom);
    let mut load = GpuLoad::of(&geometry, [(one, 63)]).expect("it fits");
    for (wanted, start) in [(one, 32), (half, 0), (one, 33)] {
        let choice = table.choose(&[load], wanted).expect("it fits");
        assert_eq!(choice.start, start);
        load.add(&geometry, wanted, start).expect("it fits");
    }
    assert_eq!(table.choose(&[load], half), None);
}
