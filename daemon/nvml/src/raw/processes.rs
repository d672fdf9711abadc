//! Processes with a compute context, MPS clients among them.

use nvml_wrapper::Device;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlProcessInfo_t};

use super::{Answer, Refusal, code, device, function, grown};

/// `NVML_VALUE_NOT_AVAILABLE` in 64 bits.
const NOT_AVAILABLE: u64 = u64::MAX;
/// No GPU or compute instance.
const NO_INSTANCE: u32 = u32::MAX;
/// More than most GPUs have; the buffer grows.
const USUAL_COUNT: usize = 32;

/// The second and third version of the functions differ in name only: both fill the 24-byte entry.
type List = unsafe extern "C" fn(nvmlDevice_t, *mut u32, *mut nvmlProcessInfo_t) -> u32;

/// A process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) gpu_instance: Option<u32>,
    pub(crate) compute_instance: Option<u32>,
    pub(crate) used_memory: Option<u64>,
}

/// All compute processes of a GPU and its instances, each once.
pub(crate) fn compute(of: &Device<'static>) -> Answer<Vec<Process>> {
    let lib = of.nvml().lib();
    let ordinary = newest(
        &lib.nvmlDeviceGetComputeRunningProcesses_v3,
        &lib.nvmlDeviceGetComputeRunningProcesses_v2,
        "nvmlDeviceGetComputeRunningProcesses_v2",
    )?;
    let mut processes = list(of, ordinary)?;
    let mps = newest(
        &lib.nvmlDeviceGetMPSComputeRunningProcesses_v3,
        &lib.nvmlDeviceGetMPSComputeRunningProcesses_v2,
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    );
    match mps.and_then(|mps| list(of, mps)) {
        Ok(clients) => processes.extend(clients),
        // A driver or GPU without MPS.
        Err(Refusal::NoFunction(_)) => {}
        Err(refusal) if refusal.is(&[code::NOT_SUPPORTED, code::FUNCTION_NOT_FOUND]) => {}
        Err(refusal) => return Err(refusal),
    }
    processes.sort_unstable();
    processes.dedup_by_key(|process| (process.pid, process.gpu_instance, process.compute_instance));
    Ok(processes)
}

fn newest<E>(third: &Result<List, E>, second: &Result<List, E>, name: &str) -> Answer<List> {
    match third {
        Ok(function) => Ok(*function),
        Err(_) => function(second, name).copied(),
    }
}

fn list(of: &Device<'static>, function: List) -> Answer<Vec<Process>> {
    let empty = nvmlProcessInfo_t {
        pid: 0,
        usedGpuMemory: 0,
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    };
    let entries = grown(USUAL_COUNT, empty, |buffer, used| {
        // SAFETY: the buffer has `used` entries of the function's own type, and both live over the call.
        unsafe { function(device::handle(of), used, buffer.as_mut_ptr()) }
    })?;
    let instance = |id: u32| (id != NO_INSTANCE).then_some(id);
    Ok(entries
        .into_iter()
        .map(|entry| Process {
            pid: entry.pid,
            gpu_instance: instance(entry.gpuInstanceId),
            compute_instance: instance(entry.computeInstanceId),
            used_memory: (entry.usedGpuMemory != NOT_AVAILABLE).then_some(entry.usedGpuMemory),
        })
        .collect())
}
