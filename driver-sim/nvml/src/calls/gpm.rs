//! GPU performance monitoring, Hopper and later: two samples, then metrics over the time between them.
//!
//! The only road to the activity of MIG instances. Samples live in this process and hold what the clients of the
//! GPU or GPU instance had done; every activity metric follows the busy time by a fixed factor, byte counters
//! follow it by a fixed rate. Metrics of what is not modelled (NVLink, C2C, media engines) are 0 where the
//! hardware has them and NOT_SUPPORTED where it has not.

use gpushared_driver_sim::{Code, GpuInstanceId, GpuSlot, NO_INSTANCE, Result};

use crate::abi::gpm::{GPM_VERSION, GpmMetric, GpmMetricsGetHead, GpmSupport};
use crate::abi::{DeviceHandle, GpmSampleHandle};
use crate::context::{Context, Target};
use crate::entry::entries;
use crate::local::{Activity, GpmSample, SAMPLES, hold};
use crate::pointer::Out;

/// More metrics than any header has: a count above is not one of ours.
const MOST_METRICS: u32 = 4096;
/// Bytes per second over the bus at full work.
const PCIE_RATE: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;

entries! {
    /// Whether the GPU has performance monitoring.
    fn nvmlGpmQueryDeviceSupport(device: DeviceHandle, support: Out<GpmSupport>) |cx| {
        let gpu = cx.parent(device)?;
        let asked = support.get()?;
        if asked.version != GPM_VERSION {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        let supported = u32::from(cx.model(gpu)?.architecture >= 9);
        support.set(GpmSupport { version: GPM_VERSION, supported })
    }

    /// Streaming is off.
    fn nvmlGpmQueryIfStreamingEnabled(device: DeviceHandle, state: Out<u32>) |cx| {
        admit(cx, device)?;
        state.set(0)
    }

    /// An empty sample buffer.
    fn nvmlGpmSampleAlloc(sample: Out<GpmSampleHandle>) |_| {
        sample.require()?;
        sample.set(SAMPLES.insert(GpmSample::default()))
    }

    /// Frees a sample buffer.
    fn nvmlGpmSampleFree(sample: GpmSampleHandle) |_| {
        SAMPLES.remove(sample)
    }

    /// Samples a GPU, or the GPU instance of a MIG device.
    fn nvmlGpmSampleGet(device: DeviceHandle, sample: GpmSampleHandle) |cx| {
        let target = admit(cx, device)?;
        let sample = SAMPLES.get(sample)?;
        let gi = target.instance().map(|(gi, _)| gi);
        let taken = activity(cx, target.slot(), gi)?;
        hold(&sample).taken = Some(taken);
        Ok(())
    }

    /// Samples a GPU instance by id.
    fn nvmlGpmMigSampleGet(device: DeviceHandle, instance: u32, sample: GpmSampleHandle) |cx| {
        let gpu = admit(cx, device)?.slot();
        let sample = SAMPLES.get(sample)?;
        let gi = GpuInstanceId::new(instance);
        if !cx.node.gpu(gpu)?.mig_enabled() {
            return Err(Code::NOT_SUPPORTED);
        }
        cx.node.gi(gpu, gi).map_err(|_| Code::INVALID_ARGUMENT)?;
        let taken = activity(cx, gpu, Some(gi))?;
        hold(&sample).taken = Some(taken);
        Ok(())
    }

    /// Metrics between two samples of the same thing; every metric has its own answer.
    fn nvmlGpmMetricsGet(metrics: Out<GpmMetricsGetHead>) |_| {
        let head = metrics.get()?;
        if head.version != GPM_VERSION {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        if head.count > MOST_METRICS {
            return Err(Code::INVALID_ARGUMENT);
        }
        let first = hold(&*SAMPLES.get(head.sample1)?).taken.ok_or(Code::INVALID_ARGUMENT)?;
        let second = hold(&*SAMPLES.get(head.sample2)?).taken.ok_or(Code::INVALID_ARGUMENT)?;
        if first.of != second.of || first.at_ns >= second.at_ns {
            return Err(Code::INVALID_ARGUMENT);
        }
        let window = Window::between(&first, &second);
        let array = metrics.after::<GpmMetric>();
        for index in 0..head.count as usize {
            let entry = array.at(index);
            let asked = entry.get()?;
            let (status, value) = match window.metric(asked.id) {
                Ok(value) => (Code::SUCCESS, value),
                Err(code) => (code, 0.0),
            };
            entry.set(GpmMetric { status: status.get(), value, ..asked })?;
        }
        Ok(())
    }
}

/// A device of a GPU that has performance monitoring.
fn admit(cx: &Context<'_>, device: DeviceHandle) -> Result<Target> {
    let target = cx.target(device)?;
    if cx.model(target.slot())?.architecture < 9 {
        return Err(Code::NOT_SUPPORTED);
    }
    Ok(target)
}

/// What the clients of a GPU or GPU instance have done up to now.
fn activity(cx: &mut Context<'_>, gpu: GpuSlot, gi: Option<GpuInstanceId>) -> Result<Activity> {
    cx.reap();
    let memory = match gi {
        Some(gi) => cx.node.gi_memory(gpu, gi)?,
        None => cx.node.memory(gpu)?,
    };
    let of = (gpu.get(), gi.map_or(NO_INSTANCE, GpuInstanceId::get));
    let mut taken = Activity {
        at_ns: cx.now_ns,
        of,
        declared_permille: 0,
        total_work_ns: 0,
        memory_permille: u32::try_from(memory.used.saturating_mul(1000) / memory.total.max(1))
            .unwrap_or(1000),
    };
    for client in cx
        .node
        .clients_on(gpu)
        .filter(|client| gi.is_none_or(|gi| client.gi == gi.get()))
    {
        taken.declared_permille = taken
            .declared_permille
            .saturating_add(client.busy_permille)
            .min(1000);
        taken.total_work_ns = taken.total_work_ns.saturating_add(client.total_work_ns);
    }
    Ok(taken)
}

/// Activity over the time between two samples.
#[derive(Debug)]
struct Window {
    /// Share of the time with kernels running, 0 to 1.
    busy: f64,
    /// Share of the memory in use at the end, 0 to 1.
    memory: f64,
    /// Busy time up to the end, seconds.
    total_busy: f64,
    /// When it ended, seconds.
    end: f64,
}

impl Window {
    fn between(first: &Activity, second: &Activity) -> Self {
        let seconds = nanoseconds(second.at_ns - first.at_ns);
        let declared = f64::from(first.declared_permille + second.declared_permille) / 2000.0;
        // A client that ended in between takes its work along; then only the declared share is known.
        let worked = nanoseconds(second.total_work_ns.saturating_sub(first.total_work_ns));
        let end = nanoseconds(second.at_ns);
        Self {
            busy: (declared + worked / seconds).min(1.0),
            memory: f64::from(second.memory_permille) / 1000.0,
            total_busy: nanoseconds(second.total_work_ns) + declared * end,
            end,
        }
    }

    /// One metric by its NVML number: shares in percent, rates in MiB/s, counters in cycles or bytes.
    fn metric(&self, id: u32) -> Result<f64> {
        const HERTZ: f64 = 1.98e9;
        let percent = self.busy * 100.0;
        let rate = self.busy * PCIE_RATE / MIB;
        Ok(match id {
            // Graphics, SM.
            1 | 2 => percent,
            // Occupancy, integer, any tensor, then the kinds of tensor work: dominated by half precision.
            3 => percent * 0.5,
            4 => percent * 0.3,
            5 | 7 => percent * 0.6,
            6 | 8 | 9 => 0.0,
            // DRAM bandwidth follows the work, and needs data to be there.
            10 => percent * 0.5 * self.memory.ceil(),
            11 => 0.0,
            12 => percent * 0.3,
            13 => percent * 0.2,
            20 | 21 => rate,
            // Media engines, NVLink and context switches: present and idle.
            30..=37 | 40..=47 | 50 | 51 | 60..=97 | 166..=209 => 0.0,
            // Monotonic counters.
            248 => self.end * HERTZ,
            249 => self.total_busy * HERTZ,
            250 | 252 => self.total_busy * HERTZ * 0.6,
            251 | 253 | 254 => 0.0,
            255 | 256 => self.total_busy * PCIE_RATE,
            257 | 259 => self.total_busy * HERTZ * 0.3,
            258 => 0.0,
            260 => self.total_busy * HERTZ * 0.2,
            261..=332 => 0.0,
            0 => return Err(Code::INVALID_ARGUMENT),
            _ => return Err(Code::NOT_SUPPORTED),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are shares and rates; a microsecond in a century is lost"
)]
fn nanoseconds(count: u64) -> f64 {
    count as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::{Activity, Window};

    fn at(seconds: u64, declared_permille: u32, work_ms: u64) -> Activity {
        Activity {
            at_ns: seconds * 1_000_000_000,
            of: (0, 0),
            declared_permille,
            total_work_ns: work_ms * 1_000_000,
            memory_permille: 1,
        }
    }

    #[test]
    fn activity_is_what_was_declared_plus_what_was_done_in_the_window() {
        let window = Window::between(&at(10, 200, 500), &at(12, 200, 1500));
        // 20 % declared and one second of work in two.
        assert!((window.metric(2).unwrap() - 70.0).abs() < 1e-9);
    }

    #[test]
    fn work_of_ended_clients_does_not_make_activity_negative() {
        let window = Window::between(&at(10, 0, 5000), &at(11, 0, 0));
        assert!(window.metric(2).unwrap().abs() < 1e-9);
    }
}
