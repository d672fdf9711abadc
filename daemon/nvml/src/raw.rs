//! The library's functions themselves, where nvml-wrapper lacks or breaks them. The only folder with unsafe code.
//!
//! | here | because nvml-wrapper 0.13.0 |
//! |---|---|
//! | [`profiles`] | has the first profile layout only (no name) and a `possible_placements` that is always empty; its bindings' profile counts (17, 8) are one short of the header's |
//! | [`gpu_instance`], [`compute_instance`] | has nothing |
//! | [`events`] | drops instance ids, frees the whole set when one GPU refuses, panics in drop without `nvmlEventSetFree` |
//! | [`memory`] | has no way back to the first layout, which drivers before R510 need |
//! | [`processes`] | passes exactly the counted length for MPS clients, and has no way back to older functions |
//! | [`rows`] | has nothing |
//!
//! Every function answers a [`Refusal`] with the library's own code; `error.rs` gives it a meaning.
//!
//! SAFETY of the whole: the types and signatures are those that bindgen took from NVIDIA's header; NVML is documented
//! as thread-safe; the library is never unloaded (`library.rs`), so function pointers and handles do not dangle;
//! NVML checks handles of devices, sets and instances and answers `INVALID_ARGUMENT` for what it does not know.

pub(crate) mod compute_instance;
pub(crate) mod device;
pub(crate) mod events;
pub(crate) mod gpu_instance;
pub(crate) mod marker;
pub(crate) mod memory;
pub(crate) mod processes;
pub(crate) mod profiles;
pub(crate) mod rows;

use std::ffi::{CStr, c_char};
use std::fmt;

use gpushared_domain::ids::ParseIdError;
use nvml_wrapper::error::NvmlError;

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// NVML's own return code.
    Code(u32),
    /// The library lacks the function.
    NoFunction(String),
    /// The answer cannot be what was asked for: not UTF-8, not a UUID, …
    Malformed(String),
}

/// What a call brought.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// NVML's return codes that are looked at by number.
pub(crate) mod code {
    pub(crate) const UNINITIALIZED: u32 = 1;
    pub(crate) const INVALID_ARGUMENT: u32 = 2;
    pub(crate) const NOT_SUPPORTED: u32 = 3;
    pub(crate) const NO_PERMISSION: u32 = 4;
    pub(crate) const NOT_FOUND: u32 = 6;
    pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
    pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
    pub(crate) const TIMEOUT: u32 = 10;
    pub(crate) const LIBRARY_NOT_FOUND: u32 = 12;
    pub(crate) const FUNCTION_NOT_FOUND: u32 = 13;
    pub(crate) const GPU_IS_LOST: u32 = 15;
    pub(crate) const RESET_REQUIRED: u32 = 16;
    pub(crate) const LIB_RM_VERSION_MISMATCH: u32 = 18;
    pub(crate) const IN_USE: u32 = 19;
    pub(crate) const INSUFFICIENT_RESOURCES: u32 = 23;
    pub(crate) const ARGUMENT_VERSION_MISMATCH: u32 = 25;
    pub(crate) const GPU_NOT_FOUND: u32 = 28;
    /// Of the wrapper, for what has no code.
    pub(crate) const UNKNOWN: u32 = 999;
}

impl Refusal {
    /// Is it one of these codes?
    pub(crate) fn is(&self, codes: &[u32]) -> bool {
        matches!(self, Self::Code(code) if codes.contains(code))
    }

    /// Does the library or driver not know this version of the function or of its structure?
    pub(crate) fn is_of_version(&self) -> bool {
        matches!(self, Self::NoFunction(_))
            || self.is(&[code::FUNCTION_NOT_FOUND, code::ARGUMENT_VERSION_MISMATCH])
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "NVML code {code}"),
            Self::NoFunction(name) => write!(f, "the library lacks {name}"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl From<NvmlError> for Refusal {
    /// Codes 23 to 30 have no variant in nvml-wrapper and arrive as `UnexpectedVariant`, which its own conversion
    /// turns back into the number.
    fn from(error: NvmlError) -> Self {
        match error {
            NvmlError::FailedToLoadSymbol(text) => Self::NoFunction(symbol_in(&text).to_owned()),
            NvmlError::LibloadingError(_)
            | NvmlError::Utf8Error(_)
            | NvmlError::NulError(_)
            | NvmlError::StringTooLong { .. }
            | NvmlError::IncorrectBits(_)
            | NvmlError::GetPciInfoFailed
            | NvmlError::PciInfoToCFailed
            | NvmlError::SetReleaseFailed => Self::Malformed(error.to_string()),
            other => Self::Code(other.into()),
        }
    }
}

impl From<ParseIdError> for Refusal {
    fn from(error: ParseIdError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The name in the loader's message `…: undefined symbol: nvmlX`, or all of it.
fn symbol_in(message: &str) -> &str {
    message
        .rsplit(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .find(|word| word.starts_with("nvml"))
        .unwrap_or(message)
}

/// A function of the library, if it has it.
fn function<'l, F, E>(symbol: &'l Result<F, E>, name: &str) -> Answer<&'l F> {
    symbol
        .as_ref()
        .map_err(|_| Refusal::NoFunction(name.to_owned()))
}

/// Success, or the code.
fn check(code: u32) -> Answer<()> {
    match code {
        0 => Ok(()),
        code => Err(Refusal::Code(code)),
    }
}

/// What NVML wrote into a text buffer.
fn text(buffer: &[c_char]) -> Answer<String> {
    let bytes: Vec<u8> = buffer.iter().map(|&byte| byte.cast_unsigned()).collect();
    let text = CStr::from_bytes_until_nul(&bytes)
        .ok()
        .and_then(|text| text.to_str().ok());
    text.map(str::to_owned)
        .ok_or_else(|| Refusal::Malformed("a text without end or not in UTF-8".to_owned()))
}

/// `version` in the first word of a structure: version in the top byte, size below.
const fn version_of<T>(version: u32) -> u32 {
    let size = size_of::<T>();
    assert!(size < 1 << 24, "size and version share a word");
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size as u32;
    (version << 24) | size
}

/// Calls `fill` with buffers that grow until one is large enough: what is listed may grow between two calls, so asking
/// for the length first and passing just that is a race. `fill` writes the length it used, or would need, to its
/// second argument.
fn grown<T: Copy>(
    first: usize,
    empty: T,
    mut fill: impl FnMut(&mut [T], &mut u32) -> u32,
) -> Answer<Vec<T>> {
    const ATTEMPTS: u32 = 8;
    const SLACK: usize = 8;
    let mut length = first.max(1);
    for _ in 0..ATTEMPTS {
        let mut buffer = vec![empty; length];
        let mut used = u32::try_from(length).unwrap_or(u32::MAX);
        let answer = check(fill(&mut buffer, &mut used));
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        match answer {
            Ok(()) => {
                buffer.truncate(used);
                return Ok(buffer);
            }
            Err(refusal) if refusal.is(&[code::INSUFFICIENT_SIZE]) => {
                length = (length * 2).max(used.min(1 << 16) + SLACK);
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Err(Refusal::Code(code::INSUFFICIENT_SIZE))
}

#[cfg(test)]
mod tests;
