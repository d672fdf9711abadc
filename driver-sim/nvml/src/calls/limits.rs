//! Memory limits per cgroup (R615). The model has no `dmem` controller: every namespace is unknown.

use gpushared_driver_sim::{Code, Result};

use crate::abi::DeviceHandle;
use crate::abi::device::{GetMemoryLimitsV1, SetMemoryLimitsV1};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::{CText, In, Out};

/// The first driver branch with memory limits.
const FIRST_BRANCH: u32 = 615;

entries! {
    /// Sets a soft and a hard limit.
    fn nvmlDeviceSetMemoryLimits_v1(device: DeviceHandle, limits: In<SetMemoryLimitsV1>) |cx| {
        admit(cx, device)?;
        let limits = limits.get()?;
        cx.privileged()?;
        CText::stored(limits.name_space).get()?;
        Err(Code::NOT_FOUND)
    }

    /// Reads the limits and what is used.
    fn nvmlDeviceGetMemoryLimits_v1(device: DeviceHandle, limits: Out<GetMemoryLimitsV1>) |cx| {
        admit(cx, device)?;
        CText::stored(limits.get()?.name_space).get()?;
        Err(Code::NOT_FOUND)
    }
}

fn admit(cx: &Context<'_>, device: DeviceHandle) -> Result<()> {
    cx.board(device)?;
    if cx.driver().0 < FIRST_BRANCH {
        Err(Code::NOT_SUPPORTED)
    } else {
        Ok(())
    }
}
