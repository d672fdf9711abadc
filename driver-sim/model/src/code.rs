//! NVML return codes: the error type of every operation of the model.
//!
//! A newtype and not an enum: the number comes from a mapped file (faults) or from the command line, so every
//! value must be representable.

use std::fmt;

/// An NVML return code. `SUCCESS` is never the `Err` of a result of the model; it occurs as activation status
/// and in the call log.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(u32);

/// What every operation of the model answers.
pub type Result<T> = std::result::Result<T, Code>;

macro_rules! codes {
    ($($name:ident = $value:literal),* $(,)?) => {
        impl Code {
            $(#[doc = concat!("`NVML_", stringify!($name), "` (error codes: `NVML_ERROR_…`), ", $value, ".")]
            pub const $name: Self = Self($value);)*

            /// The name as in the header without its prefix, or `None` for a number that no header has.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    ALREADY_INITIALIZED = 5,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    INSUFFICIENT_POWER = 8,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    IRQ_ISSUE = 11,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    CORRUPTED_INFOROM = 14,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    OPERATING_SYSTEM = 17,
    LIB_RM_VERSION_MISMATCH = 18,
    IN_USE = 19,
    MEMORY = 20,
    NO_DATA = 21,
    VGPU_ECC_NOT_SUPPORTED = 22,
    INSUFFICIENT_RESOURCES = 23,
    FREQ_NOT_SUPPORTED = 24,
    ARGUMENT_VERSION_MISMATCH = 25,
    DEPRECATED = 26,
    NOT_READY = 27,
    GPU_NOT_FOUND = 28,
    INVALID_STATE = 29,
    RESET_TYPE_NOT_SUPPORTED = 30,
    UNKNOWN = 999,
}

impl Code {
    /// The code with this number, whether or not a header names it.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number that the C interface returns.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// `Ok` for `SUCCESS`, the code itself otherwise.
    ///
    /// # Errors
    /// Every code but `SUCCESS`.
    pub const fn ok(self) -> Result<()> {
        if self.0 == 0 { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl std::error::Error for Code {}
