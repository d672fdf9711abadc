//! The invariants of a GPU under random creates and destroys, checked without the create rules.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{GPU, mig_node};
use crate::*;

#[derive(Clone, Debug)]
enum Step {
    CreateGi {
        profile: usize,
        place: Option<usize>,
    },
    DestroyGi {
        which: usize,
    },
    CreateCi {
        which: usize,
        profile: usize,
        place: Option<usize>,
    },
    DestroyCi {
        which: usize,
    },
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || proptest::option::of(0..8usize);
    let step = prop_oneof![
        8 => (0..11usize, place()).prop_map(|(profile, place)| Step::CreateGi { profile, place }),
        3 => (0..16usize).prop_map(|which| Step::DestroyGi { which }),
        8 => (0..16usize, 0..6usize, place())
            .prop_map(|(which, profile, place)| Step::CreateCi { which, profile, place }),
        3 => (0..16usize).prop_map(|which| Step::DestroyCi { which }),
        1 => Just(Step::Reset),
    ];
    proptest::collection::vec(step, 0..60)
}

fn apply(node: &mut Node, step: &Step) -> Result<()> {
    let gpu = node.gpu(GPU)?;
    let mig = gpu.mig_model()?;
    let gis: Vec<_> = gpu.instances().map(|gi| (gi.id(), gi.profile_id)).collect();
    let devices: Vec<_> = gpu.mig_devices(GPU).collect();
    match *step {
        Step::CreateGi { profile, place } => {
            let profile = &mig.gi_profiles[profile % mig.gi_profiles.len()];
            let place = place.map(|at| profile.placements[at % profile.placements.len()]);
            node.create_gi(GPU, profile.id, place, 0).map(|_| ())
        }
        Step::DestroyGi { which } => match gis.get(which) {
            Some(&(gi, _)) => node.destroy_gi(GPU, gi, 0),
            None => Ok(()),
        },
        Step::CreateCi {
            which,
            profile,
            place,
        } => {
            let Some(&(gi, id)) = gis.get(which) else {
                return Ok(());
            };
            let profiles = mig.gi_profile(id).unwrap().ci_profiles;
            let profile = &profiles[profile % profiles.len()];
            let places: Vec<_> = profile.placements().collect();
            let place = place.map(|at| places[at % places.len()]);
            node.create_ci(GPU, gi, profile.id, place, 0).map(|_| ())
        }
        Step::DestroyCi { which } => match devices.get(which) {
            Some(&device) => node.destroy_ci(device, 0),
            None => Ok(()),
        },
        Step::Reset => {
            node.reset_gpu(GPU, 0)?;
            // Hopper and later lose the mode with the reset.
            node.set_mig_mode(GPU, 1, 0).map(|_| ())
        }
    }
}

fn check(node: &Node) {
    let gpu = node.gpu(GPU).unwrap();
    let mig = gpu.mig_model().unwrap();
    let whole = mig
        .gi_profiles
        .iter()
        .max_by_key(|profile| profile.sm)
        .unwrap();
    let mut slices = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let (mut decoders, mut jpeg, mut ofa) = (0, 0, 0);
    for gi in gpu.instances() {
        let profile = mig.gi_profile(gi.profile_id).unwrap();
        assert!(profile.placements.contains(&gi.placement()), "{gi:?}");
        for slice in gi.start..gi.start + gi.size {
            assert!(slices.insert(slice), "slice {slice} is given twice");
        }
        assert!(
            gi.id <= 14 && ids.insert(gi.id),
            "GI id {} is given twice",
            gi.id
        );
        decoders += profile.decoders;
        jpeg += profile.jpeg;
        ofa += profile.ofa;
        let same = gpu
            .instances()
            .filter(|other| other.profile_id == gi.profile_id)
            .count();
        assert!(
            same <= profile.max_instances as usize,
            "{} × {}",
            same,
            profile.name
        );
        check_compute(gi, profile);
    }
    assert!(decoders <= whole.decoders && jpeg <= whole.jpeg && ofa <= whole.ofa);
    let devices: Vec<_> = gpu.mig_devices(GPU).collect();
    let uuids: BTreeSet<_> = devices.iter().map(|d| node.mig_uuid(*d).unwrap()).collect();
    assert_eq!(uuids.len(), devices.len(), "a MIG uuid is given twice");
}

fn check_compute(gi: &GpuInstance, profile: &GiProfile) {
    let mut slices = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut multiprocessors = 0;
    for ci in gi.compute_instances() {
        let compute = profile.ci_profile(ci.profile_id).unwrap();
        assert!(compute.creatable && ci.size == compute.slices);
        assert!(
            ci.start + ci.size <= profile.compute_slices,
            "{ci:?} in {}",
            profile.name
        );
        for slice in ci.start..ci.start + ci.size {
            assert!(slices.insert(slice), "compute slice {slice} is given twice");
        }
        assert!(ids.insert(ci.id));
        multiprocessors += compute.sm;
    }
    assert!(multiprocessors <= profile.sm, "{}", profile.name);
}

proptest! {
    #[test]
    fn creates_and_destroys_keep_every_invariant(
        model in prop::sample::select(
            vec!["a30", "a100-40gb", "h100-80gb", "h200", "b200", "rtx-pro-6000"],
        ),
        steps in steps(),
    ) {
        let mut node = mig_node(model);
        for step in &steps {
            let before = format!("{:?}", node.gpus[0].gis);
            let generation = node.header.generation;
            let answer = apply(&mut node, step);
            if answer.is_err() {
                assert_eq!(before, format!("{:?}", node.gpus[0].gis), "a refusal changes nothing");
                assert_eq!(generation, node.header.generation);
            }
            check(&node);
        }
    }

    #[test]
    fn remaining_capacity_is_what_can_be_created(
        model in prop::sample::select(vec!["a30", "a100-40gb", "h100-80gb", "rtx-pro-6000"]),
        steps in steps(),
    ) {
        let mut node = mig_node(model);
        for step in &steps {
            let _refused = apply(&mut node, step);
        }
        for profile in node.gpu(GPU).unwrap().mig_model().unwrap().gi_profiles {
            let mut trial = node.clone();
            let mut made = 0;
            while trial.create_gi(GPU, profile.id, None, 0).is_ok() {
                made += 1;
            }
            assert_eq!(node.gi_remaining_capacity(GPU, profile.id), Ok(made), "{}", profile.name);
        }
    }

    #[test]
    fn damaged_instances_are_repaired_and_sound_ones_kept(
        steps in steps(),
        damage in proptest::collection::vec((0..15usize, 0..6usize, any::<u32>()), 0..6),
    ) {
        let mut node = mig_node("h100-80gb");
        for step in &steps {
            let _refused = apply(&mut node, step);
        }
        let sound = format!("{:?}", node.gpus[0].instances().collect::<Vec<_>>());
        for &(at, field, value) in &damage {
            let gi = &mut node.gpus[0].gis[at];
            let fields =
                [&mut gi.in_use, &mut gi.id, &mut gi.profile_id, &mut gi.start, &mut gi.size];
            if let Some(target) = fields.into_iter().nth(field) {
                *target = value;
            }
        }
        node.repair();
        let gpu = node.gpu(GPU).unwrap();
        let mut slices = BTreeSet::new();
        for gi in gpu.instances() {
            let profile = gpu.mig_model().unwrap().gi_profile(gi.profile_id).unwrap();
            assert!(profile.placements.contains(&gi.placement()));
            assert!((gi.start..gi.start + gi.size).all(|slice| slices.insert(slice)));
        }
        if damage.is_empty() {
            assert_eq!(sound, format!("{:?}", gpu.instances().collect::<Vec<_>>()));
        }
    }
}
