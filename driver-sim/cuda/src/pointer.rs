//! The pointers of the C interface as types: the only place that reads or writes the caller's memory.
//!
//! A value exists only as a parameter of an exported function, put there by a C caller, and carries that
//! function's contract: *null, or valid for the documented access for the duration of the call*.

use std::ffi::{CStr, c_char};

use crate::status::{Result, Status};

/// `T *`: the caller's memory to write to.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

/// `const char *`, NUL-terminated.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct CText(*const c_char);

impl<T: Copy> Out<T> {
    /// Whether the caller passed NULL.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The pointer itself if it is not NULL.
    ///
    /// # Errors
    /// INVALID_VALUE for NULL.
    pub(crate) fn require(self) -> Result<Self> {
        if self.is_null() {
            Err(Status::INVALID_VALUE)
        } else {
            Ok(self)
        }
    }

    /// Writes one value.
    ///
    /// # Errors
    /// INVALID_VALUE for NULL.
    pub(crate) fn set(self, value: T) -> Result<()> {
        let Self(to) = self.require()?;
        // SAFETY: not null, so by the type's invariant valid for writing one T; alignment is not assumed.
        unsafe { to.write_unaligned(value) };
        Ok(())
    }

    /// Writes one value where the caller wants it; NULL is fine.
    pub(crate) fn set_if_wanted(self, value: T) {
        if !self.is_null() {
            // SAFETY: as in `set`.
            unsafe { self.0.write_unaligned(value) };
        }
    }
}

impl Out<u8> {
    /// Writes `text` and a NUL into a buffer of `length` characters; longer text is cut.
    ///
    /// # Errors
    /// INVALID_VALUE for NULL and for a length below 1.
    pub(crate) fn text(self, length: i32, text: &str) -> Result<()> {
        let Self(to) = self.require()?;
        let room = usize::try_from(length)
            .ok()
            .filter(|&room| room > 0)
            .ok_or(Status::INVALID_VALUE)?;
        let mut bytes = text.as_bytes()[..text.len().min(room - 1)].to_vec();
        bytes.push(0);
        // SAFETY: not null, so by the type's invariant valid for writing `length` characters, which is at least
        // the number of our bytes; they are ours and do not overlap the caller's.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }
}

impl CText {
    /// The text.
    ///
    /// # Errors
    /// INVALID_VALUE for NULL and for text that is not UTF-8.
    pub(crate) fn get(self) -> Result<String> {
        if self.0.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: not null, so by the type's invariant a NUL-terminated string that lives through the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str()
            .map(str::to_owned)
            .map_err(|_| Status::INVALID_VALUE)
    }
}
