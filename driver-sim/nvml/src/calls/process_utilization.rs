//! Utilisation per process, from the work that its client declared and did. Not with MIG enabled.

use gpushared_driver_sim::{ClientKind, Code, Result};

use crate::abi::process::{
    ProcessUtilizationInfoV1, ProcessUtilizationSample, ProcessesUtilizationInfoV1,
};
use crate::abi::{DeviceHandle, version_of};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::{Out, length};

/// Room that a size query answers: the driver's own sample buffer.
const BUFFER: u32 = 100;

entries! {
    /// Samples newer than `last_seen_us`.
    fn nvmlDeviceGetProcessUtilization(
        device: DeviceHandle, samples: Out<ProcessUtilizationSample>, count: Out<u32>, last_seen_us: u64,
    ) |cx| {
        let room = count.get()?;
        let found = samples_of(cx, device, last_seen_us)?;
        if samples.is_null() {
            count.set(BUFFER)?;
            return Err(Code::INSUFFICIENT_SIZE);
        }
        if found.is_empty() {
            return Err(Code::NOT_FOUND);
        }
        count.set(length(&found))?;
        let found: Vec<_> = found
            .iter()
            .map(|sample| ProcessUtilizationSample {
                pid: sample.pid,
                timestamp_us: sample.timestamp_us,
                sm: sample.sm,
                memory: sample.memory,
                encoder: 0,
                decoder: 0,
            })
            .collect();
        samples.fill(room as usize, &found)
    }

    /// The same with JPEG and optical-flow engines.
    fn nvmlDeviceGetProcessesUtilizationInfo(
        device: DeviceHandle, info: Out<ProcessesUtilizationInfoV1>,
    ) |cx| {
        let version = info.cast::<u32>().get()?;
        if version != version_of::<ProcessesUtilizationInfoV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let asked = info.get()?;
        let found = samples_of(cx, device, asked.last_seen_us)?;
        let array = Out::stored(asked.array);
        if array.is_null() {
            info.set(ProcessesUtilizationInfoV1 { entries: BUFFER, ..asked })?;
            return Err(Code::INSUFFICIENT_SIZE);
        }
        if found.is_empty() {
            return Err(Code::NOT_FOUND);
        }
        info.set(ProcessesUtilizationInfoV1 { entries: length(&found), ..asked })?;
        array.fill(asked.entries as usize, &found)
    }
}

/// One sample per busy process. The time of a sample is now, so a caller that passes it back gets the next one.
fn samples_of(
    cx: &mut Context<'_>,
    device: DeviceHandle,
    last_seen_us: u64,
) -> Result<Vec<ProcessUtilizationInfoV1>> {
    let gpu = cx.whole(device)?;
    cx.reap();
    let now_ns = cx.now_ns;
    let timestamp_us = now_ns / 1000;
    if timestamp_us <= last_seen_us {
        return Ok(Vec::new());
    }
    Ok(cx
        .node
        .clients_on(gpu)
        .filter(|client| !matches!(client.kind(), None | Some(ClientKind::Holder)))
        .map(|client| (client.pid, client.busy_at(now_ns)))
        .filter(|&(_, permille)| permille > 0)
        .map(|(pid, permille)| ProcessUtilizationInfoV1 {
            timestamp_us,
            pid,
            sm: permille / 10,
            memory: permille / 20,
            encoder: 0,
            decoder: 0,
            jpeg: 0,
            ofa: 0,
        })
        .collect())
}
