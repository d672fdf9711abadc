//! `cuGetProcAddress`: functions by base name and version. `cuGetExportTable`: refused.
//!
//! Of the forms of a function the newest that is not newer than the asked version is given. What is not
//! implemented is not found. A version above the driver's own is an invalid value. Neither function counts as a call of
//! the node: a program asks for hundreds of names before its first call.

use std::ffi::c_void;

use crate::entry::guarded;
use crate::pointer::{CText, Out};
use crate::process::node;
use crate::status::Status;
use crate::{context, device, memory, texts};

/// `CU_GET_PROC_ADDRESS_…` results.
const FOUND: i32 = 0;
const SYMBOL_NOT_FOUND: i32 = 1;
const VERSION_NOT_SUFFICIENT: i32 = 2;

macro_rules! table {
    ($($name:literal, $version:literal => $function:path;)*) => {
        /// The function of a name that an asked version gets, or what is wrong.
        fn find(name: &str, version: i32) -> Result<*const c_void, i32> {
            let mut best: Result<(i32, *const c_void), i32> = Err(SYMBOL_NOT_FOUND);
            $(if name == $name {
                best = match best {
                    _ if $version > version => best.or(Err(VERSION_NOT_SUFFICIENT)),
                    Ok((newest, _)) if newest >= $version => best,
                    _ => Ok(($version, $function as *const c_void)),
                };
            })*
            best.map(|(_, function)| function)
        }
    };
}

table! {
    "cuInit", 2000 => device::cuInit;
    "cuDriverGetVersion", 2020 => device::cuDriverGetVersion;
    "cuGetErrorName", 6000 => texts::cuGetErrorName;
    "cuGetErrorString", 6000 => texts::cuGetErrorString;
    "cuGetProcAddress", 11030 => cuGetProcAddress;
    "cuGetProcAddress", 12000 => cuGetProcAddress_v2;
    "cuGetExportTable", 3000 => cuGetExportTable;
    "cuDeviceGet", 2000 => device::cuDeviceGet;
    "cuDeviceGetCount", 2000 => device::cuDeviceGetCount;
    "cuDeviceGetName", 2000 => device::cuDeviceGetName;
    "cuDeviceGetUuid", 9020 => device::cuDeviceGetUuid;
    "cuDeviceGetUuid", 11040 => device::cuDeviceGetUuid_v2;
    "cuDeviceTotalMem", 2000 => device::cuDeviceTotalMem;
    "cuDeviceTotalMem", 3020 => device::cuDeviceTotalMem_v2;
    "cuDeviceGetAttribute", 2000 => device::cuDeviceGetAttribute;
    "cuDevicePrimaryCtxRetain", 7000 => context::cuDevicePrimaryCtxRetain;
    "cuDevicePrimaryCtxRelease", 7000 => context::cuDevicePrimaryCtxRelease;
    "cuDevicePrimaryCtxRelease", 11000 => context::cuDevicePrimaryCtxRelease_v2;
    "cuDevicePrimaryCtxReset", 11000 => context::cuDevicePrimaryCtxReset_v2;
    "cuDevicePrimaryCtxGetState", 7000 => context::cuDevicePrimaryCtxGetState;
    "cuCtxSetCurrent", 4000 => context::cuCtxSetCurrent;
    "cuCtxGetCurrent", 4000 => context::cuCtxGetCurrent;
    "cuCtxPushCurrent", 4000 => context::cuCtxPushCurrent_v2;
    "cuCtxPopCurrent", 4000 => context::cuCtxPopCurrent_v2;
    "cuCtxGetDevice", 2000 => context::cuCtxGetDevice;
    "cuCtxSynchronize", 2000 => context::cuCtxSynchronize;
    "cuMemAlloc", 3020 => memory::cuMemAlloc_v2;
    "cuMemFree", 3020 => memory::cuMemFree_v2;
    "cuMemGetInfo", 3020 => memory::cuMemGetInfo_v2;
}

/// `cuGetProcAddress` of CUDA 11.3: no status.
///
/// # Safety
/// `name` is null or a string; `function` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetProcAddress(
    name: CText,
    function: Out<*const c_void>,
    version: i32,
    _flags: u64,
) -> Status {
    look_up(name, function, version, None)
}

/// `cuGetProcAddress` of CUDA 12.
///
/// # Safety
/// `name` is null or a string; `function` and `result` are null or valid for writing.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetProcAddress_v2(
    name: CText,
    function: Out<*const c_void>,
    version: i32,
    _flags: u64,
    result: Out<i32>,
) -> Status {
    look_up(name, function, version, Some(result))
}

/// `cuGetExportTable`: private tables are refused, always.
///
/// # Safety
/// `table` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetExportTable(
    table: Out<*const c_void>,
    _id: *const c_void,
) -> Status {
    table.set_if_wanted(std::ptr::null());
    Status::NOT_FOUND
}

fn look_up(
    name: CText,
    function: Out<*const c_void>,
    version: i32,
    result: Option<Out<i32>>,
) -> Status {
    guarded(&mut || {
        function.require()?;
        let name = name.get()?;
        // Without a node there is no version to be above.
        if cuda_version().is_some_and(|newest| version > newest) {
            return Err(Status::INVALID_VALUE);
        }
        let found = find(&name, version);
        if let Some(result) = result {
            result.set_if_wanted(found.err().unwrap_or(FOUND));
        }
        function.set(found.unwrap_or(std::ptr::null()))?;
        found.map(|_| ()).map_err(|_| Status::NOT_FOUND)
    })
}

/// The newest CUDA version that the driver knows.
fn cuda_version() -> Option<i32> {
    let version = node()
        .ok()?
        .with_unreaped(|node| node.header.cuda_version)
        .ok()?;
    i32::try_from(version).ok()
}

#[cfg(test)]
mod tests {
    use super::{SYMBOL_NOT_FOUND, VERSION_NOT_SUFFICIENT, find};

    #[test]
    fn the_newest_form_that_is_not_too_new_is_found() {
        let old = find("cuDeviceTotalMem", 3000).unwrap();
        let new = find("cuDeviceTotalMem", 3020).unwrap();
        assert_ne!(old, new);
        assert_eq!(find("cuDeviceTotalMem", 13000), Ok(new));
        assert_eq!(find("cuMemAlloc", 2000), Err(VERSION_NOT_SUFFICIENT));
        assert_eq!(find("cuNoSuchThing", 13000), Err(SYMBOL_NOT_FOUND));
        assert_eq!(find("", 0), Err(SYMBOL_NOT_FOUND));
    }
}
