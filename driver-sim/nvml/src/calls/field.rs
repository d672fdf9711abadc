//! Field values: many numbers by id in one call, each with its own answer.
//!
//! Ids 251 to 273 were renumbered with driver 580.82; this library numbers as the driver that it claims to be.

use gpushared_driver_sim::{Code, Gpu, GpuSlot, Result};

use super::{ecc, pcie};
use crate::abi::DeviceHandle;
use crate::abi::device::FieldValue;
use crate::context::{Context, Target};
use crate::entry::entries;
use crate::pointer::Out;

/// Values per call that the driver takes.
const MOST_VALUES: i32 = 1024;
/// One past the highest id, before and after the renumbering.
const END_OLD: u32 = 274;
const END_NEW: u32 = 304;

/// A value and its `nvmlValueType_t`.
enum Value {
    U32(u32),
    U64(u64),
}

entries! {
    /// Values by field id.
    fn nvmlDeviceGetFieldValues(device: DeviceHandle, count: i32, values: Out<FieldValue>) |cx| {
        let target = cx.target(device)?;
        let count = counted(count)?;
        values.require()?;
        cx.reap();
        for index in 0..count {
            let entry = values.at(index);
            let asked = entry.get()?;
            let found = match target {
                Target::Gpu(gpu) => field(cx, gpu, &asked),
                Target::Mig(_) => Err(Code::NOT_SUPPORTED),
            };
            let (status, value_type, value) = match found {
                Ok(Value::U32(value)) => (Code::SUCCESS, 1, value.into()),
                Ok(Value::U64(value)) => (Code::SUCCESS, 3, value),
                Err(code) => (code, 0, 0),
            };
            let timestamp = i64::try_from(cx.now_ns / 1000).unwrap_or(0);
            entry.set(FieldValue {
                timestamp, latency_us: 0, value_type, status: status.get(), value, ..asked
            })?;
        }
        Ok(())
    }

    /// Resets counters: there is none that can be.
    fn nvmlDeviceClearFieldValues(device: DeviceHandle, count: i32, values: Out<FieldValue>) |cx| {
        cx.gpu(device)?;
        cx.privileged()?;
        let count = counted(count)?;
        values.require()?;
        for index in 0..count {
            let entry = values.at(index);
            let asked = entry.get()?;
            entry.set(FieldValue { status: Code::NOT_SUPPORTED.get(), ..asked })?;
        }
        Ok(())
    }
}

fn counted(count: i32) -> Result<usize> {
    if !(1..=MOST_VALUES).contains(&count) {
        return Err(Code::INVALID_ARGUMENT);
    }
    usize::try_from(count).map_err(|_| Code::INVALID_ARGUMENT)
}

fn field(cx: &mut Context<'_>, slot: GpuSlot, asked: &FieldValue) -> Result<Value> {
    let renumbered = cx.driver() >= (580, 82);
    if asked.field == 0 || asked.field >= if renumbered { END_NEW } else { END_OLD } {
        return Err(Code::INVALID_ARGUMENT);
    }
    let now_ns = cx.now_ns;
    let gpu = cx.node.gpu(slot)?;
    Ok(match asked.field {
        1 => Value::U32(gpu.ecc_current),
        2 => Value::U32(gpu.ecc_pending),
        // Totals and device memory; single bit then double bit, volatile then aggregate.
        3 | 11 => ecc_errors(gpu, 0, 0)?,
        4 | 12 => ecc_errors(gpu, 1, 0)?,
        5 | 22 => ecc_errors(gpu, 0, 1)?,
        6 | 23 => ecc_errors(gpu, 1, 1)?,
        7..=10 | 13..=21 | 24..=28 => {
            ecc_errors(gpu, 0, 0)?;
            Value::U64(0)
        }
        29..=31 | 92 | 93 => retired(gpu, asked.field)?,
        // Time that a policy held clocks back, ns.
        74..=81 => Value::U64(0),
        82 => Value::U32(cx.node.temperature(slot, now_ns)? + 4),
        83 => Value::U64(cx.energy_mj(slot)?),
        91 => Value::U32(0),
        94 | 95 => Value::U32(0),
        142..=145 => remapped(gpu, asked.field)?,
        173..=183 => Value::U32(0),
        // MIG mode changes without a reset.
        184 => Value::U32(
            gpu.mig_model()
                .map_or(0, |mig| u32::from(!mig.mode_change_needs_reset)),
        ),
        185 | 186 if asked.scope == 0 => Value::U32(cx.node.power_mw(slot, now_ns)?),
        187 => Value::U32(gpu.model()?.idle_w * 1000),
        188 | 189 => Value::U32(gpu.model()?.power_limit_w * 1000),
        190 | 192 => Value::U32(gpu.power_limit_mw),
        191 => Value::U64(cx.energy_mj(slot)?),
        197 | 198 if pcie::link_generation(cx, slot)? > 3 => Value::U64(cx.pcie_bytes(slot)?),
        // Process lists and GPM work whether or not MIG is enabled.
        199 => Value::U32(1),
        // Reset and drain status, recovery action: 1 = reset the GPU.
        226 => Value::U32(u32::from(cx.node.gpu_usable(slot).is_err())),
        227 => Value::U32(0),
        230 => Value::U32(u32::from(cx.node.gpu_usable(slot).is_err())),
        // Thermal and power-brake slowdown times, ns.
        251..=253 if !renumbered => Value::U64(0),
        269..=271 if renumbered => Value::U64(0),
        _ => return Err(Code::NOT_SUPPORTED),
    })
}

fn ecc_errors(gpu: &Gpu, kind: u32, counter: u32) -> Result<Value> {
    if gpu.ecc_current == 0 {
        return Err(Code::NOT_SUPPORTED);
    }
    ecc::errors_of(gpu, kind, counter).map(Value::U64)
}

fn retired(gpu: &Gpu, field: u32) -> Result<Value> {
    if gpu.model()?.row_remapping == 1 {
        return Err(Code::NOT_SUPPORTED);
    }
    Ok(match field {
        29 => Value::U64(gpu.retired_pages_single),
        30 => Value::U64(gpu.retired_pages_double),
        _ => Value::U64(gpu.remap_pending.into()),
    })
}

fn remapped(gpu: &Gpu, field: u32) -> Result<Value> {
    if gpu.model()?.row_remapping == 0 || gpu.instances().next().is_some() {
        return Err(Code::NOT_SUPPORTED);
    }
    Ok(match field {
        142 => Value::U64(gpu.remapped_rows_correctable),
        143 => Value::U64(gpu.remapped_rows_uncorrectable),
        144 => Value::U64(gpu.remap_pending.into()),
        _ => Value::U64(gpu.remap_failed.into()),
    })
}
