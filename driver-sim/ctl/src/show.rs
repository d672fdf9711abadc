//! `gpusim show` and `gpusim calls`: the node as text or JSON.

use std::io::Write;

use gpushared_driver_sim::{Gpu, GpuSlot, MigDevice, NO_INSTANCE, Node};
use gpushared_driver_sim_state::{SharedNode, real_ns};
use serde_json::{Value, json};

use crate::args::Output;
use crate::error::CtlError;

/// Shows the node.
pub(crate) fn node(
    shared: &SharedNode,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let value = shared.with(|node| describe(node, node.now(real_ns())))?;
    match output {
        Output::Json => writeln!(out, "{value:#}")?,
        Output::Text => text(&value, out)?,
    }
    Ok(())
}

fn describe(node: &Node, now: u64) -> Value {
    let slots: Vec<_> = node.slots().collect();
    let gpus: Vec<_> = slots
        .iter()
        .filter_map(|&slot| {
            node.gpu_any(slot)
                .ok()
                .map(|gpu| describe_gpu(node, slot, gpu, now))
        })
        .collect();
    let clients: Vec<_> = slots
        .iter()
        .flat_map(|&slot| node.clients_on(slot))
        .map(|client| {
            json!({
                "pid": client.pid,
                "name": client.name.as_str(),
                "kind": client.kind().map(|kind| format!("{kind:?}").to_lowercase()),
                "gpu": client.gpu,
                "gi": instance(client.gi),
                "ci": instance(client.ci),
                "used_bytes": client.used_bytes,
                "busy_permille": client.busy_at(now),
            })
        })
        .collect();
    let faults: Vec<_> = node
        .active_faults()
        .map(|fault| {
            json!({
                "function": fault.name.as_str(),
                "code": fault.code,
                "remaining": (fault.remaining != u32::MAX).then_some(fault.remaining),
                "delay_ms": fault.delay_ms,
                "gpu": instance(fault.gpu),
            })
        })
        .collect();
    json!({
        "driver": node.header.driver_version.as_str(),
        "driver_state": format!("{:?}", node.driver_state()).to_lowercase(),
        "nvml": node.header.nvml_version.as_str(),
        "cuda": node.header.cuda_version,
        "seed": node.header.seed,
        "generation": node.header.generation,
        "boots": node.header.boots,
        "gpus": gpus,
        "clients": clients,
        "faults": faults,
        "events": node.events.count,
    })
}

fn describe_gpu(node: &Node, slot: GpuSlot, gpu: &Gpu, now: u64) -> Value {
    let health: Vec<_> = [(1, "lost"), (2, "reset-required"), (4, "unplugged")]
        .into_iter()
        .filter_map(|(bit, name)| (gpu.health & bit != 0).then_some(name))
        .collect();
    let gis: Vec<_> =
        gpu.instances()
            .map(|gi| {
                let cis: Vec<_> = gi
                .compute_instances()
                .map(|ci| {
                    let device = MigDevice { gpu: slot, gi: gi.id(), ci: ci.id() };
                    json!({
                        "id": ci.id, "profile": ci.profile_id, "start": ci.start, "size": ci.size,
                        "index": ci.mig_index, "uuid": gpu.mig_uuid(device).ok(),
                    })
                })
                .collect();
                json!({
                    "id": gi.id, "profile": gi.profile_id,
                    "name": gi.profile(gpu).map(|profile| profile.name).ok(),
                    "start": gi.start, "size": gi.size, "cis": cis,
                })
            })
            .collect();
    let memory = node.memory(slot).ok();
    json!({
        "slot": slot.get(),
        "index": node.index_of(slot).ok(),
        "uuid": gpu.uuid(),
        "name": gpu.model().map(|model| model.name).ok(),
        "pci": gpu.pci_bus_id(),
        "minor": gpu.minor,
        "health": health,
        "mig": { "current": gpu.mig_current, "pending": gpu.mig_pending },
        "memory_total": memory.map(|memory| memory.total),
        "memory_used": memory.map(|memory| memory.used),
        "busy_permille": node.busy_permille(slot, None, now),
        "ecc_volatile_uncorrected": gpu.ecc_volatile.uncorrected,
        "ecc_volatile_corrected": gpu.ecc_volatile.corrected,
        "gi_creates": gpu.counters.gi_creates,
        "gi_destroys": gpu.counters.gi_destroys,
        "ci_creates": gpu.counters.ci_creates,
        "ci_destroys": gpu.counters.ci_destroys,
        "resets": gpu.counters.resets,
        "gis": gis,
    })
}

fn instance(id: u32) -> Option<u32> {
    (id != NO_INSTANCE).then_some(id)
}

/// The same facts for people.
fn text(node: &Value, out: &mut dyn Write) -> Result<(), CtlError> {
    writeln!(
        out,
        "simulated node, driver {} ({})",
        plain(&node["driver"]),
        plain(&node["driver_state"])
    )?;
    for gpu in list(&node["gpus"]) {
        writeln!(
            out,
            "GPU {} {} {} {}{}",
            gpu["slot"],
            plain(&gpu["name"]),
            plain(&gpu["uuid"]),
            plain(&gpu["pci"]),
            list(&gpu["health"])
                .iter()
                .map(|health| format!(" {}", plain(health)))
                .collect::<String>(),
        )?;
        let mode = &gpu["mig"];
        let mib = |value: &Value| value.as_u64().unwrap_or(0) >> 20;
        writeln!(
            out,
            "    {} of {} MiB used, busy {} permille, MIG {}{}",
            mib(&gpu["memory_used"]),
            mib(&gpu["memory_total"]),
            gpu["busy_permille"],
            if mode["current"] == 1 { "on" } else { "off" },
            if mode["current"] == mode["pending"] {
                ""
            } else {
                " (change pending)"
            },
        )?;
        for gi in list(&gpu["gis"]) {
            writeln!(
                out,
                "    gi {} {} at {}:{}",
                gi["id"],
                plain(&gi["name"]),
                gi["start"],
                gi["size"]
            )?;
            for ci in list(&gi["cis"]) {
                writeln!(
                    out,
                    "        ci {} at {}:{} {}",
                    ci["id"],
                    ci["start"],
                    ci["size"],
                    plain(&ci["uuid"])
                )?;
            }
        }
    }
    for client in list(&node["clients"]) {
        writeln!(
            out,
            "client {} {} on GPU {}, {} bytes",
            client["pid"],
            plain(&client["name"]),
            client["gpu"],
            client["used_bytes"]
        )?;
    }
    for fault in list(&node["faults"]) {
        writeln!(
            out,
            "fault {} code {} delay {} ms",
            plain(&fault["function"]),
            fault["code"],
            fault["delay_ms"]
        )?;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Shows call counts, and the last calls.
pub(crate) fn calls(
    shared: &SharedNode,
    last: usize,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let value = shared.with_unreaped(|node| {
        let mut counts: Vec<_> = node.calls.counts().collect();
        counts.sort_by_key(|count| count.name.as_str());
        let functions: Vec<_> = counts
            .iter()
            .map(|count| json!({"name": count.name.as_str(), "calls": count.calls, "errors": count.errors}))
            .collect();
        let recent: Vec<_> = node
            .calls
            .recent(last)
            .map(|call| {
                json!({
                    "seq": call.seq, "function": node.calls.name_of(call.function), "pid": call.pid,
                    "gpu": instance(call.gpu), "code": call.code, "time_ns": call.time_ns,
                })
            })
            .collect();
        json!({"functions": functions, "last": recent})
    })?;
    if matches!(output, Output::Json) {
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    for count in list(&value["functions"]) {
        writeln!(
            out,
            "{:8} {:8} {}",
            count["calls"],
            count["errors"],
            plain(&count["name"])
        )?;
    }
    for call in list(&value["last"]) {
        writeln!(
            out,
            "#{} {} pid {} code {}",
            call["seq"],
            plain(&call["function"]),
            call["pid"],
            call["code"]
        )?;
    }
    Ok(())
}
