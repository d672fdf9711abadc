//! Turns `driver-sim/data/{gpus,mig-profiles}.json` into the Rust tables of `gpu_model.rs`.
//!
//! A GPU becomes a model when `gpus.json` knows it; its MIG half is present when `mig-profiles.json` has complete
//! figures for every profile. Two traps of the A100 and A30 that no published listing shows are added here and
//! marked as not creatable (module docs of `gpu_model.rs`).

use std::fmt::Write as _;
use std::{env, error::Error, fs, path::Path};

use serde_json::Value;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let data = Path::new("../data");
    println!("cargo::rerun-if-changed=../data/gpus.json");
    println!("cargo::rerun-if-changed=../data/mig-profiles.json");
    println!("cargo::rerun-if-changed=build.rs");
    let gpus: Value = serde_json::from_str(&fs::read_to_string(data.join("gpus.json"))?)?;
    let mig: Value = serde_json::from_str(&fs::read_to_string(data.join("mig-profiles.json"))?)?;
    let orders = &mig["driver_default_placement_order"];

    let mut out = String::from("static MODELS: &[GpuModel] = &[\n");
    for gpu in array(&gpus, "gpus")? {
        let part = array(&mig, "gpus")?
            .iter()
            .find(|part| part["key"] == gpu["key"]);
        write_model(&mut out, gpu, part, orders)?;
    }
    out.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("models.rs"), out)?;
    Ok(())
}

fn write_model(
    out: &mut String,
    gpu: &Value,
    part: Option<&Value>,
    orders: &Value,
) -> Result<(), Failure> {
    let key = text(gpu, "key")?;
    writeln!(out, "GpuModel {{ key: {:?},", key.to_lowercase())?;
    for field in ["name", "part_number", "vbios"] {
        writeln!(out, "{field}: {:?},", text(gpu, field)?)?;
    }
    for field in [
        "architecture",
        "brand",
        "memory_mib",
        "reserved_mib",
        "bar1_mib",
        "sm",
        "cores_per_sm",
        "bus_width",
        "power_limit_w",
        "idle_w",
        "sm_clock",
        "memory_clock",
        "row_remapping",
        "gsp",
    ] {
        writeln!(out, "{field}: {},", number(gpu, field)?)?;
    }
    let capability = array(gpu, "compute_capability")?;
    writeln!(
        out,
        "compute_capability: ({}, {}),",
        capability[0], capability[1]
    )?;
    writeln!(
        out,
        "device_id: {}, subsystem_id: {},",
        text(gpu, "device_id")?,
        text(gpu, "subsystem_id")?
    )?;
    let Some(part) = part else {
        writeln!(out, "mig: None }},")?;
        return Ok(());
    };
    let grid = number(part, "grid_slots")?;
    writeln!(out, "mig: Some(MigModel {{ grid_slots: {grid},")?;
    for field in ["compute_slices", "max_gpu_instances"] {
        writeln!(out, "{field}: {},", number(part, field)?)?;
    }
    for field in ["mode_change_needs_reset", "mode_persists_reboot"] {
        writeln!(out, "{field}: {},", flag(part, field)?)?;
    }
    let ampere = text(part, "family")? == "Ampere";
    out.push_str("gi_profiles: &[\n");
    for profile in array(part, "gi_profiles")? {
        write_gi_profile(out, profile, ampere, &default_order(profile, grid, orders)?)?;
    }
    out.push_str("] }) },\n");
    Ok(())
}

fn write_gi_profile(
    out: &mut String,
    profile: &Value,
    ampere: bool,
    order: &[u64],
) -> Result<(), Failure> {
    let name = text(profile, "name")?;
    writeln!(
        out,
        "GiProfile {{ name: {name:?}, gfx: {}, p2p: {},",
        name.contains("+gfx"),
        flag(profile, "p2p")?
    )?;
    for field in [
        "nvml_enum",
        "id",
        "compute_slices",
        "max_instances",
        "memory_slices",
        "memory_mib",
        "sm",
        "copy_engines",
        "decoders",
        "encoders",
        "jpeg",
        "ofa",
    ] {
        writeln!(out, "{field}: {},", number(profile, field)?)?;
    }
    out.push_str("placements: &[");
    for placement in array(profile, "placements")? {
        write!(
            out,
            "Placement {{ start: {}, size: {} }},",
            number(placement, "start")?,
            number(placement, "size")?
        )?;
    }
    writeln!(out, "], driver_order: &{order:?}, ci_profiles: &[")?;
    for ci in array(profile, "compute_instances")? {
        write_ci_profile(out, ci, true)?;
    }
    let slices = number(profile, "compute_slices")?;
    if ampere && slices == 7 {
        write_trap(out, profile, 8)?;
    }
    if ampere && number(profile, "nvml_enum")? == 9 {
        write_trap(out, profile, 7)?;
    }
    out.push_str("] },\n");
    Ok(())
}

fn write_ci_profile(out: &mut String, ci: &Value, creatable: bool) -> Result<(), Failure> {
    write!(
        out,
        "CiProfile {{ name: {:?}, creatable: {creatable},",
        text(ci, "name")?
    )?;
    for field in ["nvml_enum", "id", "slices", "max_instances", "sm"] {
        write!(out, "{field}: {},", number(ci, field)?)?;
    }
    out.push_str("},\n");
    Ok(())
}

/// A full-size compute-instance profile that the driver lists and then refuses.
fn write_trap(out: &mut String, profile: &Value, id: u64) -> Result<(), Failure> {
    let mut ci = serde_json::Map::new();
    ci.insert("name".into(), profile["name"].clone());
    ci.insert("nvml_enum".into(), id.into());
    ci.insert("id".into(), id.into());
    ci.insert("slices".into(), profile["compute_slices"].clone());
    ci.insert("max_instances".into(), 1.into());
    ci.insert("sm".into(), profile["sm"].clone());
    write_ci_profile(out, &Value::Object(ci), false)
}

/// The starts that the driver tries when the caller passes no placement.
fn default_order(profile: &Value, grid: u64, orders: &Value) -> Result<Vec<u64>, Failure> {
    let mut ascending = Vec::new();
    for placement in array(profile, "placements")? {
        ascending.push(number(placement, "start")?);
    }
    if grid != 8 {
        return Ok(ascending);
    }
    let slices = number(profile, "compute_slices")?;
    if number(profile, "nvml_enum")? == 9 {
        // Ambiguous in the published logs; the H100 one is followed (mig-profiles.json, `1g.dbl_note`).
        return Ok(vec![6, 4, 0, 2]);
    }
    let order = array(&orders["std8"], &format!("{slices}g"))?;
    order
        .iter()
        .map(|start| start.as_u64().ok_or_else(|| "a start is no number".into()))
        .collect()
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, Failure> {
    value[key]
        .as_array()
        .ok_or_else(|| format!("{key} is no array in {value}").into())
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Failure> {
    value[key]
        .as_str()
        .ok_or_else(|| format!("{key} is no text in {value}").into())
}

fn number(value: &Value, key: &str) -> Result<u64, Failure> {
    value[key]
        .as_u64()
        .ok_or_else(|| format!("{key} is no number in {value}").into())
}

fn flag(value: &Value, key: &str) -> Result<bool, Failure> {
    value[key]
        .as_bool()
        .ok_or_else(|| format!("{key} is no flag in {value}").into())
}
