//! The pointers of the C interface as types: the only place that reads or writes the caller's memory.
//!
//! A value of `In`, `Out` or `CText` exists only as a parameter of an exported function, put there by a C
//! caller. Its invariant is that function's contract: *null, or valid for the documented access for the
//! duration of the call*. That is why the methods are safe: they check for null and go no further than the
//! count that the same caller passed beside the pointer. Alignment is not assumed.

use std::ffi::{CStr, c_char};

use gpushared_driver_sim::{Code, Result};

use crate::abi::Plain;

/// `T *`: the caller's memory to write to (and, for versioned structs and counts, to read first).
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

/// `const T *`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct In<T>(*const T);

/// `const char *`, NUL-terminated.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct CText(*const c_char);

impl<T: Plain> Out<T> {
    /// Whether the caller passed NULL.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The pointer itself if it is not NULL.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for NULL, like all methods here.
    pub(crate) fn require(self) -> Result<Self> {
        if self.is_null() {
            Err(Code::INVALID_ARGUMENT)
        } else {
            Ok(self)
        }
    }

    /// Writes one value.
    pub(crate) fn set(self, value: T) -> Result<()> {
        let Self(to) = self.require()?;
        // SAFETY: not null, so by the type's invariant valid for writing one T; alignment is not assumed.
        unsafe { to.write_unaligned(value) };
        Ok(())
    }

    /// Reads one value.
    pub(crate) fn get(self) -> Result<T> {
        let Self(from) = self.require()?;
        // SAFETY: not null, so by the type's invariant valid for reading one T; every bit pattern is a T
        // (`Plain`).
        Ok(unsafe { from.read_unaligned() })
    }

    /// Writes `items` to the start of an array.
    ///
    /// `room` is the length of the array as the caller declared it.
    ///
    /// # Errors
    /// `INSUFFICIENT_SIZE` when the items do not fit; nothing is written then.
    pub(crate) fn fill(self, room: usize, items: &[T]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let Self(to) = self.require()?;
        if items.len() > room {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        // SAFETY: not null, so by the type's invariant an array of `room` T may be written, and there are no
        // more items than that; the items are ours and cannot overlap the caller's memory.
        unsafe {
            std::ptr::copy_nonoverlapping(
                items.as_ptr().cast::<u8>(),
                to.cast(),
                size_of_val(items),
            );
        }
        Ok(())
    }

    /// The element at `index` of an array, for lists that are answered entry by entry.
    ///
    /// The caller of this method keeps `index` below the count that the C caller passed.
    pub(crate) fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }

    /// The same memory as another struct, after its version said so.
    pub(crate) fn cast<U: Plain>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// What lies right behind this struct: the array of a struct that ends in one.
    pub(crate) fn after<U: Plain>(self) -> Out<U> {
        Out(self.0.wrapping_add(1).cast())
    }

    /// A pointer that the caller stored in a struct, under the same contract as a parameter.
    pub(crate) const fn stored(pointer: *mut T) -> Self {
        Self(pointer)
    }
}

impl Out<u8> {
    /// Writes `text` and a NUL into a buffer of `length` characters.
    ///
    /// # Errors
    /// `INSUFFICIENT_SIZE` when it does not fit; nothing is written then.
    pub(crate) fn text(self, length: u32, text: &str) -> Result<()> {
        self.require()?;
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        self.fill(length as usize, &bytes)
    }
}

impl<T: Plain> In<T> {
    /// Reads the value.
    pub(crate) fn get(self) -> Result<T> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so by the type's invariant valid for reading one T; every bit pattern is a T.
        Ok(unsafe { self.0.read_unaligned() })
    }
}

impl CText {
    /// A string that the caller stored in a struct, under the same contract as a parameter.
    pub(crate) const fn stored(pointer: *const c_char) -> Self {
        Self(pointer)
    }

    /// A copy of the text.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for NULL and for text that is not UTF-8 (no name of ours is).
    pub(crate) fn get(self) -> Result<String> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so by the type's invariant a NUL-terminated string that lives through the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str()
            .map(str::to_owned)
            .map_err(|_| Code::INVALID_ARGUMENT)
    }
}

/// The two-call idiom of process lists: the count goes in as room and comes out as length; too little room
/// (or no buffer) answers `INSUFFICIENT_SIZE` with the needed count, and an empty list is a success.
pub(crate) fn list_or_size<T: Plain>(count: Out<u32>, buffer: Out<T>, items: &[T]) -> Result<()> {
    let room = count.get()? as usize;
    count.set(length(items))?;
    if items.is_empty() {
        return Ok(());
    }
    if buffer.is_null() && room > 0 {
        return Err(Code::INVALID_ARGUMENT);
    }
    if items.len() > room {
        return Err(Code::INSUFFICIENT_SIZE);
    }
    buffer.fill(room, items)
}

/// The idiom of MIG placements: NULL asks for the count and succeeds.
pub(crate) fn list_or_count<T: Plain>(count: Out<u32>, buffer: Out<T>, items: &[T]) -> Result<()> {
    count.require()?;
    if buffer.is_null() {
        return count.set(length(items));
    }
    let room = count.get()? as usize;
    count.set(length(items))?;
    buffer.fill(room, items)
}

/// A length as C counts it.
pub(crate) fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

/// A text as a fixed, NUL-terminated array; longer text is cut.
pub(crate) fn text_array<const N: usize>(text: &str) -> [u8; N] {
    let mut array = [0; N];
    let length = text.len().min(N - 1);
    array[..length].copy_from_slice(&text.as_bytes()[..length]);
    array
}
