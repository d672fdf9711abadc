//! Utilisation of whole GPUs. With MIG enabled there is none, neither of the GPU nor of an instance: use GPM.

use gpushared_driver_sim::{Code, Result};

use crate::abi::DeviceHandle;
use crate::abi::device::{Sample, Utilization};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::Out;

/// The driver's sampling period, in microseconds.
const PERIOD_US: u32 = 167_000;

entries! {
    /// Kernel and memory activity in percent.
    fn nvmlDeviceGetUtilizationRates(device: DeviceHandle, utilization: Out<Utilization>) |cx| {
        let device = cx.whole(device)?;
        cx.reap();
        let (gpu, memory) = cx.node.utilization_percent(device, cx.now_ns)?;
        utilization.set(Utilization { gpu, memory })
    }

    /// Video encoders do nothing.
    fn nvmlDeviceGetEncoderUtilization(device: DeviceHandle, percent: Out<u32>, period_us: Out<u32>) |cx| {
        idle_engine(cx, device, percent, period_us)
    }

    /// Video decoders do nothing.
    fn nvmlDeviceGetDecoderUtilization(device: DeviceHandle, percent: Out<u32>, period_us: Out<u32>) |cx| {
        idle_engine(cx, device, percent, period_us)
    }

    /// JPEG engines do nothing.
    fn nvmlDeviceGetJpgUtilization(device: DeviceHandle, percent: Out<u32>, period_us: Out<u32>) |cx| {
        idle_engine(cx, device, percent, period_us)
    }

    /// Optical-flow engines do nothing.
    fn nvmlDeviceGetOfaUtilization(device: DeviceHandle, percent: Out<u32>, period_us: Out<u32>) |cx| {
        idle_engine(cx, device, percent, period_us)
    }

    /// The sample buffer: one sample, taken now, of power (0), utilisation (1, 2) or clocks (5, 6).
    fn nvmlDeviceGetSamples(
        device: DeviceHandle, kind: u32, last_seen_us: u64,
        value_type: Out<u32>, count: Out<u32>, samples: Out<Sample>,
    ) |cx| {
        const UNSIGNED_INT: u32 = 1;
        let gpu = cx.board(device)?;
        let room = count.get()?;
        if room == 0 && !samples.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        cx.reap();
        let now_ns = cx.now_ns;
        let value = match kind {
            0 => cx.node.power_mw(gpu, now_ns)?,
            1 => cx.node.utilization_percent(gpu, now_ns)?.0,
            2 => cx.node.utilization_percent(gpu, now_ns)?.1,
            5 => cx.node.clocks(gpu, now_ns)?.0,
            6 => cx.node.clocks(gpu, now_ns)?.1,
            _ => return Err(Code::NOT_SUPPORTED),
        };
        value_type.set(UNSIGNED_INT)?;
        if samples.is_null() {
            return count.set(1);
        }
        let timestamp_us = now_ns / 1000;
        if timestamp_us <= last_seen_us {
            return Err(Code::NOT_FOUND);
        }
        count.set(1)?;
        samples.fill(room as usize, &[Sample { timestamp_us, value: value.into() }])
    }
}

fn idle_engine(
    cx: &Context<'_>,
    device: DeviceHandle,
    percent: Out<u32>,
    period_us: Out<u32>,
) -> Result<()> {
    cx.whole(device)?;
    period_us.require()?;
    percent.set(0)?;
    period_us.set(PERIOD_US)
}
