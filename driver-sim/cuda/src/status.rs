//! `CUresult`: the codes that this library answers, with their names and texts.

use std::ffi::CStr;

use gpushared_driver_sim::Code;

/// A `CUresult`. A newtype, because a C enum may hold any number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u32);

/// What calls answer inside.
pub(crate) type Result<T> = std::result::Result<T, Status>;

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const INVALID_VALUE: Self = Self(1);
    pub(crate) const OUT_OF_MEMORY: Self = Self(2);
    pub(crate) const NOT_INITIALIZED: Self = Self(3);
    pub(crate) const DEVICE_UNAVAILABLE: Self = Self(46);
    pub(crate) const NO_DEVICE: Self = Self(100);
    pub(crate) const INVALID_DEVICE: Self = Self(101);
    pub(crate) const INVALID_CONTEXT: Self = Self(201);
    pub(crate) const NOT_FOUND: Self = Self(500);
    pub(crate) const SYSTEM_DRIVER_MISMATCH: Self = Self(803);
    pub(crate) const UNKNOWN: Self = Self(999);
}

/// What the model refuses, in CUDA's words.
impl From<Code> for Status {
    fn from(code: Code) -> Self {
        match code {
            Code::SUCCESS => Self::SUCCESS,
            Code::INVALID_ARGUMENT => Self::INVALID_VALUE,
            Code::MEMORY => Self::OUT_OF_MEMORY,
            Code::DRIVER_NOT_LOADED | Code::NOT_SUPPORTED => Self::NO_DEVICE,
            Code::LIB_RM_VERSION_MISMATCH => Self::SYSTEM_DRIVER_MISMATCH,
            Code::IN_USE | Code::INSUFFICIENT_RESOURCES => Self::DEVICE_UNAVAILABLE,
            // Lost or unplugged under a running program, a MIG device that is gone.
            _ => Self::UNKNOWN,
        }
    }
}

/// Name and text of a number, `None` for one that this driver does not know.
pub(crate) const fn describe(number: u32) -> Option<(&'static CStr, &'static CStr)> {
    Some(match number {
        0 => (c"CUDA_SUCCESS", c"no error"),
        1 => (c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
        2 => (c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
        3 => (c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
        4 => (c"CUDA_ERROR_DEINITIALIZED", c"driver shutting down"),
        46 => (
            c"CUDA_ERROR_DEVICE_UNAVAILABLE",
            c"CUDA-capable device(s) is/are busy or unavailable",
        ),
        100 => (
            c"CUDA_ERROR_NO_DEVICE",
            c"no CUDA-capable device is detected",
        ),
        101 => (c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
        201 => (c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
        500 => (c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
        801 => (c"CUDA_ERROR_NOT_SUPPORTED", c"operation not supported"),
        803 => (
            c"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            c"system has unsupported display driver / cuda driver combination",
        ),
        999 => (c"CUDA_ERROR_UNKNOWN", c"unknown error"),
        _ => return None,
    })
}
