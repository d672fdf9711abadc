//! The generated tables against the recorded data, and finding a model.

use serde_json::Value;

use super::*;

fn recorded() -> Vec<Value> {
    let text = include_str!("../../../data/mig-profiles.json");
    let data: Value = serde_json::from_str(text).unwrap();
    data["gpus"].as_array().unwrap().clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn tables_equal_the_recorded_data() {
    let mut compared = 0;
    for gpu in recorded() {
        let key = gpu["key"].as_str().unwrap().to_lowercase();
        let Some(model) = GpuModel::all().iter().find(|model| model.key == key) else {
            continue;
        };
        let mig = model.mig.as_ref().unwrap();
        assert_eq!(
            u64::from(mig.grid_slots),
            number(&gpu["grid_slots"]),
            "{key}"
        );
        assert_eq!(
            u64::from(mig.compute_slices),
            number(&gpu["compute_slices"]),
            "{key}"
        );
        assert_eq!(
            mig.mode_change_needs_reset, gpu["mode_change_needs_reset"],
            "{key}"
        );
        let profiles = gpu["gi_profiles"].as_array().unwrap();
        assert_eq!(mig.gi_profiles.len(), profiles.len(), "{key}");
        for (ours, theirs) in mig.gi_profiles.iter().zip(profiles) {
            compare_profile(ours, theirs);
            compared += 1;
        }
    }
    assert_eq!(compared, 7 * 7 + 5 + 11, "profiles of nine models");
}

fn compare_profile(ours: &GiProfile, theirs: &Value) {
    let name = ours.name;
    assert_eq!(name, theirs["name"]);
    for (figure, key) in [
        (ours.id, "id"),
        (ours.nvml_enum, "nvml_enum"),
        (ours.compute_slices, "compute_slices"),
        (ours.memory_slices, "memory_slices"),
        (ours.max_instances, "max_instances"),
        (ours.sm, "sm"),
        (ours.copy_engines, "copy_engines"),
        (ours.decoders, "decoders"),
        (ours.encoders, "encoders"),
        (ours.jpeg, "jpeg"),
        (ours.ofa, "ofa"),
    ] {
        assert_eq!(u64::from(figure), number(&theirs[key]), "{name} {key}");
    }
    assert_eq!(ours.memory_mib, number(&theirs["memory_mib"]), "{name}");
    let places = theirs["placements"].as_array().unwrap().iter();
    let places: Vec<_> = places
        .map(|p| (number(&p["start"]), number(&p["size"])))
        .collect();
    let our_places = ours
        .placements
        .iter()
        .map(|p| (u64::from(p.start), u64::from(p.size)));
    assert_eq!(our_places.collect::<Vec<_>>(), places, "{name}");
    let computes = theirs["compute_instances"].as_array().unwrap();
    let creatable: Vec<_> = ours.ci_profiles.iter().filter(|ci| ci.creatable).collect();
    assert_eq!(creatable.len(), computes.len(), "{name}");
    for (ci, recorded) in creatable.iter().zip(computes) {
        assert_eq!(ci.name, recorded["name"]);
        assert_eq!(
            u64::from(ci.id),
            number(&recorded["id"]),
            "{name} {}",
            ci.name
        );
        assert_eq!(
            u64::from(ci.sm),
            number(&recorded["sm"]),
            "{name} {}",
            ci.name
        );
        assert_eq!(
            u64::from(ci.slices),
            number(&recorded["slices"]),
            "{name} {}",
            ci.name
        );
    }
}

#[test]
fn a_model_is_found_by_key_or_by_an_unambiguous_beginning() {
    let key = |text| {
        GpuModel::find(text)
            .and_then(GpuModel::get)
            .map(|model| model.key)
    };
    assert_eq!(key("h100-80gb"), Some("h100-80gb"));
    assert_eq!(key("H200"), Some("h200-141gb"));
    assert_eq!(key("t4"), Some("t4-16gb"));
    assert_eq!(key("a100"), None, "two sizes");
    assert_eq!(key("h"), None);
}

#[test]
fn every_profile_has_a_creatable_compute_instance_of_its_full_size() {
    for mig in GpuModel::all()
        .iter()
        .filter_map(|model| model.mig.as_ref())
    {
        for profile in mig.gi_profiles {
            assert!(profile.full_ci_profile().is_some(), "{}", profile.name);
            assert_eq!(
                profile.driver_order.len(),
                profile.placements.len(),
                "{}",
                profile.name
            );
        }
    }
}
