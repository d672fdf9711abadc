//! Initialisation, shutdown, error texts, and the private table that nobody gets.

use std::ffi::c_char;

use gpushared_driver_sim::{Code, Function};

use crate::abi::Return;
use crate::entry::{entries, guarded};
use crate::library;

/// `nvmlInit`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInit() -> Return {
    guarded(&mut || library::init(const { Function::new("nvmlInit") }))
}

/// `nvmlInit_v2`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInit_v2() -> Return {
    guarded(&mut || library::init(const { Function::new("nvmlInit_v2") }))
}

/// `nvmlInitWithFlags`: "no GPUs" (1) and "no attach" (2) change nothing here.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInitWithFlags(_flags: u32) -> Return {
    guarded(&mut || library::init(const { Function::new("nvmlInitWithFlags") }))
}

/// `nvmlShutdown`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlShutdown() -> Return {
    guarded(&mut || library::shutdown(const { Function::new("nvmlShutdown") }))
}

/// `nvmlErrorString`: works without initialisation; never NULL.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlErrorString(code: Return) -> *const c_char {
    let text = match Code::new(code) {
        Code::SUCCESS => c"Success",
        Code::UNINITIALIZED => c"Uninitialized",
        Code::INVALID_ARGUMENT => c"Invalid Argument",
        Code::NOT_SUPPORTED => c"Not Supported",
        Code::NO_PERMISSION => c"Insufficient Permissions",
        Code::ALREADY_INITIALIZED => c"Already Initialized",
        Code::NOT_FOUND => c"Not Found",
        Code::INSUFFICIENT_SIZE => c"Insufficient Size",
        Code::INSUFFICIENT_POWER => c"Insufficient External Power",
        Code::DRIVER_NOT_LOADED => c"Driver Not Loaded",
        Code::TIMEOUT => c"Timeout",
        Code::IRQ_ISSUE => c"Interrupt Request Issue",
        Code::LIBRARY_NOT_FOUND => c"NVML Shared Library Not Found",
        Code::FUNCTION_NOT_FOUND => c"Function Not Found",
        Code::CORRUPTED_INFOROM => c"Corrupted infoROM",
        Code::GPU_IS_LOST => c"GPU is lost",
        Code::RESET_REQUIRED => c"GPU requires reset",
        Code::OPERATING_SYSTEM => c"GPU access blocked by the operating system",
        Code::LIB_RM_VERSION_MISMATCH => c"Driver/library version mismatch",
        Code::IN_USE => c"In use by another client",
        Code::MEMORY => c"Insufficient Memory",
        Code::NO_DATA => c"No data",
        Code::VGPU_ECC_NOT_SUPPORTED => c"vGPU ECC operation not supported",
        Code::INSUFFICIENT_RESOURCES => c"Insufficient Resources",
        Code::FREQ_NOT_SUPPORTED => c"Requested frequency not supported",
        Code::ARGUMENT_VERSION_MISMATCH => c"Argument version mismatch",
        Code::DEPRECATED => c"Deprecated",
        Code::NOT_READY => c"Not Ready",
        Code::GPU_NOT_FOUND => c"GPU not found",
        Code::INVALID_STATE => c"Invalid State",
        Code::RESET_TYPE_NOT_SUPPORTED => c"Reset type not supported",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

entries! {
    /// The private function tables: refused, always (a rule of this project, not a gap).
    fn nvmlInternalGetExportTable(table: usize, id: usize) |_| {
        let _: (usize, usize) = (table, id);
        Err(Code::NOT_SUPPORTED)
    }
}
