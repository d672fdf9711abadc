//! The NVLink fabric: no simulated node has one.

use gpushared_driver_sim::{Code, Result};

use crate::abi::device::{FabricInfo, FabricInfoV2, FabricInfoV3};
use crate::abi::{DeviceHandle, version_of};
use crate::context::Context;
use crate::entry::entries;
use crate::pointer::Out;

/// `NVML_GPU_FABRIC_STATE_NOT_SUPPORTED`.
const STATE_NOT_SUPPORTED: u8 = 0;

entries! {
    /// Registration with the fabric.
    fn nvmlDeviceGetGpuFabricInfo(device: DeviceHandle, info: Out<FabricInfo>) |cx| {
        admit(cx, device)?;
        info.set(FabricInfo { cluster: [0; 16], status: 0, clique: 0, state: STATE_NOT_SUPPORTED })
    }

    /// The same with health, v2 and v3.
    fn nvmlDeviceGetGpuFabricInfoV(device: DeviceHandle, info: Out<FabricInfoV2>) |cx| {
        admit(cx, device)?;
        let version = info.cast::<u32>().get()?;
        let v2 = FabricInfoV2 {
            version, cluster: [0; 16], status: 0, clique: 0, state: STATE_NOT_SUPPORTED, health_mask: 0,
        };
        if version == version_of::<FabricInfoV2>(2) {
            return info.set(v2);
        }
        if version != version_of::<FabricInfoV3>(3) {
            return Err(Code::ARGUMENT_VERSION_MISMATCH);
        }
        info.cast::<FabricInfoV3>().set(FabricInfoV3 {
            version, cluster: v2.cluster, status: 0, clique: 0, state: v2.state, health_mask: 0,
            health_summary: 0,
        })
    }
}

/// Hopper and later answer; before there was no such thing.
fn admit(cx: &Context<'_>, device: DeviceHandle) -> Result<()> {
    let gpu = cx.board(device)?;
    if cx.model(gpu)?.architecture < 9 {
        Err(Code::NOT_SUPPORTED)
    } else {
        Ok(())
    }
}
