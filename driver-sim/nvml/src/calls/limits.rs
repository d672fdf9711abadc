//! Memory limits per cgroup (R615). A namespace is a cgroup's folder below `/sys/fs/cgroup`, or its path from the root
//! of the hierarchy. Memory queries of a process inside do not show the limit; CUDA's do.

use std::ffi::c_char;

use gpushared_driver_sim::Result;

use crate::abi::DeviceHandle;
use crate::abi::device::{GetMemoryLimitsV1, SetMemoryLimitsV1};
use crate::entry::entries;
use crate::pointer::{CText, In, Out};

/// Where the hierarchy is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

entries! {
    /// Sets a soft and a hard limit.
    fn nvmlDeviceSetMemoryLimits_v1(device: DeviceHandle, limits: In<SetMemoryLimitsV1>) |cx| {
        let gpu = cx.board(device)?;
        let asked = limits.get()?;
        let namespace = namespace(asked.name_space)?;
        cx.privileged()?;
        cx.node.set_memory_limits(gpu, &namespace, asked.soft, asked.hard)
    }

    /// Reads the limits and what is used.
    fn nvmlDeviceGetMemoryLimits_v1(device: DeviceHandle, limits: Out<GetMemoryLimitsV1>) |cx| {
        let gpu = cx.board(device)?;
        let asked = limits.get()?;
        let namespace = namespace(asked.name_space)?;
        cx.reap();
        let found = cx.node.memory_limits(gpu, &namespace)?;
        limits.set(GetMemoryLimitsV1 {
            soft: found.soft, hard: found.hard, used: found.used, ..asked
        })
    }
}

fn namespace(stored: *const c_char) -> Result<String> {
    let path = CText::stored(stored).get()?;
    let inside = path
        .strip_prefix(MOUNT)
        .filter(|rest| rest.starts_with('/'));
    Ok(inside.unwrap_or(&path).to_owned())
}
