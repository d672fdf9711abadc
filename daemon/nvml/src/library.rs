//! Loading and initialising `libnvidia-ml.so.1`.
//!
//! The loaded library lives as long as the process: it is leaked, once for each [`open`]. That gives devices without a
//! lifetime, keeps function pointers valid, and never runs nvml-wrapper's `Drop`, which panics when `nvmlShutdown` is
//! missing. A `static` would do the same for one library; tests open one for each simulated node.

use std::ffi::OsStr;
use std::path::Path;

use gpushared_domain::inventory::DriverInfo;
use gpushared_domain::ports::{DriverFault, GpuDriverError};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::error::error;
use crate::raw::{Answer, Refusal, marker};

const SONAME: &str = "libnvidia-ml.so.1";

/// Opens the library at `path`, or the one that the loader finds by soname, and checks that it is complete.
pub(crate) fn open(path: Option<&Path>) -> Result<(&'static Nvml, DriverInfo), GpuDriverError> {
    let name = path.map_or(OsStr::new(SONAME), Path::as_os_str);
    let shown = name.to_string_lossy();
    let nvml = match Nvml::builder().lib_path(name).init() {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(why)) => {
            let doing = format!("loading {shown} ({why})");
            return Err(GpuDriverError::new(doing, DriverFault::LibraryMissing));
        }
        Err(why) => return Err(error(format!("initialising {shown}"), &why.into())),
    };
    let nvml: &'static Nvml = Box::leak(Box::new(nvml));
    if let Some(missing) = first_missing(nvml) {
        let refusal = Refusal::NoFunction(missing.to_owned());
        return Err(error(format!("opening {shown}"), &refusal));
    }
    let info =
        info(nvml).map_err(|refusal| error(format!("asking {shown} for versions"), &refusal))?;
    Ok((nvml, info))
}

/// The driver's and the library's versions.
pub(crate) fn info(nvml: &'static Nvml) -> Answer<DriverInfo> {
    Ok(DriverInfo {
        driver_version: nvml.sys_driver_version()?,
        nvml_version: nvml.sys_nvml_version()?,
        cuda_version: u32::try_from(nvml.sys_cuda_driver_version()?).unwrap_or(0),
        simulated: marker::is_simulated(nvml),
    })
}

/// Needed for any GPU; drivers from R450 have them all. What only MIG or events need is refused when it is called.
fn first_missing(nvml: &Nvml) -> Option<&'static str> {
    let lib = nvml.lib();
    let needed = [
        ("nvmlShutdown", lib.nvmlShutdown.is_ok()),
        (
            "nvmlSystemGetDriverVersion",
            lib.nvmlSystemGetDriverVersion.is_ok(),
        ),
        (
            "nvmlSystemGetNVMLVersion",
            lib.nvmlSystemGetNVMLVersion.is_ok(),
        ),
        (
            "nvmlSystemGetCudaDriverVersion_v2",
            lib.nvmlSystemGetCudaDriverVersion_v2.is_ok(),
        ),
        ("nvmlDeviceGetCount_v2", lib.nvmlDeviceGetCount_v2.is_ok()),
        (
            "nvmlDeviceGetHandleByIndex_v2",
            lib.nvmlDeviceGetHandleByIndex_v2.is_ok(),
        ),
        (
            "nvmlDeviceGetHandleByUUID",
            lib.nvmlDeviceGetHandleByUUID.is_ok(),
        ),
        ("nvmlDeviceGetUUID", lib.nvmlDeviceGetUUID.is_ok()),
        ("nvmlDeviceGetName", lib.nvmlDeviceGetName.is_ok()),
        (
            "nvmlDeviceGetMinorNumber",
            lib.nvmlDeviceGetMinorNumber.is_ok(),
        ),
        (
            "nvmlDeviceGetPciInfo_v3",
            lib.nvmlDeviceGetPciInfo_v3.is_ok(),
        ),
        (
            "nvmlDeviceGetMemoryInfo",
            lib.nvmlDeviceGetMemoryInfo.is_ok(),
        ),
        (
            "nvmlDeviceGetCudaComputeCapability",
            lib.nvmlDeviceGetCudaComputeCapability.is_ok(),
        ),
        ("nvmlDeviceGetMigMode", lib.nvmlDeviceGetMigMode.is_ok()),
    ];
    needed
        .iter()
        .find(|(_, present)| !present)
        .map(|(name, _)| *name)
}
