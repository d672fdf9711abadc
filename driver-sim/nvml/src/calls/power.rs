//! Power, energy, temperature, fans.

use gpushared_driver_sim::{Code, Result};

use crate::abi::device::{MarginTemperatureV1, PowerValueV2, TemperatureV1};
use crate::abi::{DeviceHandle, version_of};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::{In, Out};

/// Degrees at which the board slows down; memory and GPU maximum lie below, shutdown above.
const SLOWDOWN: u32 = 89;
const SHUTDOWN: u32 = 92;
const MEMORY_MAX: u32 = 95;
const GPU_MAX: u32 = 87;

entries! {
    /// Power draw in milliwatts.
    fn nvmlDeviceGetPowerUsage(device: DeviceHandle, milliwatts: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        cx.reap();
        milliwatts.set(cx.node.power_mw(gpu, cx.now_ns)?)
    }

    /// Energy since the driver was loaded, in millijoules.
    fn nvmlDeviceGetTotalEnergyConsumption(device: DeviceHandle, millijoules: Out<u64>) |cx| {
        let energy = energy_mj(cx, device)?;
        millijoules.set(energy)
    }

    /// Power limit in effect.
    fn nvmlDeviceGetEnforcedPowerLimit(device: DeviceHandle, milliwatts: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        milliwatts.set(cx.node.gpu(gpu)?.power_limit_mw)
    }

    /// Power limit that was set.
    fn nvmlDeviceGetPowerManagementLimit(device: DeviceHandle, milliwatts: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        milliwatts.set(cx.node.gpu(gpu)?.power_limit_mw)
    }

    /// Power limit of a fresh driver.
    fn nvmlDeviceGetPowerManagementDefaultLimit(device: DeviceHandle, milliwatts: Out<u32>) |cx| {
        let gpu = cx.board(device)?;
        milliwatts.set(cx.model(gpu)?.power_limit_w * 1000)
    }

    /// Lowest and highest power limit.
    fn nvmlDeviceGetPowerManagementLimitConstraints(
        device: DeviceHandle, lowest: Out<u32>, highest: Out<u32>,
    ) |cx| {
        let gpu = cx.board(device)?;
        highest.require()?;
        let model = cx.model(gpu)?;
        lowest.set(model.idle_w * 1000)?;
        highest.set(model.power_limit_w * 1000)
    }

    /// Power limits are always managed.
    fn nvmlDeviceGetPowerManagementMode(device: DeviceHandle, mode: Out<u32>) |cx| {
        cx.board(device)?;
        mode.set(1)
    }

    /// Sets the power limit.
    fn nvmlDeviceSetPowerManagementLimit(device: DeviceHandle, milliwatts: u32) |cx| {
        let gpu = cx.gpu(device)?;
        cx.privileged()?;
        cx.node.set_power_limit_mw(gpu, milliwatts)
    }

    /// Sets the power limit of the GPU scope (0).
    fn nvmlDeviceSetPowerManagementLimit_v2(device: DeviceHandle, value: In<PowerValueV2>) |cx| {
        let gpu = cx.gpu(device)?;
        let value = value.get()?;
        if value.version != version_of::<PowerValueV2>(2) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        if value.scope != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        cx.privileged()?;
        cx.node.set_power_limit_mw(gpu, value.milliwatts)
    }

    /// Mains.
    fn nvmlDeviceGetPowerSource(device: DeviceHandle, source: Out<u32>) |cx| {
        cx.board(device)?;
        source.set(0)
    }

    /// Temperature of the GPU sensor (0).
    fn nvmlDeviceGetTemperature(device: DeviceHandle, sensor: u32, celsius: Out<u32>) |cx| {
        celsius.require()?;
        let degrees = temperature(cx, device, sensor)?;
        celsius.set(degrees)
    }

    /// The same in a versioned struct.
    fn nvmlDeviceGetTemperatureV(device: DeviceHandle, temperature_info: Out<TemperatureV1>) |cx| {
        let version = temperature_info.cast::<u32>().get()?;
        if version != version_of::<TemperatureV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let asked = temperature_info.get()?;
        let degrees = temperature(cx, device, asked.sensor)?;
        temperature_info.set(TemperatureV1 { celsius: degrees.cast_signed(), ..asked })
    }

    /// Thresholds: 0 shutdown, 1 slowdown, 2 memory, 3 GPU.
    fn nvmlDeviceGetTemperatureThreshold(device: DeviceHandle, kind: u32, celsius: Out<u32>) |cx| {
        cx.board(device)?;
        celsius.set(match kind {
            0 => SHUTDOWN,
            1 => SLOWDOWN,
            2 => MEMORY_MAX,
            3 => GPU_MAX,
            4..=7 => return Err(Code::NOT_SUPPORTED),
            _ => return Err(Code::INVALID_ARGUMENT),
        })
    }

    /// Degrees left before the nearest slowdown.
    fn nvmlDeviceGetMarginTemperature(device: DeviceHandle, margin: Out<MarginTemperatureV1>) |cx| {
        let version = margin.cast::<u32>().get()?;
        if version != version_of::<MarginTemperatureV1>(1) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let degrees = temperature(cx, device, 0)?;
        margin.set(MarginTemperatureV1 { version, celsius: GPU_MAX.cast_signed() - degrees.cast_signed() })
    }

    /// No fans: every simulated board is passively cooled.
    fn nvmlDeviceGetNumFans(device: DeviceHandle, fans: Out<u32>) |cx| {
        cx.board(device)?;
        fans.set(0)
    }
}

fn temperature(cx: &mut Context<'_>, device: DeviceHandle, sensor: u32) -> Result<u32> {
    let gpu = cx.board(device)?;
    if sensor != 0 {
        return Err(Code::INVALID_ARGUMENT);
    }
    cx.reap();
    cx.node.temperature(gpu, cx.now_ns)
}

/// Energy of a GPU in millijoules, see [`Context::energy_mj`].
pub(super) fn energy_mj(cx: &mut Context<'_>, device: DeviceHandle) -> Result<u64> {
    let gpu = cx.board(device)?;
    cx.reap();
    cx.energy_mj(gpu)
}
