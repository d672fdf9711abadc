//! Process lists, in the layout that each symbol was born with.

use gpushared_driver_sim::{Client, ClientKind, Code, Result};

use crate::abi::process::{ProcessDetailListV1, ProcessDetailV1, ProcessInfoV1, ProcessInfoV2};
use crate::abi::{DeviceHandle, NOT_AVAILABLE_64, version_of};
use crate::context::{Context, Target};
use crate::entry::entries;
use crate::pointer::{Out, length, list_or_size};

/// What a list holds. MPS clients are compute processes too: nvidia-smi shows them as `M+C`.
const COMPUTE: &[ClientKind] = &[ClientKind::Compute, ClientKind::Mps];
const GRAPHICS: &[ClientKind] = &[ClientKind::Graphics];
const MPS: &[ClientKind] = &[ClientKind::Mps];
const ALL: &[ClientKind] = &[ClientKind::Compute, ClientKind::Mps, ClientKind::Graphics];

entries! {
    /// Compute processes, 16 bytes each.
    fn nvmlDeviceGetComputeRunningProcesses(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV1>,
    ) |cx| {
        v1(cx, device, COMPUTE, count, infos)
    }

    /// Compute processes, 24 bytes each.
    fn nvmlDeviceGetComputeRunningProcesses_v2(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV2>,
    ) |cx| {
        v2(cx, device, COMPUTE, count, infos)
    }

    /// Compute processes, 24 bytes each.
    fn nvmlDeviceGetComputeRunningProcesses_v3(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV2>,
    ) |cx| {
        v2(cx, device, COMPUTE, count, infos)
    }

    /// Graphics processes, 16 bytes each.
    fn nvmlDeviceGetGraphicsRunningProcesses(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV1>,
    ) |cx| {
        v1(cx, device, GRAPHICS, count, infos)
    }

    /// Graphics processes, 24 bytes each.
    fn nvmlDeviceGetGraphicsRunningProcesses_v2(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV2>,
    ) |cx| {
        v2(cx, device, GRAPHICS, count, infos)
    }

    /// Graphics processes, 24 bytes each.
    fn nvmlDeviceGetGraphicsRunningProcesses_v3(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV2>,
    ) |cx| {
        v2(cx, device, GRAPHICS, count, infos)
    }

    /// MPS clients, 16 bytes each.
    fn nvmlDeviceGetMPSComputeRunningProcesses(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV1>,
    ) |cx| {
        v1(cx, device, MPS, count, infos)
    }

    /// MPS clients, 24 bytes each.
    fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV2>,
    ) |cx| {
        v2(cx, device, MPS, count, infos)
    }

    /// MPS clients, 24 bytes each.
    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
        device: DeviceHandle, count: Out<u32>, infos: Out<ProcessInfoV2>,
    ) |cx| {
        v2(cx, device, MPS, count, infos)
    }

    /// The list by mode: 0 compute, 1 graphics, 2 MPS, 3 all; Hopper and later.
    fn nvmlDeviceGetRunningProcessDetailList(
        device: DeviceHandle, list: Out<ProcessDetailListV1>,
    ) |cx| {
        let version = list.cast::<u32>().get()?;
        if version != version_of::<ProcessDetailListV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let gpu = cx.parent(device)?;
        if cx.model(gpu)?.architecture < 9 {
            return Err(Code::NOT_SUPPORTED);
        }
        let asked = list.get()?;
        let kinds = match asked.mode {
            0 => COMPUTE,
            1 => GRAPHICS,
            2 => MPS,
            3 => ALL,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        let found: Vec<_> = clients(cx, device, kinds)?
            .iter()
            .map(|client| ProcessDetailV1 {
                pid: client.pid,
                used: client.used_bytes,
                gpu_instance: client.gi,
                compute_instance: client.ci,
                protected_used: NOT_AVAILABLE_64,
            })
            .collect();
        list.set(ProcessDetailListV1 { entries: length(&found), ..asked })?;
        if found.is_empty() {
            return Ok(());
        }
        if found.len() > asked.entries as usize {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        Out::stored(asked.array).fill(asked.entries as usize, &found)
    }
}

fn v1(
    cx: &mut Context<'_>,
    device: DeviceHandle,
    kinds: &[ClientKind],
    count: Out<u32>,
    infos: Out<ProcessInfoV1>,
) -> Result<()> {
    count.require()?;
    let found: Vec<_> = clients(cx, device, kinds)?
        .iter()
        .map(|client| ProcessInfoV1 {
            pid: client.pid,
            used: client.used_bytes,
        })
        .collect();
    list_or_size(count, infos, &found)
}

fn v2(
    cx: &mut Context<'_>,
    device: DeviceHandle,
    kinds: &[ClientKind],
    count: Out<u32>,
    infos: Out<ProcessInfoV2>,
) -> Result<()> {
    count.require()?;
    let found: Vec<_> = clients(cx, device, kinds)?
        .iter()
        .map(|client| ProcessInfoV2 {
            pid: client.pid,
            used: client.used_bytes,
            gpu_instance: client.gi,
            compute_instance: client.ci,
        })
        .collect();
    list_or_size(count, infos, &found)
}

/// Clients of a device in the order of their registration. With MIG enabled the GPU's own list is the sum over
/// its instances, for the privileged only.
fn clients<'a>(
    cx: &'a mut Context<'_>,
    device: DeviceHandle,
    kinds: &[ClientKind],
) -> Result<Vec<&'a Client>> {
    let target = cx.target(device)?;
    if let Target::Gpu(gpu) = target
        && cx.node.gpu(gpu)?.mig_enabled()
    {
        cx.privileged()?;
    }
    cx.reap();
    let mut found: Vec<&Client> = Vec::new();
    for &kind in kinds {
        found.extend(cx.node.processes(target.slot(), target.instance(), kind)?);
    }
    found.sort_by_key(|client| client.serial);
    Ok(found)
}
