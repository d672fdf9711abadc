//! `kubelet-stand-in DIR`: the kubelet of [`gpushared_benches::kubelet`] for a script, in JSON lines.
//!
//! It serves `DIR/kubelet.sock` and prints one line per event. Each line that it reads is a call, answered by one
//! line: `{"allocate": RESOURCE, "ids": [ID…]}` for one container, or
//! `{"prefer": RESOURCE, "available": [ID…], "required": [ID…], "size": N}`. It ends with its input.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gpushared_benches::kubelet::{Client, Event, Kubelet, allocate_request};
use gpushared_proto::deviceplugin::v1beta1::{
    ContainerAllocateResponse, ContainerPreferredAllocationRequest, PreferredAllocationRequest,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dir), None) = (arguments.next(), arguments.next()) else {
        bail!("usage: kubelet-stand-in DIR");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Not dropped: the reader of standard input sits in a read that nothing ends.
    let done = runtime.block_on(serve(PathBuf::from(dir)));
    runtime.shutdown_background();
    done
}

async fn serve(dir: PathBuf) -> Result<()> {
    let mut kubelet = Kubelet::start(&dir)?;
    say(&json!({"event": "serving"}))?;
    let started = Instant::now();
    let mut calls = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let far = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            event = kubelet.next(far) => if let Some(event) = event {
                say(&shown(&event, started))?;
            },
            line = calls.next_line() => match line.context("reading a call")? {
                Some(line) => {
                    let answer = answer(&kubelet, &line).await;
                    say(&answer.unwrap_or_else(|error| json!({"error": format!("{error:#}")})))?;
                }
                None => return Ok(()),
            },
        }
    }
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("writing an event")
}

fn shown(event: &Event, started: Instant) -> Value {
    let ms = |at: &Instant| at.duration_since(started).as_secs_f64() * 1e3;
    match event {
        Event::Registered {
            resource,
            endpoint,
            options,
            answered,
            ..
        } => json!({
            "event": "registered", "resource": resource, "endpoint": endpoint, "ms": ms(answered),
            "pre_start_required": options.pre_start_required,
            "preferred_allocation": options.get_preferred_allocation_available,
        }),
        Event::Refused { resource, why } => {
            json!({"event": "refused", "resource": resource, "why": why})
        }
        Event::Devices {
            resource,
            devices,
            at,
        } => {
            let devices: Vec<Value> = devices
                .iter()
                .map(|device| {
                    let nodes = device.topology.iter().flat_map(|topology| &topology.nodes);
                    let numa: Vec<i64> = nodes.map(|node| node.id).collect();
                    json!({"id": device.id, "health": device.health, "numa": numa})
                })
                .collect();
            json!({"event": "devices", "resource": resource, "devices": devices, "ms": ms(at)})
        }
        Event::Ended { resource } => json!({"event": "ended", "resource": resource}),
    }
}

async fn answer(kubelet: &Kubelet, line: &str) -> Result<Value> {
    let call: Value = serde_json::from_str(line).context("reading a call")?;
    if let Some(resource) = call["allocate"].as_str() {
        let mut client = client(kubelet, resource)?;
        let answer = client.allocate(allocate_request(texts(&call["ids"]))).await;
        Ok(match answer {
            Ok(answer) => {
                let containers = answer.into_inner().container_responses;
                json!({"allocated": containers.iter().map(container).collect::<Vec<_>>()})
            }
            Err(status) => refusal(&status),
        })
    } else if let Some(resource) = call["prefer"].as_str() {
        let size = call["size"].as_i64().context("size")?;
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_i_ds: texts(&call["available"]),
                must_include_device_i_ds: texts(&call["required"]),
                allocation_size: i32::try_from(size).context("size")?,
            }],
        };
        Ok(
            match client(kubelet, resource)?
                .get_preferred_allocation(request)
                .await
            {
                Ok(answer) => {
                    let containers = answer.into_inner().container_responses;
                    let ids = containers
                        .into_iter()
                        .map(|container| container.device_i_ds);
                    json!({"preferred": ids.collect::<Vec<_>>()})
                }
                Err(status) => refusal(&status),
            },
        )
    } else {
        bail!("{line}: neither allocate nor prefer");
    }
}

fn client(kubelet: &Kubelet, resource: &str) -> Result<Client> {
    kubelet
        .client(resource)
        .with_context(|| format!("{resource} is not registered"))
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn refusal(status: &tonic::Status) -> Value {
    json!({"refused": {"code": format!("{:?}", status.code()), "message": status.message()}})
}

fn container(answer: &ContainerAllocateResponse) -> Value {
    json!({
        "envs": answer.envs,
        "annotations": answer.annotations,
        "cdi": answer.cdi_devices.iter().map(|device| &device.name).collect::<Vec<_>>(),
        "mounts": answer.mounts.iter().map(|mount| json!({
            "container": mount.container_path, "host": mount.host_path, "read_only": mount.read_only,
        })).collect::<Vec<_>>(),
        "devices": answer.devices.iter().map(|device| json!({
            "container": device.container_path, "host": device.host_path,
            "permissions": device.permissions,
        })).collect::<Vec<_>>(),
    })
}
