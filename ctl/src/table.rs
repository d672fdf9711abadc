//! The node's status for people: GPUs with their slices, then resources.

use std::fmt::Write as _;

use gpushared_domain::mig::MigMode;
use gpushared_domain::status::{GpuStatus, NodeStatus, SliceStatus};

/// Writes the whole status.
pub(crate) fn node(status: &NodeStatus, now: u64) -> String {
    let mut text = String::new();
    let daemon = &status.daemon;
    let state = if daemon.ready { "ready" } else { "not ready" };
    let up = age(now.saturating_sub(daemon.started_at));
    line(
        &mut text,
        &format!(
            "gpushared {} (pid {}), {state}, up {up}",
            daemon.version, daemon.pid
        ),
    );
    if let Some(driver) = &status.driver {
        let (major, minor) = (driver.cuda_version / 1000, driver.cuda_version % 1000 / 10);
        let simulated = if driver.simulated {
            "  SIMULATED GPUs"
        } else {
            ""
        };
        line(
            &mut text,
            &format!(
                "driver {}, CUDA {major}.{minor}{simulated}",
                driver.driver_version
            ),
        );
    }
    for reason in &daemon.waiting_for {
        line(&mut text, &format!("waiting: {reason}"));
    }
    text.push('\n');
    let mut rows = vec![header(&[
        "GPU",
        "SLICE",
        "PLACE",
        "HEALTH",
        "LEASE",
        "CONTAINER",
        "FOR",
    ])];
    for gpu in &status.gpus {
        gpu_rows(gpu, now, &mut rows);
    }
    text.push_str(&columns(&rows));
    text.push('\n');
    let mut rows = vec![header(&[
        "RESOURCE",
        "CAPACITY",
        "ALLOCATABLE",
        "LEASED",
        "REGISTERED",
    ])];
    for resource in &status.resources {
        rows.push(vec![
            resource.name.clone(),
            resource.capacity.to_string(),
            resource.allocatable.to_string(),
            resource.leased.to_string(),
            (if resource.registered { "yes" } else { "no" }).to_owned(),
        ]);
    }
    text.push_str(&columns(&rows));
    if !status.left_out.is_empty() {
        text.push_str("\nnot offered:\n");
    }
    for left in &status.left_out {
        line(&mut text, &format!("  {}: {}", left.what, left.why));
    }
    text
}

fn line(text: &mut String, content: &str) {
    // writing into a String cannot fail
    writeln!(text, "{content}").ok();
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn gpu_rows(gpu: &GpuStatus, now: u64, rows: &mut Vec<Vec<String>>) {
    let index = if gpu.present {
        gpu.index.to_string()
    } else {
        "-".to_owned()
    };
    let mode = match gpu.mig_mode {
        MigMode::Enabled => ", MIG",
        MigMode::Pending { .. } => ", MIG mode pending",
        MigMode::Disabled | MigMode::Unsupported => "",
    };
    let causes: Vec<String> = gpu.conditions.iter().map(|c| c.cause.to_string()).collect();
    let health = if !gpu.present && causes.is_empty() {
        "not listed by the driver".to_owned()
    } else if causes.is_empty() {
        "ok".to_owned()
    } else {
        causes.join("; ")
    };
    let whole = gpu.slices.iter().find(|slice| slice.placement.is_none());
    let mut row = vec![
        index,
        format!("{}{mode}", gpu.name),
        gpu.uuid.to_string(),
        health,
    ];
    row.extend(lease_cells(whole, now));
    rows.push(row);
    for slice in gpu.slices.iter().filter(|slice| slice.placement.is_some()) {
        let place = slice.placement.map_or(String::new(), |(start, size)| {
            format!("{start}..{}", start.saturating_add(size))
        });
        let health = if slice.healthy {
            "ok".to_owned()
        } else {
            slice.why_unhealthy.join("; ")
        };
        let name = slice.resource.rsplit('/').next().unwrap_or(&slice.resource);
        let mut row = vec![String::new(), format!("  {name}"), place, health];
        row.extend(lease_cells(Some(slice), now));
        rows.push(row);
    }
}

fn lease_cells(slice: Option<&SliceStatus>, now: u64) -> [String; 3] {
    let Some(lease) = slice.and_then(|slice| slice.lease.as_ref()) else {
        return ["-".to_owned(), String::new(), String::new()];
    };
    let container = lease
        .container
        .as_ref()
        .map_or(String::new(), ToString::to_string);
    [
        lease.state.clone(),
        container,
        age(now.saturating_sub(lease.granted_at)),
    ]
}

/// `45s`, `12m`, `3h`, `9d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Rows with every column as wide as its widest cell; no spaces at line ends.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..count)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut cells = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(cells, "{cell:width$}  ").ok();
        }
        line(&mut text, cells.trim_end());
    }
    text
}

#[cfg(test)]
mod tests;
