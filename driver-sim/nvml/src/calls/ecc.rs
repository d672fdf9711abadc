//! Memory errors: ECC counters, retired pages, remapped rows.

use gpushared_driver_sim::{Code, EccCounters, Gpu, Plain as _, Result};

use crate::abi::DeviceHandle;
use crate::abi::device::{EccErrorCounts, RemappedRowsV2, RowRemapperHistogram};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::{Out, list_or_size};

/// `NVML_MEMORY_ERROR_TYPE_CORRECTED`; 1 is uncorrected.
const CORRECTED: u32 = 0;
/// `NVML_VOLATILE_ECC`; 1 is aggregate.
const VOLATILE: u32 = 0;

entries! {
    /// Sum of the errors of one kind since reset (0) or for ever (1).
    fn nvmlDeviceGetTotalEccErrors(
        device: DeviceHandle, kind: u32, counter: u32, errors: Out<u64>,
    ) |cx| {
        errors.set(errors_of(gpu_with_ecc(cx, device)?, kind, counter)?)
    }

    /// The same by memory; all simulated errors are in device memory.
    fn nvmlDeviceGetDetailedEccErrors(
        device: DeviceHandle, kind: u32, counter: u32, errors: Out<EccErrorCounts>,
    ) |cx| {
        let device_memory = errors_of(gpu_with_ecc(cx, device)?, kind, counter)?;
        errors.set(EccErrorCounts { l1: 0, l2: 0, device_memory, register_file: 0 })
    }

    /// The same for one memory: 2 is device memory.
    fn nvmlDeviceGetMemoryErrorCounter(
        device: DeviceHandle, kind: u32, counter: u32, location: u32, errors: Out<u64>,
    ) |cx| {
        let all = errors_of(gpu_with_ecc(cx, device)?, kind, counter)?;
        errors.set(match location {
            2 => all,
            0..=7 => 0,
            _ => return Err(Code::INVALID_ARGUMENT),
        })
    }

    /// Forgets the errors since reset (0) or for ever (1).
    fn nvmlDeviceClearEccErrorCounts(device: DeviceHandle, counter: u32) |cx| {
        let gpu = cx.gpu(device)?;
        cx.privileged()?;
        gpu_with_ecc(cx, device)?;
        let gpu = cx.node.gpu_any_mut(gpu)?;
        match counter {
            0 => gpu.ecc_volatile = EccCounters::ZERO,
            1 => gpu.ecc_aggregate = EccCounters::ZERO,
            _ => return Err(Code::INVALID_ARGUMENT),
        }
        cx.node.touch();
        Ok(())
    }

    /// Addresses of retired pages by cause; boards that remap rows retire none.
    fn nvmlDeviceGetRetiredPages(
        device: DeviceHandle, cause: u32, count: Out<u32>, addresses: Out<u64>,
    ) |cx| {
        let pages = retired_pages(cx, device, cause)?;
        list_or_size(count, addresses, &pages)
    }

    /// The same with the time of each; the model keeps none.
    fn nvmlDeviceGetRetiredPages_v2(
        device: DeviceHandle, cause: u32, count: Out<u32>, addresses: Out<u64>, times: Out<u64>,
    ) |cx| {
        let pages = retired_pages(cx, device, cause)?;
        if !times.is_null() && pages.len() <= count.get()? as usize {
            times.fill(pages.len(), &vec![0; pages.len()])?;
        }
        list_or_size(count, addresses, &pages)
    }

    /// Whether a page retirement waits for a reset.
    fn nvmlDeviceGetRetiredPagesPendingStatus(device: DeviceHandle, pending: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        if cx.model(gpu)?.row_remapping == 1 {
            return Err(Code::NOT_SUPPORTED);
        }
        pending.set(cx.node.gpu(gpu)?.remap_pending)
    }

    /// Remapped rows; not while GPU instances exist.
    fn nvmlDeviceGetRemappedRows(
        device: DeviceHandle, correctable: Out<u32>, uncorrectable: Out<u32>,
        pending: Out<u32>, failed: Out<u32>,
    ) |cx| {
        let gpu = remapping_gpu(cx, device)?;
        correctable.require()?;
        uncorrectable.require()?;
        pending.require()?;
        failed.require()?;
        correctable.set(clamp(gpu.remapped_rows_correctable))?;
        uncorrectable.set(clamp(gpu.remapped_rows_uncorrectable))?;
        pending.set(gpu.remap_pending)?;
        failed.set(gpu.remap_failed)
    }

    /// The same in one struct.
    fn nvmlDeviceGetRemappedRows_v2(device: DeviceHandle, info: Out<RemappedRowsV2>) |cx| {
        let gpu = remapping_gpu(cx, device)?;
        info.set(RemappedRowsV2 {
            correctable_active: clamp(gpu.remapped_rows_correctable),
            correctable_inactive: 0,
            uncorrectable_active: clamp(gpu.remapped_rows_uncorrectable),
            uncorrectable_inactive: 0,
            pending: gpu.remap_pending,
            failure: gpu.remap_failed,
        })
    }

    /// How many banks have how many spare rows left.
    fn nvmlDeviceGetRowRemapperHistogram(device: DeviceHandle, values: Out<RowRemapperHistogram>) |cx| {
        const BANKS: u32 = 640;
        let gpu = remapping_gpu(cx, device)?;
        let used = clamp(gpu.remapped_rows_correctable)
            .saturating_add(clamp(gpu.remapped_rows_uncorrectable))
            .min(BANKS);
        values.set(RowRemapperHistogram { max: BANKS - used, high: used, partial: 0, low: 0, none: 0 })
    }
}

fn clamp(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn gpu_with_ecc<'a>(cx: &'a Context<'_>, device: DeviceHandle) -> Result<&'a Gpu> {
    // On MIG devices the counters of the whole board are given: the model does not place errors.
    let gpu = cx.node.gpu(cx.parent(device)?)?;
    if gpu.ecc_current == 0 {
        Err(Code::NOT_SUPPORTED)
    } else {
        Ok(gpu)
    }
}

pub(super) fn errors_of(gpu: &Gpu, kind: u32, counter: u32) -> Result<u64> {
    if kind > 1 || counter > 1 {
        return Err(Code::INVALID_ARGUMENT);
    }
    let counters = if counter == VOLATILE {
        &gpu.ecc_volatile
    } else {
        &gpu.ecc_aggregate
    };
    Ok(if kind == CORRECTED {
        counters.corrected
    } else {
        counters.uncorrected
    })
}

pub(super) fn remapping_gpu<'a>(cx: &'a Context<'_>, device: DeviceHandle) -> Result<&'a Gpu> {
    let gpu = cx.node.gpu(cx.board(device)?)?;
    if gpu.model()?.row_remapping == 0 || gpu.instances().next().is_some() {
        return Err(Code::NOT_SUPPORTED);
    }
    Ok(gpu)
}

fn retired_pages(cx: &Context<'_>, device: DeviceHandle, cause: u32) -> Result<Vec<u64>> {
    let gpu = cx.node.gpu(cx.board(device)?)?;
    if gpu.model()?.row_remapping == 1 {
        return Err(Code::NOT_SUPPORTED);
    }
    let (count, base) = match cause {
        0 => (gpu.retired_pages_single, 0x10_0000u64),
        1 => (gpu.retired_pages_double, 0x20_0000u64),
        _ => return Err(Code::INVALID_ARGUMENT),
    };
    // 64 pages at most, as the board's own table.
    Ok((0..count.min(64)).map(|page| base + page).collect())
}
