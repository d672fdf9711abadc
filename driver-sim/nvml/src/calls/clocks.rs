//! Clocks, performance state and why clocks are low.

use gpushared_driver_sim::{Code, GpuSlot, Result};

use crate::abi::DeviceHandle;
use crate::abi::device::ViolationTime;
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::{Out, list_or_size};

/// `nvmlClocksEventReasonGpuIdle`.
const IDLE: u64 = 0x1;
/// `nvmlClocksEventReasonNone`.
const NONE: u64 = 0;
/// Idle, application clocks, software power cap, hardware slowdown, sync boost, software and hardware thermal
/// slowdown, power brake.
const SUPPORTED: u64 = 0xFF;

entries! {
    /// Clock of a domain now: 0 graphics, 1 SM, 2 memory, 3 video.
    fn nvmlDeviceGetClockInfo(device: DeviceHandle, domain: u32, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mhz.require()?;
        let now = current(cx, gpu, domain)?;
        mhz.set(now)
    }

    /// Highest clock of a domain.
    fn nvmlDeviceGetMaxClockInfo(device: DeviceHandle, domain: u32, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mhz.set(highest(cx, gpu, domain)?)
    }

    /// Clock by id: 0 current, 1 application target, 2 application default, 3 highest boost.
    fn nvmlDeviceGetClock(device: DeviceHandle, domain: u32, id: u32, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mhz.require()?;
        let clock = match id {
            0 => current(cx, gpu, domain)?,
            1..=3 => highest(cx, gpu, domain)?,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        mhz.set(clock)
    }

    /// Application clocks are the highest ones.
    fn nvmlDeviceGetApplicationsClock(device: DeviceHandle, domain: u32, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mhz.set(highest(cx, gpu, domain)?)
    }

    /// Application clocks are the highest ones.
    fn nvmlDeviceGetDefaultApplicationsClock(device: DeviceHandle, domain: u32, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mhz.set(highest(cx, gpu, domain)?)
    }

    /// Highest boost clock that a customer may set.
    fn nvmlDeviceGetMaxCustomerBoostClock(device: DeviceHandle, domain: u32, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        mhz.set(highest(cx, gpu, domain)?)
    }

    /// One memory clock.
    fn nvmlDeviceGetSupportedMemoryClocks(device: DeviceHandle, count: Out<u32>, mhz: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        list_or_size(count, mhz, &[cx.model(gpu)?.memory_clock])
    }

    /// Graphics clocks from the highest down to the idle one, in steps of 15 MHz.
    fn nvmlDeviceGetSupportedGraphicsClocks(
        device: DeviceHandle, memory_mhz: u32, count: Out<u32>, mhz: Out<u32>,
    ) |cx| {
        let gpu = cx.board(device)?;
        let model = cx.model(gpu)?;
        if memory_mhz != model.memory_clock {
            return Err(Code::NOT_FOUND);
        }
        let clocks: Vec<u32> = (210..=model.sm_clock).rev().step_by(15).collect();
        list_or_size(count, mhz, &clocks)
    }

    /// Why clocks are below the highest: idleness, or nothing.
    fn nvmlDeviceGetCurrentClocksEventReasons(device: DeviceHandle, reasons: Out<u64>) |cx| {
        let bits = event_reasons(cx, device)?;
        reasons.set(bits)
    }

    /// The older name.
    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: DeviceHandle, reasons: Out<u64>) |cx| {
        let bits = event_reasons(cx, device)?;
        reasons.set(bits)
    }

    /// Reasons that may be given.
    fn nvmlDeviceGetSupportedClocksEventReasons(device: DeviceHandle, reasons: Out<u64>) |cx| {
        cx.board(device)?;
        reasons.set(SUPPORTED)
    }

    /// The older name.
    fn nvmlDeviceGetSupportedClocksThrottleReasons(device: DeviceHandle, reasons: Out<u64>) |cx| {
        cx.board(device)?;
        reasons.set(SUPPORTED)
    }

    /// No policy has ever held clocks back.
    fn nvmlDeviceGetViolationStatus(device: DeviceHandle, policy: u32, time: Out<ViolationTime>) |cx| {
        cx.board(device)?;
        if !matches!(policy, 0..=5 | 10 | 11) {
            return Err(Code::INVALID_ARGUMENT);
        }
        time.set(ViolationTime { reference_us: cx.now_ns / 1000, violation_ns: 0 })
    }

    /// P0 at work and idle, as data-centre boards.
    fn nvmlDeviceGetPerformanceState(device: DeviceHandle, state: Out<u32>) |cx| {
        cx.board(device)?;
        state.set(0)
    }

    /// The older name.
    fn nvmlDeviceGetPowerState(device: DeviceHandle, state: Out<u32>) |cx| {
        cx.board(device)?;
        state.set(0)
    }
}

fn current(cx: &mut Context<'_>, gpu: GpuSlot, domain: u32) -> Result<u32> {
    cx.reap();
    let (sm, memory) = cx.node.clocks(gpu, cx.now_ns)?;
    by_domain(domain, sm, memory)
}

fn highest(cx: &Context<'_>, gpu: GpuSlot, domain: u32) -> Result<u32> {
    let model = cx.model(gpu)?;
    by_domain(domain, model.sm_clock, model.memory_clock)
}

fn by_domain(domain: u32, sm: u32, memory: u32) -> Result<u32> {
    match domain {
        0 | 1 => Ok(sm),
        2 => Ok(memory),
        // The video clock follows the SM clock a little lower.
        3 => Ok(sm - sm / 8),
        _ => Err(Code::INVALID_ARGUMENT),
    }
}

pub(super) fn event_reasons(cx: &mut Context<'_>, device: DeviceHandle) -> Result<u64> {
    let gpu = cx.board(device)?;
    cx.reap();
    Ok(if cx.node.busy_permille(gpu, None, cx.now_ns) == 0 {
        IDLE
    } else {
        NONE
    })
}
