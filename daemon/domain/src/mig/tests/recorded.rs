//! Recorded profiles of GPU models, read from the simulator's data, and what the tests do with them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::mig::geometry::{EngineUse, Geometry};
use crate::mig::load::GpuLoad;
use crate::mig::{MigProfile, MigProfileId, Placement};

/// The driver's numbers on parts with eight slots.
pub(super) const G1: MigProfileId = MigProfileId(19);
pub(super) const G1_ME: MigProfileId = MigProfileId(20);
pub(super) const G1_DOUBLE: MigProfileId = MigProfileId(15);
pub(super) const G2: MigProfileId = MigProfileId(14);
pub(super) const G3: MigProfileId = MigProfileId(9);
pub(super) const G4: MigProfileId = MigProfileId(5);
pub(super) const G7: MigProfileId = MigProfileId(0);
/// All of them but `+me`.
pub(super) const SIX: [MigProfileId; 6] = [G1, G1_DOUBLE, G2, G3, G4, G7];

/// A GPU model of the data.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) key: String,
    pub(super) profiles: Vec<MigProfile>,
    /// Engines by profile, where the data has them.
    pub(super) engines: Vec<(MigProfileId, EngineUse)>,
}

impl Model {
    /// The model without the profiles that are not listed.
    pub(super) fn only(mut self, profiles: &[MigProfileId]) -> Self {
        self.profiles.retain(|own| profiles.contains(&own.id));
        self
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry::new(&self.profiles).expect("recorded profiles make a geometry")
    }

    pub(super) fn geometry_with_engines(&self) -> Geometry {
        let known = |id| self.engines.iter().find(|(own, _)| *own == id);
        Geometry::with_engines(&self.profiles, |id| known(id).map(|(_, engines)| *engines))
            .expect("recorded profiles make a geometry")
    }

    pub(super) fn ids(&self) -> Vec<MigProfileId> {
        self.profiles.iter().map(|own| own.id).collect()
    }
}

/// All models of the data.
pub(super) fn models() -> Vec<Model> {
    let data = "../../driver-sim/data/mig-profiles.json";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(data);
    let text = fs::read_to_string(path).expect("the simulator's data can be read");
    let data: Value = serde_json::from_str(&text).expect("the simulator's data is JSON");
    list(&data["gpus"]).iter().map(model).collect()
}

pub(super) fn model_named(key: &str) -> Model {
    let named = models().into_iter().find(|model| model.key == key);
    named.expect("the data has the model")
}

pub(super) fn eight_slots() -> Model {
    model_named("A100-80GB")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn model(value: &Value) -> Model {
    let all = list(&value["gi_profiles"]);
    let engines = |value: &Value| {
        let engines = EngineUse {
            decoders: number(&value["decoders"])?,
            encoders: number(&value["encoders"])?,
            jpeg: number(&value["jpeg"])?,
            optical_flow: number(&value["ofa"])?,
        };
        Some((profile(value).id, engines))
    };
    Model {
        key: value["key"].as_str().expect("a key").to_owned(),
        profiles: all.iter().map(profile).collect(),
        engines: all.iter().filter_map(engines).collect(),
    }
}

fn profile(value: &Value) -> MigProfile {
    let figure = |key: &str| number(&value[key]).unwrap_or(0);
    let placement = |value: &Value| Placement {
        start: number(&value["start"]).expect("a start"),
        size: number(&value["size"]).expect("a size"),
    };
    MigProfile {
        id: MigProfileId(figure("id")),
        name: value["name"].as_str().expect("a name").to_owned(),
        compute_slices: figure("compute_slices"),
        max_instances: figure("max_instances"),
        memory_mib: u64::from(figure("memory_mib")),
        multiprocessors: figure("sm"),
        placements: list(&value["placements"]).iter().map(placement).collect(),
    }
}

/// Every legal set of instances of a geometry: its load, and its places ascending by start.
pub(super) fn layouts(geometry: &Geometry) -> Vec<(GpuLoad, Vec<(MigProfileId, u32)>)> {
    let mut all = vec![(GpuLoad::default(), Vec::new())];
    let mut next = 0;
    while next < all.len() {
        let (load, layout): (GpuLoad, Vec<(MigProfileId, u32)>) = all[next].clone();
        let from = layout.last().map_or(0, |(_, start)| start + 1);
        for (profile, start) in additions(geometry, &load) {
            if start >= from {
                let mut larger = load;
                larger.add(geometry, profile, start).expect("it fits");
                all.push((larger, [layout.as_slice(), &[(profile, start)]].concat()));
            }
        }
        next += 1;
    }
    all
}

/// What may be added to a load.
pub(super) fn additions(geometry: &Geometry, load: &GpuLoad) -> Vec<(MigProfileId, u32)> {
    let places = geometry.profiles().iter();
    let places = places.flat_map(|own| own.places.iter().map(|place| (own.id, place.start)));
    places
        .filter(|(profile, start)| { *load }.add(geometry, *profile, *start).is_ok())
        .collect()
}
